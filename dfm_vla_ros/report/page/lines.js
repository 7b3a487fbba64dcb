// Lines over a common x: {title, unit, xLabel, height, series, bands, xDomain, yDomain, select}.
// A series is {name, kind (class), xs, ys, faint, dots}; bands are {kind, xs, low, high}.
const MARGIN = { top: 8, right: 10, bottom: 36, left: 48 };

function linePath(xs, ys, x, y) {
  let path = "";
  let drawing = false;
  for (let i = 0; i < xs.length; i++) {
    if (!Number.isFinite(ys[i])) { drawing = false; continue; }
    path += `${drawing ? "L" : "M"}${x(xs[i]).toFixed(1)} ${y(ys[i]).toFixed(1)}`;
    drawing = true;
  }
  return path;
}

function axes(width, height, x, y, xLabel) {
  const bottom = height - MARGIN.bottom;
  const parts = ticks(y.low, y.high, Math.max(2, (bottom - MARGIN.top) / 34)).flatMap((value) => [
    svg("line", { class: "gridline", x1: MARGIN.left, x2: width - MARGIN.right, y1: y(value), y2: y(value) }),
    svg("text", { class: "tick", x: MARGIN.left - 6, y: y(value) + 4, "text-anchor": "end" }, text(value)),
  ]);
  for (const value of ticks(x.low, x.high, (width - MARGIN.left) / 70)) {
    parts.push(svg("text", { class: "tick", x: x(value), y: bottom + 14, "text-anchor": "middle" }, text(value)));
  }
  parts.push(
    svg("line", { class: "axis", x1: MARGIN.left, x2: width - MARGIN.right, y1: bottom, y2: bottom }),
    svg("text", { class: "label", x: width - MARGIN.right, y: height - 2, "text-anchor": "end" }, xLabel));
  return parts;
}

function lineChart(options) {
  const { title, unit, xLabel, series, bands = [], height = 180 } = options;
  const known = series.filter((one) => !one.faint);
  const xDomain = options.xDomain || extent(series.map((one) => one.xs));
  const yDomain = options.yDomain ||
    extent([...series.map((one) => one.ys), ...bands.flatMap((band) => [band.low, band.high])], options.least ?? null);
  const node = svg("svg", { class: "plot", tabindex: 0, role: "img", "aria-label": `${title} [${unit}]`, height });
  const hair = svg("line", { class: "hair", visibility: "hidden" });
  const mark = svg("line", { class: "cursor", visibility: "hidden" });
  const overlay = svg("g", { class: "overlay" });
  let x = scale(0, 1, 0, 1);
  let y = x;
  let marked = null;
  let overlaid = [];

  const draw = (width) => {
    x = scale(...xDomain, MARGIN.left, width - MARGIN.right);
    y = scale(...yDomain, height - MARGIN.bottom, MARGIN.top);
    node.replaceChildren(
      ...axes(width, height, x, y, xLabel),
      ...bands.map((band) => svg("path", {
        class: `band ${band.kind}`,
        d: linePath([...band.xs, ...[...band.xs].reverse()], [...band.high, ...[...band.low].reverse()], x, y) + "Z",
      })),
      ...series.map((one) => svg("path", {
        class: `line ${one.kind}${one.faint ? " faint" : ""}`, d: linePath(one.xs, one.ys, x, y),
      })),
      ...series.filter((one) => one.dots).flatMap((one) => dots(one)), mark, overlay, hair);
    drawOverlay();
    setCursor(marked);
  };
  const dots = (one) => Array.from(one.xs, (value, i) => Number.isFinite(one.ys[i]) ? svg("circle", {
    class: `dot ${one.kind}${one.flags && one.flags[i] ? " flagged" : ""}`, cx: x(value), cy: y(one.ys[i]), r: one.flags && one.flags[i] ? 5 : 2.5,
  }) : null).filter(Boolean);
  const upright = (line, value) => {
    const inside = value !== null && value >= x.low && value <= x.high;
    fill(line, { x1: x(value || 0), x2: x(value || 0), y1: MARGIN.top, y2: height - MARGIN.bottom }, []);
    line.setAttribute("visibility", inside ? "visible" : "hidden");
  };
  const setCursor = (value) => {
    marked = value;
    upright(mark, value);
    // Read out what the keys scrub to.
    if (value !== null && document.activeElement === node) show(value, placeOf(value));
  };
  const placeOf = (value) => {
    const box = node.getBoundingClientRect();
    return { x: box.left + x(value), y: box.top + MARGIN.top };
  };
  const drawOverlay = () => overlay.replaceChildren(...overlaid.flatMap((one) => [
    svg("path", { class: `line ${one.kind} strong`, d: linePath(one.xs, one.ys, x, y) }), ...dots({ ...one, dots: true })]));
  const setOverlay = (lines) => { overlaid = lines; drawOverlay(); };
  const valueAt = (one, value) => one.ys[nearest(one.xs, value)];

  const show = (value, anchor) => {
    upright(hair, value);
    showTooltip(anchor, `${title}, ${xLabel} ${text(value, 4)}`, [...known, ...overlaid]
      .filter((one) => one.xs.length)
      .map((one) => [one.name, `${text(valueAt(one, value))} ${unit}`, one.kind]));
  };

  const steps = known.length ? known[0].xs : [];
  interactive(node, {
    pick: (px) => (px < MARGIN.left || !steps.length ? null : steps[nearest(steps, x.invert(px))]),
    move: options.scrubs ? () => undefined : (value, dx) => {
      if (!dx || !steps.length) return undefined;
      const place = value === null ? 0 : nearest(steps, value) + dx;
      return steps[Math.max(0, Math.min(steps.length - 1, place))];
    },
    place: (value) => ({ x: x(value), y: MARGIN.top }),
    show,
    select: options.select,
    leave: () => hair.setAttribute("visibility", "hidden"),
  });
  const figure = el("figure", {}, el("figcaption", {}, `${title} [${unit}]`), node);
  responsive(figure, draw);
  return { node: figure, setCursor, setOverlay };
}
