// From data to pixels, and numbers to text.
function scale(low, high, from, to) {
  const span = high - low || 1;
  const map = (value) => from + ((value - low) / span) * (to - from);
  map.invert = (pixel) => low + ((pixel - from) / (to - from || 1)) * span;
  map.low = low;
  map.high = high;
  return map;
}

function ticks(low, high, count) {
  const raw = (high - low) / Math.max(1, count) || 1;
  const power = 10 ** Math.floor(Math.log10(raw));
  const step = power * ([1, 2, 5, 10].find((part) => part * power >= raw) || 10);
  const found = [];
  for (let i = Math.ceil(low / step - 1e-9); i * step <= high + 1e-9 * step; i++) {
    found.push(i * step);
  }
  return found;
}

function text(value, digits = 3) {
  if (value === null || value === undefined || Number.isNaN(value)) return "–";
  const size = Math.abs(value);
  if (size >= 1000 || Number.isInteger(value)) return value.toFixed(0);
  return Number(value.toPrecision(digits)).toString().replace("-", "−");
}

const percent = (value) => (Number.isFinite(value) ? `${Math.round(100 * value)}%`.replace("-", "−") : "–");

function extent(lists, least = null) {
  let low = Infinity;
  let high = -Infinity;
  for (const list of lists) {
    for (const value of list) {
      if (value < low) low = value;
      if (value > high) high = value;
    }
  }
  if (!(low <= high)) return [0, 1];
  if (least !== null) low = Math.min(low, least);
  const slack = (high - low || Math.abs(high) || 1) * 0.05;
  return [least !== null && low === least ? low : low - slack, high + slack];
}

function mean(values) {
  const known = Array.from(values).filter((value) => Number.isFinite(value));
  return known.length ? known.reduce((a, b) => a + b, 0) / known.length : NaN;
}

function quantile(values, share) {
  const known = Array.from(values).filter((value) => Number.isFinite(value)).sort((a, b) => a - b);
  if (!known.length) return NaN;
  const place = share * (known.length - 1);
  const below = Math.floor(place);
  const above = Math.min(known.length - 1, below + 1);
  return known[below] + (place - below) * (known[above] - known[below]);
}

// Index of the last value that is at most `wanted`, at least 0; values rise.
function lastBefore(values, wanted) {
  let low = 0;
  let high = values.length - 1;
  while (low < high) {
    const middle = (low + high + 1) >> 1;
    if (values[middle] <= wanted + 1e-9) low = middle;
    else high = middle - 1;
  }
  return low;
}

function nearest(values, wanted) {
  const before = lastBefore(values, wanted);
  const after = Math.min(values.length - 1, before + 1);
  return Math.abs(values[after] - wanted) < Math.abs(values[before] - wanted) ? after : before;
}
