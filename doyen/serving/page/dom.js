// Elements made by hand: every text becomes a text node, so nothing that a document, a file's name or a model says is ever
// read as HTML.

export const byId = (id) => document.getElementById(id);

/** Make an element. `given`: attributes; `on…` are listeners, `class` a class; null, undefined and false are left out. */
export function el(tag, given = {}, ...children) {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(given)) {
    if (value === null || value === undefined || value === false) continue;
    if (name.startsWith("on")) made.addEventListener(name.slice(2), value);
    else if (name === "value" && tag !== "option" && tag !== "progress") made.value = value;
    else made.setAttribute(name, value === true ? "" : String(value));
  }
  put(made, ...children);
  return made;
}

/** Append children: elements, texts, numbers; null and false are left out, lists are opened. */
export function put(parent, ...children) {
  for (const child of children.flat(3)) {
    if (child === null || child === undefined || child === false) continue;
    parent.append(child instanceof Node ? child : document.createTextNode(String(child)));
  }
  return parent;
}

/** Replace what an element holds. */
export function fill(parent, ...children) {
  parent.replaceChildren();
  return put(parent, ...children);
}

/** Make a table in a frame that scrolls sideways; `heads` are texts, `rows` lists of cells. */
export function table(caption, heads, rows, more = "") {
  const head = el("thead", {}, el("tr", {}, heads.map((h) => el("th", { scope: "col" }, h))));
  const body = el("tbody", {}, rows.map((cells) => el("tr", {}, cells.map((cell, i) =>
    i ? el("td", {}, cell) : el("th", { scope: "row" }, cell)))));
  return el("div", { class: `scroll ${more}`, tabindex: 0, role: "region", "aria-label": caption },
    el("table", {}, el("caption", {}, caption), head, body));
}

/** Tell a screen reader something. */
export function say(text) {
  const place = byId("said");
  place.textContent = "";
  setTimeout(() => { place.textContent = text; }, 60);
}

export const empty = (...what) => el("p", { class: "empty" }, what);
export const fault = (error) => el("p", { class: "fault", role: "alert" }, error.message || String(error));

const DATE = new Intl.DateTimeFormat(undefined, { dateStyle: "medium", timeStyle: "short" });

/** Write a moment: ISO text, or seconds since the epoch. */
export function moment(value) {
  if (!value) return "";
  const date = new Date(typeof value === "number" ? value * 1000 : value);
  return Number.isNaN(date.getTime()) ? String(value) : DATE.format(date);
}

export const count = (number, one, many = `${one}s`) => `${number.toLocaleString()} ${number === 1 ? one : many}`;
export const percent = (share) => `${(100 * share).toFixed(1)}%`;

/** Write seconds as people say them. */
export function duration(seconds) {
  if (seconds < 90) return `${seconds < 10 ? seconds.toFixed(1) : Math.round(seconds)} s`;
  return seconds < 5400 ? `${Math.round(seconds / 60)} min` : `${(seconds / 3600).toFixed(1)} h`;
}
