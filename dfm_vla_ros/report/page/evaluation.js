// Sections of evaluations: success by task, times, episodes, films.
function successSection(runs) {
  const tasks = [...new Set(runs.flatMap((run) => run.tasks.map((row) => row.task)))];
  const chart = rowChart({
    title: "Success by task", unit: "rate with its 95% Wilson interval", domain: [0, 1], asPercent: true,
    rows: tasks.map((task) => ({
      label: task, marks: runs.flatMap((run, i) => run.tasks.filter((row) => row.task === task).map((row) => ({
        kind: runKind(i), name: run.name, mid: row.episodes ? row.successes / row.episodes : NaN, low: row.low, high: row.high,
        note: `${row.successes} of ${row.episodes}, ${percent(row.low)} to ${percent(row.high)}`,
      }))),
    })),
  });
  const several = runs.length > 1;
  return section("Success", several ? legendOf(kindsOf(runs)) : null, chart.node, table(
    ["Task", several ? "run" : null, "sentence", "successes", "episodes", "rate", "95% interval", "errors"].filter(Boolean),
    runs.flatMap((run) => run.tasks.map((row) => [row.task, several ? run.name : null, row.instruction || "–", String(row.successes), String(row.episodes),
      percent(row.successes / row.episodes), `${percent(row.low)} to ${percent(row.high)}`, String(row.errors)].filter((cell) => cell !== null))), "Success by task"));
}

function spread(title, unit, runs, of, wanted = () => true) {
  const tasks = [...new Set(runs.flatMap((run) => run.tasks.map((row) => row.task)))];
  const rows = tasks.map((task) => ({
    label: task, marks: runs.map((run, i) => {
      const values = run.episodes.filter((one) => one.task === task && wanted(one)).map(of);
      return { kind: runKind(i), name: `${run.name}, median (10th to 90th percentile of ${values.length})`, mid: quantile(values, 0.5), low: quantile(values, 0.1), high: quantile(values, 0.9) };
    }),
  }));
  const empty = !rows.some((row) => row.marks.some((mark) => Number.isFinite(mark.mid)));
  return empty ? null : rowChart({ title, unit, rows, least: 0 }).node;
}

function timesSection(runs) {
  const made = (one) => one.outcome !== "error";
  return section("Times", el("div", { class: "grid" },
    spread("Time to success", "s", runs, (one) => one.seconds, (one) => one.outcome === "success"),
    spread("Time of a policy call", "ms", runs, (one) => 1000 * one.inference_s, made),
    spread("Chunks refused, of those made", "%", runs, (one) => 100 * one.refused / Math.max(1, one.chunks), made),
    spread("Progress of failures", "of 1", runs, (one) => one.progress, (one) => one.outcome === "failure")));
}

function episodeSection(run) {
  const columns = [["Task", (one) => one.task], ["seed", (one) => one.seed], ["outcome", (one) => one.outcome], ["progress", (one) => one.progress],
    ["seconds", (one) => one.seconds], ["chunks", (one) => one.chunks], ["refused", (one) => one.refused], ["inference [ms]", (one) => 1000 * one.inference_s], ["remark", (one) => one.remark]];
  const body = el("tbody");
  const heads = columns.map(([name]) => el("th", { scope: "col" }, name));
  let shown = "all";
  let order = { column: 1, down: false };
  const compare = (a, b) => (typeof a === "number" ? a - b : String(a).localeCompare(String(b)));
  const film = (one) => (one.link ? el("a", { href: one.link }, "film") : "");
  const draw = () => {
    const rows = run.episodes.filter((one) => shown === "all" || one.outcome === shown);
    rows.sort((a, b) => compare(columns[order.column][1](a), columns[order.column][1](b)) * (order.down ? -1 : 1));
    body.replaceChildren(...rows.map((one) => el("tr", { class: one.outcome },
      columns.map(([, of]) => el("td", {}, typeof of(one) === "number" ? text(of(one)) : of(one))), el("td", {}, film(one)))));
    heads.forEach((head, i) => head.setAttribute("aria-sort", i !== order.column ? "none" : order.down ? "descending" : "ascending"));
  };
  heads.forEach((head, column) => head.replaceChildren(el("button", { type: "button", onclick: () => {
    order = { column, down: order.column === column && !order.down };
    draw();
  } }, columns[column][0])));
  draw();
  const count = (outcome) => run.episodes.filter((one) => one.outcome === outcome).length;
  return section(`Episodes: ${run.name}`,
    note(`${count("success")} successes, ${count("failure")} failures, ${count("error")} errors. Errors are counted apart.`),
    choice("Show", ["all", "success", "failure", "error"], shown, (name) => { shown = name; draw(); }),
    el("div", { class: "scroll tall", tabindex: 0, role: "region", "aria-label": `Episodes of ${run.name}` },
      el("table", {}, el("thead", {}, el("tr", {}, heads, el("th", { scope: "col" }, "film"))), body)));
}

function filmsOf(run, outcome, title) {
  const rows = run.episodes.filter((one) => one.film && one.outcome === outcome);
  if (!rows.length) return null;
  return section(`${title}: ${run.name}`, el("div", { class: "films" }, rows.map((one) =>
    el("figure", {}, video(one.film), el("figcaption", {},
      `${one.task}, seed ${one.seed}: ${one.outcome} ${outcome === "success" ? `after ${text(one.seconds)} s` : `at progress ${text(one.progress)}`}. ${one.remark}`)))));
}

function evaluationSections(runs) {
  return [successSection(runs), timesSection(runs),
    ...runs.flatMap((run) => [filmsOf(run, "failure", "Films of failures"), filmsOf(run, "success", "Films of successes"), episodeSection(run)]),
    ...runs.filter((run) => Object.keys(run.facts).length).map((run) => section(`Set-up: ${run.name}`, facts(run.facts)))];
}
