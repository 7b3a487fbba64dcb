// One tooltip for all plots, read out as well; and what makes a plot answer pointer and keys.
const tooltip = document.getElementById("tooltip");

function showTooltip(anchor, head, rows) {
  tooltip.replaceChildren(
    el("strong", {}, head),
    ...rows.map(([name, value, kind]) =>
      el("div", {}, kind ? el("i", { class: `swatch ${kind}` }) : null, `${name}: ${value}`)));
  tooltip.hidden = false;
  const box = tooltip.getBoundingClientRect();
  const room = document.documentElement;
  const left = anchor.x + 14 + box.width > room.clientWidth ? anchor.x - 14 - box.width : anchor.x + 14;
  tooltip.style.left = `${Math.max(4, left)}px`;
  tooltip.style.top = `${Math.max(4, Math.min(anchor.y + 12, room.clientHeight - box.height - 4))}px`;
}

const hideTooltip = () => { tooltip.hidden = true; };

// `plot`: {pick(x, y) -> item or null, move(item, dx, dy) -> item, show(item, anchor), select(item),
// leave()}; x, y in pixels of `node`.
function interactive(node, plot) {
  let current = null;
  const at = (event) => {
    const box = node.getBoundingClientRect();
    return plot.pick(event.clientX - box.left, event.clientY - box.top);
  };
  const show = (item, anchor) => {
    current = item;
    if (item === null) leave();
    else plot.show(item, anchor);
  };
  const leave = () => { hideTooltip(); plot.leave(); };
  node.addEventListener("pointermove", (event) => show(at(event), { x: event.clientX, y: event.clientY }));
  node.addEventListener("pointerleave", leave);
  node.addEventListener("blur", leave);
  node.addEventListener("click", (event) => {
    const item = at(event);
    if (item !== null && plot.select) plot.select(item);
  });
  node.addEventListener("keydown", (event) => {
    const moves = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };
    if (event.key === "Escape") return leave();
    if (event.key === "Enter" && current !== null && plot.select) return plot.select(current);
    if (!(event.key in moves) || event.shiftKey || event.ctrlKey || event.altKey || event.metaKey) return;
    const item = plot.move(current, ...moves[event.key]);
    if (item === undefined) return;
    event.preventDefault();
    event.stopPropagation();
    const box = node.getBoundingClientRect();
    const place = plot.place ? plot.place(item) : { x: box.width / 2, y: box.height / 2 };
    show(item, { x: box.left + place.x, y: box.top + place.y });
  });
  node.addEventListener("focus", () => { current = null; });
}

// Calls draw(width) now that the node is in the page, and whenever its width changes.
function responsive(node, draw) {
  let last = 0;
  new ResizeObserver(([entry]) => {
    const width = Math.floor(entry.contentRect.width);
    if (width > 0 && width !== last) {
      last = width;
      draw(width);
    }
  }).observe(node);
}
