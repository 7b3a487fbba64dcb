// Rows of horizontal marks: {title, unit, rows: [{label, marks: [{kind, name, low, high, mid, note}]}],
// domain, zero, asPercent}. A mark is a dot with whiskers, or with `span` a bar from low to high.
const ROW_PX = 12;

function rowChart({ title, unit, rows, domain, least = null, asPercent = false, labelWidth = 130, limits = null }) {
  const marks = rows.flatMap((row) => row.marks);
  const ends = domain || extent([marks.flatMap((mark) => [mark.low, mark.high, mark.mid]).filter(Number.isFinite), [0]], least);
  const tall = rows.map((row) => ROW_PX * Math.max(1, row.marks.length) + 8);
  const height = tall.reduce((a, b) => a + b, 0) + 38;
  const node = svg("svg", { class: "plot", tabindex: 0, role: "img", "aria-label": `${title} [${unit}]`, height });
  const shown = (value) => (asPercent ? percent(value) : text(value));
  const places = [];
  let top = 6;
  rows.forEach((row, i) => {
    row.marks.forEach((mark, j) => places.push({ row, mark, y: top + 4 + ROW_PX * (j + 0.5), i }));
    row.top = top;
    top += tall[i];
  });
  let x = scale(0, 1, 0, 1);
  const draw = (width) => {
    x = scale(...ends, labelWidth, width - 20);
    const grid = ticks(...ends, (width - labelWidth) / 70).flatMap((value) => [
      svg("line", { class: Math.abs(value) < 1e-12 ? "axis" : "gridline", x1: x(value), x2: x(value), y1: 2, y2: top }),
      svg("text", { class: "tick", x: x(value), y: top + 14, "text-anchor": "middle" }, shown(value))]);
    node.replaceChildren(
      ...(limits ? [svg("rect", { class: "limits", x: x(limits[0]), width: x(limits[1]) - x(limits[0]), y: 2, height: top - 2 })] : []),
      ...grid,
      ...rows.map((row, i) => svg("text", { class: "tick", x: labelWidth - 8, y: row.top + tall[i] / 2, "text-anchor": "end", "dominant-baseline": "central" }, row.label)),
      ...places.flatMap(({ mark, y }) => drawMark(mark, y)),
      svg("text", { class: "label", x: width - 20, y: height - 2, "text-anchor": "end" }, unit));
  };
  const drawMark = (mark, y) => {
    if (![mark.low, mark.high].every(Number.isFinite)) return [];
    const [left, right] = [x(mark.low), x(mark.high)];
    if (mark.span) {
      return [svg("rect", { class: `bar ${mark.kind}`, x: left, width: Math.max(2, right - left), y: y - 4, height: 8 })];
    }
    return [
      svg("line", { class: `whisker ${mark.kind}`, x1: left, x2: right, y1: y, y2: y }),
      svg("circle", { class: `dot ${mark.kind}`, cx: x(mark.mid), cy: y, r: 4 })];
  };
  interactive(node, {
    pick: (_, py) => {
      const found = places.filter(({ y }) => Math.abs(y - py) <= ROW_PX / 2 + 1);
      return found.length ? places.indexOf(found[0]) : null;
    },
    move: (item, dx, dy) => (dy ? Math.max(0, Math.min(places.length - 1, item === null ? 0 : item + dy)) : undefined),
    place: (item) => ({ x: labelWidth, y: places[item].y }),
    show: (item, anchor) => {
      const { row, mark } = places[item];
      const range = `${shown(mark.low)} to ${shown(mark.high)}`;
      showTooltip(anchor, row.label, [[mark.name, mark.note || (mark.span ? range : `${shown(mark.mid)} (${range}) ${asPercent ? "" : unit}`), mark.kind]]);
    },
    leave: () => {},
  });
  const figure = el("figure", {}, el("figcaption", {}, title), node);
  responsive(figure, draw);
  return { node: figure };
}

// Upright bars over counted columns, grouped by series: {title, unit, xLabel, series: [{name, kind, values}]}.
function columnChart({ title, unit, xLabel, height = 150, select }) {
  const node = svg("svg", { class: "plot", tabindex: 0, role: "img", "aria-label": `${title} [${unit}]`, height });
  let series = [];
  let chosen = -1;
  let width = 0;
  let x = scale(0, 1, 0, 1);
  const count = () => Math.max(1, ...series.map((one) => one.values.length));
  const draw = () => {
    if (!width) return;
    x = scale(0, count(), MARGIN.left, width - MARGIN.right);
    const y = scale(0, Math.max(1, ...series.flatMap((one) => one.values)) * 1.05, height - MARGIN.bottom, MARGIN.top);
    const wide = (x(1) - x(0)) * 0.8 / Math.max(1, series.length);
    const every = Math.max(1, Math.ceil(count() / ((width - MARGIN.left) / 28)));
    const numbers = Array.from({ length: count() }, (_, i) => i % every ? null : svg("text", {
      class: "tick", x: x(i + 0.5), y: height - MARGIN.bottom + 14, "text-anchor": "middle" }, i + 1)).filter(Boolean);
    node.replaceChildren(
      ...axes(width, height, scale(2, 1, 0, 1), y, xLabel), ...numbers,
      ...series.flatMap((one, k) => one.values.map((value, i) => svg("rect", {
        class: `bar ${one.kind}${i === chosen ? " chosen" : ""}`, x: x(i + 0.1) + k * wide, width: Math.max(1, wide - 1),
        y: y(value), height: Math.max(0, y(0) - y(value)),
      }))));
  };
  interactive(node, {
    pick: (px) => (px < MARGIN.left ? null : Math.max(0, Math.min(count() - 1, Math.floor(x.invert(px))))),
    move: (item, dx) => {
      if (!dx) return undefined;
      const next = Math.max(0, Math.min(count() - 1, (item === null ? chosen : item) + dx));
      if (select) select(next);
      return next;
    },
    place: (item) => ({ x: x(item + 0.5), y: MARGIN.top }),
    show: (item, anchor) => showTooltip(anchor, `${title}, ${xLabel} ${item + 1}`,
      series.map((one) => [one.name, `${text(one.values[item])} ${unit}`, one.kind])),
    select,
    leave: () => {},
  });
  const figure = el("figure", {}, el("figcaption", {}, `${title} [${unit}]`), node);
  responsive(figure, (found) => { width = found; draw(); });
  return { node: figure, set: (values, at) => { series = values; chosen = at; draw(); } };
}
