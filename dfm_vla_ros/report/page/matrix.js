// A grid of coloured cells on a canvas: {title, rows, columns, height, cell(r, c) -> 0..1 or NaN,
// marked(r, c), describe(r, c) -> [head, rows], select(r, c), rowLabel, columnLabel}.
function mix(low, high, share) {
  return low.map((part, i) => Math.round(part + (high[i] - part) * share));
}

const rgb = (hex) => [1, 3, 5].map((i) => parseInt(hex.slice(i, i + 2), 16));

function matrix(options) {
  const { title, height = 220, select } = options;
  const canvas = el("canvas", { tabindex: 0, role: "img", "aria-label": title, height });
  const frame = el("div", { class: "rowframe" });
  let width = 0;
  let chosen = -1;
  let spot = null;
  const gutter = options.labels ? 120 : 0;
  const size = () => [options.rows(), options.columns()];

  const draw = () => {
    if (!width) return;
    const [rows, columns] = size();
    const dense = window.devicePixelRatio || 1;
    canvas.width = width * dense;
    canvas.height = height * dense;
    const pen = canvas.getContext("2d");
    pen.scale(dense, dense);
    const [low, high] = [rgb(colour("--heat0")), rgb(colour("--heat1"))];
    const [missing, ink] = [colour("--surface"), colour("--mark")];
    const [w, h] = [(width - gutter) / columns, height / rows];
    labelRows(pen, h);
    pen.translate(gutter, 0);
    const gap = w > 6 ? 1 : 0;
    for (let r = 0; r < rows; r++) {
      for (let c = 0; c < columns; c++) {
        const value = options.cell(r, c);
        pen.fillStyle = Number.isFinite(value) ? `rgb(${mix(low, high, Math.max(0, Math.min(1, value)))})` : missing;
        pen.fillRect(c * w, r * h, w - gap + (gap ? 0 : 0.5), h - 1);
        if (options.marked && options.marked(r, c)) {
          pen.fillStyle = ink;
          pen.fillRect(c * w, (r + 1) * h - 3, Math.max(1, w - gap), 2);
        }
      }
    }
    if (spot) {
      pen.strokeStyle = colour("--focus");
      pen.lineWidth = 2;
      pen.strokeRect(spot[1] * w + 1, spot[0] * h + 1, Math.max(2, w - 2), h - 2);
    }
    frame.hidden = chosen < 0 || chosen >= rows;
    frame.style.top = `${chosen * h}px`;
    frame.style.height = `${h}px`;
  };
  const labelRows = (pen, h) => (options.labels || []).forEach((label, r) => {
    pen.fillStyle = colour("--soft");
    pen.font = "11px system-ui, sans-serif";
    pen.textAlign = "right";
    pen.fillText(label, gutter - 8, (r + 0.5) * h + 4);
  });
  const bound = (value, count) => Math.max(0, Math.min(count - 1, value));
  interactive(canvas, {
    pick: (px, py) => {
      const [rows, columns] = size();
      return [bound(Math.floor(py / height * rows), rows), bound(Math.floor((px - gutter) / (width - gutter) * columns), columns)];
    },
    move: (item, dx, dy) => {
      const [rows, columns] = size();
      const from = item || [Math.max(0, chosen), dx > 0 ? -1 : 0];
      const next = [bound(from[0] + dy, rows), bound(from[1] + dx, columns)];
      if (dy && select) select(...next);
      return next;
    },
    place: (item) => ({ x: gutter + (item[1] + 1) * (width - gutter) / size()[1], y: (item[0] + 0.5) * height / size()[0] }),
    show: (item, anchor) => { spot = item; draw(); showTooltip(anchor, ...options.describe(...item)); },
    select: select ? (item) => select(...item) : null,
    leave: () => { spot = null; draw(); },
  });
  themeWatchers.push(draw);
  const figure = el("figure", { class: "matrix" }, el("figcaption", {}, title),
    el("div", { class: "canvas" }, canvas, frame), legend(options.legend));
  responsive(figure.querySelector(".canvas"), (found) => { width = found; draw(); });
  return { node: figure, draw, choose: (row) => { chosen = row; draw(); } };
}

function legend(ends) {
  if (!ends) return null;
  return el("p", { class: "legend" }, ends[0], el("i", { class: "ramp" }), ends[1],
    ends[2] ? [el("i", { class: "underline" }), ends[2]] : null);
}
