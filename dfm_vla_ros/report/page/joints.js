// Predicted against recorded positions of each joint over time, at the cursor's chunk and step.
const runKind = (index) => `run${index % 4}`;
const kindsOf = (runs) => runs.map((run, i) => [runKind(i), run.name]);

function legendOf(pairs) {
  return el("p", { class: "legend" }, pairs.map(([kind, name]) => [el("i", { class: `swatch ${kind}` }), name]));
}

// The path that a chunk's tokens mean after a step; its targets where no paths were recorded.
function pathAt(chunk, step, joint) {
  const paths = chunk.refinement && chunk.refinement.paths;
  if (!paths) return chunk.targets.column(joint);
  return paths.row(Math.min(step, paths.length - 1)).column(joint);
}

// Joints that rest are drawn at rest: no less than this is spread over a plot.
const LEAST_RANGE = { rad: 0.05, m: 0.005 };

function widened([low, high], least) {
  const more = Math.max(0, least - (high - low)) / 2;
  return [low - more, high + more];
}

function jointChart(runs, joint, cursor) {
  const recorded = runs[0];
  const unit = recorded.units[joint];
  const series = [
    { name: "commanded", kind: "recorded", xs: recorded.times_s.data, ys: recorded.commanded.column(joint) },
    { name: "measured", kind: "measured", xs: recorded.times_s.data, ys: recorded.measured.column(joint) },
  ];
  runs.forEach((run, i) => {
    const { due_s: due, targets } = run.figures;
    const [xs, ys] = [[], []];
    for (let c = 0; c < run.chunks.length; c++) {
      for (let h = 0; h < due.shape[1]; h++) {
        xs.push(due.at(c, h));
        ys.push(targets.at(c, h, joint));
      }
      xs.push(NaN);
      ys.push(NaN);
    }
    series.push({ name: run.name, kind: runKind(i), xs, ys, faint: true });
  });
  const finite = series.map((one) => one.ys.filter(Number.isFinite));
  const chart = lineChart({
    title: recorded.joint_names[joint], unit, xLabel: "time [s]", height: 140, series,
    xDomain: [recorded.times_s.data[0], recorded.times_s.data[recorded.times_s.length - 1]],
    yDomain: widened(extent(finite), LEAST_RANGE[unit] || 0), scrubs: true, select: (time) => cursor.set({ time }),
  });
  cursor.watch(() => {
    chart.setCursor(cursor.time);
    chart.setOverlay(runs.flatMap((run, i) => {
      const chunk = cursor.chunkOf(run);
      if (!chunk) return [];
      const due = run.figures.due_s.row(run.chunks.indexOf(chunk));
      const ys = pathAt(chunk, cursor.step, joint);
      return [{ name: `${run.name}, this step`, kind: runKind(i), xs: due.data.subarray(0, ys.length), ys }];
    }));
  });
  return chart.node;
}

function jointSection(runs, cursor) {
  return section("Predicted against recorded",
    legendOf([["recorded", "commanded"], ["measured", "measured"], ...kindsOf(runs)]),
    note("Thin: what each chunk asked for; thick: the chunk at the refinement step of the scrubber. Click a moment to go there."),
    el("div", { class: "grid" }, runs[0].joint_names.map((_, joint) => jointChart(runs, joint, cursor))));
}

function errorSection(runs) {
  const horizon = Math.max(...runs.map((run) => run.figures.by_step.shape[1]));
  const steps = Array.from({ length: horizon }, (_, i) => i + 1);
  const byStep = (title, row, unit) => {
    const shown = runs.map((run, i) => ({ run, kind: runKind(i), part: run.figures.by_step.row(row) }))
      .filter(({ part }) => part.column(0).some(Number.isFinite));
    if (!shown.length) return null;
    return lineChart({
      title, unit, xLabel: "step of the chunk", least: 0,
      series: shown.map(({ run, kind, part }) => ({ name: run.name, kind, xs: steps, ys: part.column(0), dots: true })),
      bands: shown.map(({ kind, part }) => ({ kind, xs: steps, low: part.column(1), high: part.column(2) })),
    }).node;
  };
  const byJoint = rowChart({
    title: "Error by joint, in parts of what the joint moved", unit: "mean, to the 90th percentile", asPercent: true,
    rows: runs[0].joint_names.map((label, joint) => ({
      label, marks: runs.map((run, i) => {
        const [average, high, span] = [0, 1, 2].map((k) => run.figures.by_joint.at(joint, k));
        return {
          kind: runKind(i), name: run.name, low: 0, mid: average / span, high: high / span,
          note: `mean ${text(average)}, 90th percentile ${text(high)} of ${text(span)} ${run.units[joint]}`,
        };
      }),
    })),
  });
  return section("Errors", el("div", { class: "grid" },
    byStep("Error by step, arm joints", 0, "rad"), byStep("Error by step, grippers", 1, "m"), byJoint.node),
    note("|predicted − commanded| at the time a step is due; line: mean, band: 10th to 90th percentile."));
}

function trackingSection(run) {
  const indices = run.joint_names.map((_, i) => i);
  const offsets = (unit) => {
    const joints = indices.filter((joint) => run.units[joint] === unit && Number.isFinite(run.figures.offset.at(joint, 0)));
    if (!joints.length) return null;
    return rowChart({
      title: `Measured − commanded, ${unit === "m" ? "grippers" : "arm joints"}`, unit,
      rows: joints.map((joint) => ({
        label: run.joint_names[joint],
        marks: [{ kind: "recorded", name: "median (5th to 95th percentile)", mid: run.figures.offset.at(joint, 0), low: run.figures.offset.at(joint, 1), high: run.figures.offset.at(joint, 2) }],
      })),
    }).node;
  };
  const share = (joint, value) => run.lower && run.upper
    ? (value - run.lower.at(joint)) / (run.upper.at(joint) - run.lower.at(joint)) : value;
  const ranges = rowChart({
    title: run.lower ? "Range of each joint within its limits" : "Range of each joint", unit: run.lower ? "of the limits" : "rad, m",
    asPercent: Boolean(run.lower), limits: run.lower ? [0, 1] : null,
    rows: indices.map((joint) => ({
      label: run.joint_names[joint],
      marks: ["measured", "recorded", "run0"].map((kind, k) => {
        const [low, high] = [0, 1].map((end) => run.figures.ranges.at(joint, k, end));
        return {
          kind, name: ["measured", "commanded", "predicted"][k], span: true, low: share(joint, low), high: share(joint, high),
          note: `${text(low)} to ${text(high)} ${run.units[joint]}`,
        };
      }),
    })),
  });
  const { distance } = run.figures;
  const most = quantile(distance.data, 0.95) || 1;
  const nearestTo = indices.map((row) => indices.reduce((best, column) =>
    (distance.at(row, column) < distance.at(row, best) ? column : best), row));
  const follows = matrix({
    title: "Which command each measured joint follows", height: 15 * indices.length, labels: run.joint_names,
    rows: () => indices.length, columns: () => indices.length,
    cell: (r, c) => 1 - distance.at(r, c) / most,
    marked: (r, c) => nearestTo[r] === c,
    describe: (r, c) => [`measured ${run.joint_names[r]}`, [[`from command of ${run.joint_names[c]}`, text(distance.at(r, c))], ["nearest", run.joint_names[nearestTo[r]]]]],
    legend: ["far", "near", "nearest; in the right order all lie on the diagonal"],
  });
  return section(`Measured and commanded: ${run.name}`,
    note("A joint that is always off its command has another zero; a whole block of joints off the diagonal was read in another order; a range beyond the limits is in another unit or scale."),
    el("div", { class: "grid" }, el("div", {}, offsets("rad"), offsets("m"), follows.node),
      el("div", {}, ranges.node, legendOf([["measured", "measured"], ["recorded", "commanded"], ["run0", "predicted"]]))));
}
