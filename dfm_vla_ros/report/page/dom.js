// Elements by short calls. Text always goes in as text, never as markup.
const SVG = "http://www.w3.org/2000/svg";

function fill(node, attributes, children) {
  for (const [name, value] of Object.entries(attributes)) {
    if (value === null || value === undefined || value === false) continue;
    if (name.startsWith("on")) node.addEventListener(name.slice(2), value);
    else node.setAttribute(name, value === true ? "" : value);
  }
  node.append(...children.flat(Infinity).filter((child) => child !== null && child !== undefined));
  return node;
}

const el = (tag, attributes = {}, ...children) =>
  fill(document.createElement(tag), attributes, children);

const svg = (tag, attributes = {}, ...children) =>
  fill(document.createElementNS(SVG, tag), attributes, children);

let lastId = 0;
const freshId = (stem) => `${stem}-${++lastId}`;

function section(title, ...children) {
  const id = freshId("section");
  return el("section", { "aria-labelledby": id }, el("h2", { id }, title), ...children);
}

const note = (text) => el("p", { class: "note" }, text);

function table(head, rows, caption = "") {
  const cells = (row) => row.map((cell) => el("td", {}, cell));
  return el("div", { class: "scroll", tabindex: 0, role: "region", "aria-label": caption || head.join(", ") },
    el("table", {},
      caption ? el("caption", {}, caption) : null,
      el("thead", {}, el("tr", {}, head.map((name) => el("th", { scope: "col" }, name)))),
      el("tbody", {}, rows.map((row) => el("tr", {}, cells(row))))));
}

function facts(pairs) {
  return el("dl", { class: "facts" }, Object.entries(pairs).map(([name, value]) =>
    el("div", {}, el("dt", {}, name), el("dd", {}, String(value)))));
}

// A group of radio buttons; arrow keys move between them by themselves.
function choice(label, names, chosen, changed) {
  const group = freshId("choice");
  return el("fieldset", { class: "choice" }, el("legend", {}, label), names.map((name) =>
    el("label", {}, el("input", {
      type: "radio", name: group, value: name, checked: name === chosen,
      onchange: () => changed(name),
    }), name)));
}

const themeWatchers = [];
const colour = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();

function isDark() {
  const chosen = document.documentElement.dataset.theme;
  return chosen ? chosen === "dark" : matchMedia("(prefers-color-scheme: dark)").matches;
}

function themeButton() {
  const button = el("button", { type: "button", id: "theme" });
  const show = () => {
    button.textContent = isDark() ? "Light colours" : "Dark colours";
    themeWatchers.forEach((watcher) => watcher());
  };
  button.addEventListener("click", () => {
    document.documentElement.dataset.theme = isDark() ? "light" : "dark";
    show();
  });
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", show);
  show();
  return button;
}
