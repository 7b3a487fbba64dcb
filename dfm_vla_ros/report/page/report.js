// Draws the plots of a report and moves all of them to one chunk and refinement step.
"use strict";

const byId = (id) => document.getElementById(id);
const all = (selector, root = document) => [...root.querySelectorAll(selector)];
const clamp = (value, low, high) => Math.max(low, Math.min(high, value));
const text = (value, digits = 3) => (value == null ? "–" : String(Number(value.toPrecision(digits))));
const ARROWS = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };
const [HEIGHT, redraws] = [170, []];

// The colour that a CSS variable has, for a canvas.
function colour(name) {
  byId("probe").style.color = `var(--${name})`;
  return getComputedStyle(byId("probe")).color;
}

const bytesOf = (base64) => Uint8Array.from(atob(base64), (letter) => letter.charCodeAt(0));

// Pictures and films are stored once, and shown wherever data-file names them.
const files = JSON.parse(byId("files").textContent);
function show(node, index) {
  const file = files[index];
  file.url ??= URL.createObjectURL(new Blob([bytesOf(file.data)], { type: file.kind }));
  node.src = file.url;
}

// Calls handle(right, down, shift) on arrow keys, which nothing else sees then if it returns true.
function onArrows(node, handle) {
  node.addEventListener("keydown", (event) => {
    const busy = event.target.closest("input, select, video, .scroll") || event.ctrlKey || event.altKey || event.metaKey;
    if (busy || !(event.key in ARROWS) || !handle(...ARROWS[event.key], event.shiftKey)) return;
    event.preventDefault();
    event.stopPropagation();
  });
}

// The chunk and the refinement step that the page shows.
class Cursor {
  constructor(runs) {
    this.runs = runs;
    this.times = runs[0].chunks.map((chunk) => chunk.time_s);
    this.chunk = 0;
    this.step = this.steps - 1;
    this.watchers = [];
  }

  get time() { return this.times[this.chunk]; }
  get steps() { return Math.max(1, ...this.runs.map((run) => this.chunkOf(run).trace?.kinds.length ?? 1)); }

  // The run's chunk at this time, or the last before.
  chunkOf(run) {
    return run.chunks.findLast((chunk) => chunk.time_s <= this.time + 1e-9) ?? run.chunks[0];
  }

  goTo(chunk, step = this.step === this.steps - 1 ? Infinity : this.step) {
    this.chunk = clamp(chunk, 0, this.times.length - 1);
    this.goToStep(step);
  }
  goToTime(time) { this.goTo(this.times.findLastIndex((one) => one <= time + 1e-9)); }
  goToStep(step) {
    this.step = clamp(step, 0, this.steps - 1);
    this.watchers.forEach((watcher) => watcher());
  }
  watch(watcher) {
    this.watchers.push(watcher);
    watcher();
  }
}

// What a plot shows of the present chunk of a run: [xs, ys].
function presentOf(chart, cursor, run) {
  const { trace, due_s: due, targets } = cursor.chunkOf(run);
  if (chart.joint === undefined) {
    const changes = (trace?.jumped ?? []).map((row) => row.reduce((a, b) => a + b, 0));
    return [changes.map((_, step) => step + 1), changes];
  }
  const path = trace?.paths ? trace.paths[Math.min(cursor.step, trace.paths.length - 1)] : targets;
  return [due, path.map((row) => row[chart.joint])];
}

function seriesOf(chart, one) {
  const middle = {
    label: one.name, kind: one.kind, stroke: () => colour(one.kind), width: one.strong ? 2.5 : 1.3,
    dash: one.dashed || one.kind === "run1" ? [6, 3] : [], paths: one.rings ? () => null : undefined,
    points: { show: Boolean(one.dots || one.rings), size: one.rings ? 11 : 5 },
    value: (_, value) => `${text(value)} ${chart.unit}`,
  };
  const edge = (label) => ({ ...middle, label: `${one.name}, ${label}`, width: 0.4, points: { show: false } });
  return one.low ? [middle, edge("90th percentile"), edge("10th percentile")] : [middle];
}

function axisOf(label) {
  const grid = { stroke: () => colour("grid"), width: 1 };
  const values = (_, splits) => splits.map((value) => text(value));
  return { label, values, grid, ticks: grid, stroke: () => colour("soft"), size: 42, labelSize: 16, font: "11px sans-serif", labelFont: "11px sans-serif" };
}

// Thin lines of all chunks, and a line at the cursor.
function drawBehind(plot, chart, cursor) {
  const { ctx: pen, bbox } = plot;
  const [x, y] = ["x", "y"].map((axis) => (value) => plot.valToPos(value, axis, true));
  const line = (kind, alpha, points) => {
    [pen.strokeStyle, pen.globalAlpha] = [colour(kind), alpha];
    pen.beginPath();
    points.forEach(([left, top], i) => pen[i ? "lineTo" : "moveTo"](left, top));
    pen.stroke();
  };
  pen.save();
  pen.beginPath();
  pen.rect(bbox.left, bbox.top, bbox.width, bbox.height);
  pen.clip();
  for (const run of chart.joint === undefined ? [] : cursor.runs) {
    for (const chunk of run.chunks) {
      line(run.kind, 0.35, chunk.targets.map((row, i) => [x(chunk.due_s[i]), y(row[chart.joint])]));
    }
  }
  const at = x(chart.marks === "step" ? cursor.step + 1 : cursor.time);
  line("focus", 1, [[at, bbox.top], [at, bbox.top + bbox.height]]);
  pen.restore();
}

// A chart is {title, unit, x_label, x, series, range, marks, joint}; a series {name, kind, y, low,
// high, dots, dashed, rings}. With marks "time" or "step" the plot has the cursor's line, and a
// click goes there; with a joint, or by step, it shows the present chunk of each run, too.
function drawChart(node, chart, cursor) {
  const present = chart.joint !== undefined || chart.marks === "step" ? cursor.runs : [];
  const series = [...chart.series, ...present.map((run) => ({ name: `${run.name}, this chunk`, kind: run.kind, strong: true, dots: true }))]
    .flatMap((one) => seriesOf(chart, one));
  const bands = series.flatMap(({ label, kind }, i) => (label.endsWith(", 90th percentile")
    ? [{ series: [i + 1, i + 2], fill: () => colour(kind).replace("(", "a(").replace(")", ", 0.15)") }] : []));
  const base = [chart.x, ...chart.series.flatMap((one) => (one.low ? [one.y, one.high, one.low] : [one.y]))];
  const values = () => uPlot.join([base, ...present.map((run) => presentOf(chart, cursor, run))]);
  const plot = new uPlot({
    title: chart.title, width: node.clientWidth, height: HEIGHT, bands,
    scales: { x: { time: false }, y: { range: chart.range ?? ((_, low, high) => [0, 1.05 * (high || 1)]) } },
    axes: [axisOf(chart.x_label), axisOf()],
    series: [{ label: chart.x_label, value: (_, value) => text(value, 4) }, ...series],
    legend: { markers: { stroke: (_, i) => (i ? `var(--${series[i - 1].kind})` : "transparent") } },
    cursor: { drag: { x: true, y: false } },
    hooks: { drawAxes: chart.marks ? [(self) => drawBehind(self, chart, cursor)] : [] },
  }, values(), node);
  new ResizeObserver(() => plot.setSize({ width: node.clientWidth, height: HEIGHT })).observe(node);
  redraws.push(() => plot.redraw());
  const readAt = (x) => plot.setCursor({ left: plot.valToPos(x, "x"), top: 1 });
  let index = -1;
  const readNext = (right, down, shift) => {
    if (!right || shift) return false;
    index = clamp(index + right, 0, chart.x.length - 1);
    readAt(chart.x[index]);
    return true;
  };
  if (!chart.marks) return onArrows(node, readNext);
  const go = (x) => (chart.marks === "time" ? cursor.goToTime(x) : cursor.goToStep(Math.round(x) - 1));
  plot.over.addEventListener("click", () => go(plot.posToVal(plot.cursor.left, "x")));
  return cursor.watchers.push(() => {
    plot.setData(values(), false);
    plot.redraw();
    if (document.activeElement === node) readAt(chart.marks === "time" ? cursor.time : cursor.step + 1);
  });
}

// How much colour each cell of a refinement has, 0 to 1.
function shades({ tokens, targets, confidence }, view) {
  const away = (token, other) => Math.log1p(Math.abs(token - other));
  const cells = tokens.map((row, r) => row.map((token, c) => {
    if (view === "confidence") return confidence[r][c];
    return away(token, view === "distance to the last token" ? tokens.at(-1)[c] : targets[r][c]);
  }));
  const most = Math.max(...cells.flat()) || 1;
  return cells.map((row) => row.map((value) => value / most));
}

function describe(run, { targets: steps, trace }, r, c) {
  const { kinds, times, tokens, targets, confidence, jumped, committed } = trace;
  const [joints, perStep] = [run.joints.length, tokens[0].length === run.joints.length * steps.length];
  const name = perStep ? `step ${Math.floor(c / joints) + 1}, ${run.joints[c % joints]}` : `token ${c + 1}`;
  return `${name}, refinement step ${r + 1} (${kinds[r]}, t = ${text(times[r])}): token ${tokens[r][c]}` +
    `${jumped[r][c] ? ", changed here" : ""}; prediction ${targets[r][c]} with confidence ` +
    `${text(confidence[r][c])}; last ${tokens.at(-1)[c]}${committed[c] ? "; held from the running chunk" : ""}`;
}

// The refinement of the present chunk: a row a step, a column a token.
function drawMatrix(figure, run, cursor) {
  const [canvas, frame, said] = ["canvas", ".rowframe", "output"].map((one) => figure.querySelector(one));
  let [trace, column] = [null, -1];
  const read = (r, c) => { said.textContent = describe(run, cursor.chunkOf(run), r, c); };
  const draw = () => {
    if (!trace) return;
    [canvas.width, canvas.height] = [4 * trace.tokens[0].length, 6 * trace.tokens.length];
    const pen = canvas.getContext("2d");
    const [none, full, changed] = ["heat0", "heat1", "changed"].map(colour);
    shades(trace, document.querySelector("[name=colour]:checked").value).forEach((row, r) => row.forEach((shade, c) => {
      for (const [fill, alpha, top] of [[none, 1, 0], [full, shade, 0], [changed, trace.jumped[r][c], 5]]) {
        [pen.fillStyle, pen.globalAlpha] = [fill, alpha];
        pen.fillRect(4 * c, 6 * r + top, 4, 6 - top);
      }
    }));
  };
  const cell = ({ offsetX: right, offsetY: down }) => [
    Math.floor(down / canvas.clientHeight * trace.tokens.length), Math.floor(right / canvas.clientWidth * trace.tokens[0].length)];
  canvas.addEventListener("pointermove", (event) => read(...cell(event)));
  canvas.addEventListener("click", (event) => cursor.goToStep(cell(event)[0]));
  onArrows(canvas, (right, down, shift) => {
    if (shift) return false;
    column = clamp(column + right, 0, trace.tokens[0].length - 1);
    cursor.goToStep(cursor.step + down);
    read(Math.min(cursor.step, trace.tokens.length - 1), column);
    return true;
  });
  cursor.watch(() => {
    const present = cursor.chunkOf(run).trace;
    figure.hidden = !present;
    if (!present) return;
    const changed = present !== trace;
    trace = present;
    if (changed) draw();
    const share = 100 / trace.tokens.length;
    [frame.style.top, frame.style.height] = [`${share * Math.min(cursor.step, trace.tokens.length - 1)}%`, `${share}%`];
  });
  all("[name=colour]").forEach((one) => one.addEventListener("change", draw));
  redraws.push(draw);
}

function followFilm(player, cursor) {
  const start = Number(player.dataset.start);
  player.addEventListener("timeupdate", () => player.paused || cursor.goToTime(start + player.currentTime));
  cursor.watch(() => {
    const at = cursor.time - start;
    if (player.paused && at >= 0 && at <= Number(player.dataset.length)) player.currentTime = at;
  });
}

function startScrubber(cursor) {
  const [chunk, step, play] = ["chunk", "step", "play"].map(byId);
  let timer = 0;
  chunk.addEventListener("input", () => cursor.goTo(Number(chunk.value)));
  step.addEventListener("input", () => cursor.goToStep(Number(step.value)));
  const advance = () => {
    if (cursor.step + 1 < cursor.steps) cursor.goToStep(cursor.step + 1);
    else if (cursor.chunk + 1 < cursor.times.length) cursor.goTo(cursor.chunk + 1, 0);
    else play.click();
  };
  play.addEventListener("click", () => {
    clearInterval(timer);
    timer = timer ? 0 : setInterval(advance, 90);
    play.textContent = timer ? "Pause" : "Play";
  });
  cursor.watch(() => {
    [chunk.max, step.max, chunk.value, step.value] = [cursor.times.length - 1, cursor.steps - 1, cursor.chunk, cursor.step];
    const { trace, text: said, pictures } = cursor.chunkOf(cursor.runs[0]);
    const at = Math.min(cursor.step, (trace?.kinds.length ?? 1) - 1);
    const flow = trace ? `, ${trace.kinds[at]} at t = ${text(trace.times[at])}` : "";
    chunk.ariaValueText = `chunk ${cursor.chunk + 1} at ${text(cursor.time, 4)} seconds`;
    byId("where").textContent = `chunk ${cursor.chunk + 1} of ${cursor.times.length}, ` +
      `${text(cursor.time, 4)} s; step ${cursor.step + 1} of ${cursor.steps}${flow}`;
    byId("said").textContent = said;
    all("#seen img").forEach((image) => show(image, pictures[image.dataset.camera]));
  });
  onArrows(document, (right, down, shift) => {
    if (right && shift) cursor.goToStep(cursor.step + right);
    else if (right) cursor.goTo(cursor.chunk + right);
    return right;
  });
}

// A table of episodes is sorted by a click on a head, and shows the episodes of one outcome.
function startEpisodes(box) {
  const [body] = all("tbody", box);
  const heads = all("th", box);
  heads.forEach((head, i) => head.addEventListener("click", () => {
    const way = head.ariaSort === "ascending" ? -1 : 1;
    heads.forEach((other) => { other.ariaSort = "none"; });
    head.ariaSort = way > 0 ? "ascending" : "descending";
    const value = (row) => Number(row.cells[i].textContent) || row.cells[i].textContent;
    body.append(...all("tr", body).sort((a, b) => way * ((value(a) > value(b)) - (value(a) < value(b)))));
  }));
  all("input", box).forEach((input) => input.addEventListener("change", () => {
    all("tr", body).forEach((row) => { row.hidden = !["all", row.className].includes(input.value); });
  }));
}

async function start() {
  all("[data-file]").forEach((node) => show(node, node.dataset.file));
  all(".episodes").forEach(startEpisodes);
  byId("theme").addEventListener("change", () => redraws.forEach((redraw) => redraw()));
  const packed = new Blob([bytesOf(byId("data").textContent)]).stream();
  const { charts, runs } = await new Response(packed.pipeThrough(new DecompressionStream("deflate"))).json();
  const cursor = runs.length ? new Cursor(runs) : null;
  all(".chart").forEach((node) => drawChart(node, charts[node.dataset.chart], cursor));
  if (cursor) {
    all(".matrix").forEach((figure) => drawMatrix(figure, runs[figure.dataset.run], cursor));
    all("video[data-start]").forEach((player) => followFilm(player, cursor));
    all("[data-time]").forEach((button) => button.addEventListener("click", () => cursor.goToTime(Number(button.dataset.time))));
    startScrubber(cursor);
  }
  document.documentElement.dataset.ready = "yes";
}

start();
