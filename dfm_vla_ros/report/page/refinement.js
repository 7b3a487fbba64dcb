// How the tokens of the cursor's chunk came about: heat map, changes per step.
const VIEWS = {
  confidence: { of: (trace, r, c) => trace.confidence.at(r, c) / trace.surest, legend: (trace) => ["0", text(trace.surest)] },
  "distance to the last token": {
    of: (trace, r, c) => Math.log1p(Math.abs(trace.tokens.at(r, c) - last(trace, c))) / Math.log1p(trace.farthest),
    legend: (trace) => ["none", `${trace.farthest}, logarithmic`],
  },
  "distance to the prediction": {
    of: (trace, r, c) => Math.log1p(Math.abs(trace.tokens.at(r, c) - trace.targets.at(r, c))) / Math.log1p(trace.farthest),
    legend: (trace) => ["none", `${trace.farthest}, logarithmic`],
  },
};
const last = (trace, c) => trace.tokens.at(trace.tokens.length - 1, c);

function tokenName(run, chunk, column) {
  const [horizon, joints] = chunk.targets.shape;
  if (chunk.refinement.tokens.shape[1] !== horizon * joints) return `token ${column + 1}`;
  return `step ${Math.floor(column / joints) + 1}, ${run.joint_names[column % joints]}`;
}

function measureTrace(trace) {
  if (trace.farthest) return;
  trace.farthest = 1;
  trace.surest = trace.confidence.data.reduce((a, b) => Math.max(a, b), 0) || 1;
  for (let r = 0; r < trace.tokens.length; r++) {
    for (let c = 0; c < trace.tokens.shape[1]; c++) {
      trace.farthest = Math.max(trace.farthest, Math.abs(trace.tokens.at(r, c) - last(trace, c)));
    }
  }
}

function heatMap(run, cursor, view) {
  const chunk = () => cursor.chunkOf(run);
  const trace = () => chunk() && chunk().refinement;
  const map = matrix({
    title: `Refinement: ${run.name}`, height: 240,
    rows: () => (trace() ? trace().kinds.length : 1),
    columns: () => (trace() ? trace().tokens.shape[1] : 1),
    cell: (r, c) => (trace() ? VIEWS[view.name].of(trace(), r, c) : NaN),
    marked: (r, c) => Boolean(trace() && trace().jumped.at(r, c)),
    describe: (r, c) => {
      const seen = trace();
      if (!seen) return ["no refinement was recorded", []];
      return [`${tokenName(run, chunk(), c)}`, [
        ["refinement step", `${r + 1}, ${seen.kinds[r]}, t = ${text(seen.times.at(r))}`],
        ["token", `${seen.tokens.at(r, c)}${seen.jumped.at(r, c) ? ", changed here" : ""}`],
        ["prediction", `${seen.targets.at(r, c)} with confidence ${text(seen.confidence.at(r, c))}`],
        ["last", last(seen, c)],
        ["held from the running chunk", seen.committed.at(c) ? "yes" : "no"]]];
    },
    select: (r) => cursor.set({ step: r }),
  });
  const ends = el("p", { class: "legend" });
  map.node.append(ends, note("Down: refinement steps; right: tokens, step by step of the chunk. Arrow keys move a cell."));
  cursor.watch(() => {
    if (trace()) measureTrace(trace());
    const [low, high] = trace() ? VIEWS[view.name].legend(trace()) : ["", "nothing was recorded"];
    ends.replaceChildren(`${view.name}: ${low}`, el("i", { class: "ramp" }), high, el("i", { class: "underline" }), "changed in this step");
    map.choose(Math.min(cursor.step, trace() ? trace().kinds.length - 1 : 0));
  });
  return map.node;
}

function changesChart(runs, cursor) {
  const chart = columnChart({
    title: "Token changes per step", unit: "tokens", xLabel: "refinement step", select: (step) => cursor.set({ step }),
  });
  cursor.watch(() => chart.set(runs.map((run, i) => {
    const { refinement } = cursor.chunkOf(run) || {};
    if (!refinement) return { name: run.name, kind: runKind(i), values: [] };
    const values = refinement.kinds.map((_, r) => refinement.jumped.row(r).data.reduce((a, b) => a + b, 0));
    return { name: run.name, kind: runKind(i), values };
  }), cursor.step));
  return chart.node;
}

// Over all chunks: how many tokens change in each step.
function usualChanges(runs) {
  const series = runs.flatMap((run, i) => {
    const traces = run.chunks.map((chunk) => chunk.refinement).filter(Boolean);
    if (!traces.length) return [];
    const steps = Math.max(...traces.map((trace) => trace.kinds.length));
    const ys = Array.from({ length: steps }, (_, r) => mean(traces.filter((trace) => r < trace.kinds.length)
      .map((trace) => trace.jumped.row(r).data.reduce((a, b) => a + b, 0))));
    return [{ name: run.name, kind: runKind(i), xs: ys.map((_, r) => r + 1), ys, dots: true }];
  });
  if (!series.length) return null;
  return lineChart({ title: "Token changes per step, mean of all chunks", unit: "tokens", xLabel: "refinement step", series, least: 0, height: 150 }).node;
}

function refinementSection(runs, cursor) {
  if (!runs.some((run) => run.chunks.some((chunk) => chunk.refinement))) return null;
  const view = { name: "confidence" };
  return section("Refinement",
    choice("Colour", Object.keys(VIEWS), view.name, (name) => { view.name = name; cursor.tell(); }),
    el("div", { class: "pair" }, runs.map((run) => heatMap(run, cursor, view))),
    el("div", { class: "grid" }, changesChart(runs, cursor), usualChanges(runs)));
}
