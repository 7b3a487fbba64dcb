// Puts the page together.
function contents(sections) {
  return el("nav", { "aria-label": "Sections" }, el("ul", {}, sections.map((node) => {
    const head = node.querySelector("h2");
    return el("li", {}, el("a", { href: `#${head.id}` }, head.textContent));
  })));
}

async function start() {
  const data = await load();
  const nodes = [
    ...(data.replays.length ? replaySections(data.replays) : []),
    ...(data.evaluations.length ? evaluationSections(data.evaluations) : []),
  ].filter(Boolean);
  document.getElementById("header").append(
    el("div", { class: "top" }, el("h1", {}, data.title), themeButton()),
    facts(data.facts), contents(nodes.filter((node) => node.tagName === "SECTION")),
    data.replays.length ? note("Keys: ← and → go through chunks, with Shift through refinement steps; Tab goes to a plot, arrows read it, Esc leaves.") : "");
  document.getElementById("content").replaceChildren(...nodes);
  document.documentElement.dataset.ready = "yes";
}

start().catch((error) => {
  document.getElementById("content").replaceChildren(el("p", { role: "alert" }, `This report cannot be shown: ${error.message}`));
  throw error;
});
