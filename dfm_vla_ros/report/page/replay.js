// Sections of replays: one checkpoint, or several on one recording side by side.
function overview(runs) {
  const latency = (run) => run.chunks.map((chunk) => 1000 * chunk.inference_s);
  const steps = (run, row) => mean(run.figures.by_step.row(row).column(0));
  const rows = [
    ["Chunks", (run) => run.chunks.length],
    ["Refused", (run) => run.chunks.filter((chunk) => chunk.refused).length],
    ["Error of arm joints, mean", (run) => `${text(steps(run, 0))} rad`],
    ["Error of grippers, mean", (run) => `${text(steps(run, 1))} m`],
    ["Inference, median", (run) => `${text(quantile(latency(run), 0.5))} ms`],
    ["Inference, 95th percentile", (run) => `${text(quantile(latency(run), 0.95))} ms`],
    ["Gaps in the recording", (run) => run.gaps.length],
  ];
  const names = [...new Set(runs.flatMap((run) => Object.keys(run.facts)))];
  return section("Overview",
    table(["", ...runs.map((run) => run.name)], [
      ...rows.map(([name, of]) => [name, ...runs.map((run) => String(of(run)))]),
      ...names.map((name) => [name, ...runs.map((run) => run.facts[name] || "–")])], "Figures of each run"),
    runs.length > 1 ? legendOf(kindsOf(runs)) : null,
    ...runs.map((run) => el("div", { class: "remarks" },
      el("h3", {}, runs.length > 1 ? `What stands out: ${run.name}` : "What stands out"),
      run.remarks.length ? el("ul", {}, run.remarks.map((remark) => el("li", {}, remark))) : note("Nothing."))));
}

function latencySection(runs, cursor) {
  if (!runs.some((run) => run.chunks.some((chunk) => chunk.inference_s > 0))) return null;
  const chart = lineChart({
    title: "Time of a policy call", unit: "ms", xLabel: "time [s]", least: 0,
    series: runs.map((run, i) => ({
      name: run.name, kind: runKind(i), xs: run.chunks.map((chunk) => chunk.time_s), dots: true,
      ys: run.chunks.map((chunk) => 1000 * chunk.inference_s), flags: run.chunks.map((chunk) => Boolean(chunk.refused)),
    })),
    scrubs: true, select: (time) => cursor.set({ time }),
  });
  cursor.watch(() => chart.setCursor(cursor.time));
  return section("Latency", chart.node, note("Ringed: the executor refused the chunk."));
}

function gapSection(run) {
  if (!run.sources.length && !run.gaps.length) return null;
  const names = [...new Set([...run.sources.map((source) => source.name), ...run.gaps.map((gap) => gap.source)])];
  const span = [run.times_s.data[0] || 0, run.times_s.data[run.times_s.length - 1] || 1];
  const gaps = run.gaps.length ? rowChart({
    title: "Gaps in the recording", unit: "s", domain: span, labelWidth: 220,
    rows: names.filter((name) => run.gaps.some((gap) => gap.source === name)).map((name) => ({
      label: name, marks: run.gaps.filter((gap) => gap.source === name).map((gap) => ({
        kind: "alert", span: true, low: gap.start_s, high: gap.end_s, name: gap.reason || "silent",
        note: `${text(gap.end_s - gap.start_s)} s from ${text(gap.start_s, 4)} s on`,
      })),
    })),
  }).node : note("No gaps.");
  return section(`The recording: ${run.name}`, gaps, run.sources.length ? table(
    ["Topic", "messages", "rate [Hz]", "longest gap [s]", "remark"],
    run.sources.map((source) => [source.name, String(source.messages), text(source.rate_hz), text(source.longest_gap_s), source.remark]),
    "Topics of the recording") : null);
}

function replaySections(runs) {
  const shown = [overview(runs)];
  const moving = runs.filter((run) => run.chunks.length);
  if (!moving.length) return [...shown, ...runs.map(gapSection)];
  const cursor = new Cursor(moving);
  const same = runs.every((run) => run.times_s.data === runs[0].times_s.data || run.times_s.length === runs[0].times_s.length);
  return [...shown,
    seenSection(moving, cursor),
    refinementSection(moving, cursor),
    jointSection(moving, cursor),
    same ? null : note("The runs are not of one recording: black and grey belong to the first."),
    errorSection(moving),
    latencySection(moving, cursor),
    ...moving.map((run) => worstSection(run, cursor)),
    filmSection(moving, cursor),
    ...onceEach(runs, (run) => run.comparison.difference, cameraSection),
    ...onceEach(runs, (run) => run.figures.distance, trackingSection),
    ...onceEach(runs, (run) => run.gaps, gapSection),
    scrubBar(cursor)];
}

// Runs on one recording share what was measured: shown once, where the data are equal.
function onceEach(runs, part, make) {
  const seen = new Set();
  return runs.filter((run) => {
    const key = JSON.stringify(part(run), (_, value) => (ArrayBuffer.isView(value) ? Array.from(value) : value));
    return !seen.has(key) && seen.add(key);
  }).map(make);
}
