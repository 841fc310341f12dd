// The place that an answer or a hit stands on: a PDF's page as a picture with the passage highlighted, or the text or table
// rows with the passage marked.

import { get, path, request } from "./api.js";
import { byId, el, fault, fill } from "./dom.js";

const AROUND = 1500, MOST_AROUND = 20000;
/** The line before a table's rows that tells its columns: part of what a model is shown, and no row. */
const ABOUT = /^Table .*: columns /;
const QUOTES = 10, LONGEST_QUOTE = 1500;
let now = null;

/** Name a place: document, page or record, section. */
export function placeOf(place) {
  const parts = [place.document];
  if (place.page) parts.push(`page ${place.page}`);
  if (place.record) parts.push(`${String(place.record).includes("-") ? "rows" : "row"} ${place.record}`);
  return parts.join(", ") + (place.section ? ` · ${place.section}` : "");
}

/** Shorten a quote for a list. */
export const quoted = (text) => (text.length > 180 ? `${text.slice(0, 179)}…` : text);

/** Open a source: `document` with `start` and `end` of the passage, its `quote`, `page`, `version`, and `number`. */
export async function showSource(place) {
  const own = now = { ...place, around: AROUND, larger: false };
  const dialog = byId("source-dialog");
  byId("source-title").textContent = (place.number ? `${place.number} · ` : "") + place.document;
  byId("source-place").textContent = placeOf({ ...place, document: "" }).replace(/^, /, "").replace(/^ · /, "");
  fill(byId("source-tools"));
  fill(byId("source-body"), el("p", { class: "note" }, "Loading"));
  if (!dialog.open) dialog.showModal();
  byId("source-close").focus();
  try {
    own.found = await passage(own);
    if (own !== now) return;
    if (own.found.media_type === "application/pdf") await page(own, own.page ?? own.found.page ?? 1);
    else text(own);
  } catch (error) {
    if (own === now) fill(byId("source-body"), fault(error));
  }
}

byId("source-close").addEventListener("click", () => byId("source-dialog").close());
byId("source-dialog").addEventListener("click", (event) => {
  if (event.target === byId("source-dialog")) byId("source-dialog").close();
});
byId("source-dialog").addEventListener("close", () => { now = null; drop(); });

const passage = (own) => get(path("/api/passage", {
  document: own.document, start: own.start, end: own.end, version: own.version, around: own.around,
}));

function drop() {
  for (const image of byId("source-body").querySelectorAll("img")) URL.revokeObjectURL(image.src);
}

function tool(label, act, more = {}) {
  return el("button", { type: "button", class: "quiet", onclick: act, ...more }, label);
}

// ---- a page as a picture

async function page(own, number) {
  own.shown = number;
  const home = own.page ?? own.found.page ?? 1;
  const quote = own.quote && number >= home ? quotes(own.quote) : undefined;
  tools(own, number);
  drop();
  fill(byId("source-body"), el("p", { class: "note" }, "The page is being drawn."),
    number === home && own.found.passage && el("p", { class: "prose" }, el("mark", {}, own.found.passage)));
  let answer;
  try {
    answer = await request(path("/api/page-image", { document: own.document, page: number, version: own.version, quote }));
  } catch (error) {
    if (own !== now) return;
    if (error.status === 0) throw error;
    text(own, `The page cannot be shown: ${error.message}`);
    return;
  }
  const boxes = JSON.parse(answer.headers.get("X-Doyen-Boxes") || "[]").flat();
  const source = URL.createObjectURL(await answer.blob());
  if (own !== now || own.shown !== number) { URL.revokeObjectURL(source); return; }
  const marked = boxes.length ? " with the passage highlighted" : "";
  const image = el("img", { id: "page-image", src: source, alt: `Page ${number} of ${own.document}${marked}` });
  image.dataset.boxes = JSON.stringify(boxes);
  const lost = quote && !boxes.length && number === home;
  fill(byId("source-body"),
    lost && el("p", { class: "note" }, "The passage is on this page, but could not be found where it is printed: Text shows it."),
    el("div", { class: own.larger ? "sheet larger" : "sheet" }, image));
  await image.decode().catch(() => {});
  if (boxes.length) byId("source-body").scrollTop = boxes[0][1] * image.clientHeight - 120;
}

/** Cut a passage into what is found line by line, so that a line that is printed otherwise does not cost the others. */
function quotes(text) {
  const lines = text.split("\n").map((l) => l.trim()).filter((l) => l.length > 3);
  const size = Math.ceil(lines.length / QUOTES), found = [];
  for (let i = 0; i < lines.length; i += size) found.push(lines.slice(i, i + size).join("\n").slice(0, LONGEST_QUOTE));
  return found.length ? found : [text.slice(0, LONGEST_QUOTE)];
}

function tools(own, number) {
  const last = own.found.pages;
  fill(byId("source-tools"),
    tool("Previous page", () => page(own, number - 1).catch(failed), { disabled: number <= 1 }),
    el("span", { class: "note" }, `${number} of ${last}`),
    tool("Next page", () => page(own, number + 1).catch(failed), { disabled: number >= last }),
    tool(own.larger ? "Smaller" : "Larger", (event) => {
      own.larger = !own.larger;
      event.target.textContent = own.larger ? "Smaller" : "Larger";
      byId("source-body").querySelector(".sheet")?.classList.toggle("larger", own.larger);
    }),
    tool("Text", () => text(own)));
}

const failed = (error) => fill(byId("source-body"), fault(error));

// ---- text and tables

function text(own, note = "") {
  const found = own.found;
  own.shown = null;
  const more = found.from > 0 || found.to < found.characters;
  fill(byId("source-tools"),
    found.media_type === "application/pdf" && !note && tool("Page", () => page(own, own.page ?? found.page ?? 1).catch(failed)),
    more && own.around < MOST_AROUND && tool("More text", async () => {
      own.around = Math.min(MOST_AROUND, own.around * 4);
      try { own.found = await passage(own); text(own); } catch (error) { failed(error); }
    }));
  drop();
  fill(byId("source-body"),
    note && el("p", { class: "note" }, note),
    !found.current && el("p", { class: "notice" }, `This is version ${found.version}; the document has changed since.`),
    rows(found) ?? prose(found));
  byId("source-body").querySelector("mark, tr.cited")?.scrollIntoView({ block: "center" });
}

function prose(found) {
  return el("div", { class: "prose" }, found.from > 0 && "… ", found.before,
    found.passage && el("mark", {}, found.passage), found.after, found.to < found.characters && " …");
}

/** Return the table that the lines around a passage are, with the passage's rows marked; null where they are none. */
export function rows(found) {
  const whole = found.before + found.passage + found.after;
  const [first, last] = [found.before.length, found.before.length + found.passage.length];
  const lines = [];
  let at = 0;
  for (const line of whole.split("\n")) {
    lines.push({ line, pairs: pairs(line), cited: at < last && at + line.length > first });
    at += line.length + 1;
  }
  const head = lines.find((l) => l.cited && l.pairs) ?? (last > first ? null : lines.find((l) => l.pairs));
  const about = lines.find((l) => l.cited && ABOUT.test(l.line));
  if (!head || lines.some((l) => l.cited && !l.pairs && l !== about)) return null;
  const names = head.pairs.map(([name]) => name);
  const same = lines.filter((l) => l.pairs && l.pairs.map(([name]) => name).join("\n") === names.join("\n"));
  if (lines.some((l) => l.cited && l !== about && !same.includes(l))) return null;
  return el("div", { class: "scroll" }, about && el("p", { class: "note" }, about.line), el("table", {},
    el("caption", {}, "The rows around the passage"),
    el("thead", {}, el("tr", {}, names.map((n) => el("th", { scope: "col" }, n)))),
    el("tbody", {}, same.map((l) => el("tr", { class: l.cited && "cited" },
      l.pairs.map(([, value], i) => el("td", {}, l.cited && !i && el("span", { class: "unseen" }, "Cited row: "), value)))))));
}

/** Read `name: value; name: value`, as doyen writes a table's rows; null for a line that is none. */
function pairs(line) {
  const found = line.split("; ").map((part) => part.match(/^([^:]{1,80}): (.*)$/)).map((m) => m && [m[1], m[2]]);
  return found.length > 1 && found.every(Boolean) ? found : null;
}
