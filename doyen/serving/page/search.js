// Searching: passages, or documents with their summaries; without a model.

import { get, path } from "./api.js";
import { byId, count, el, empty, fault, fill, put, say } from "./dom.js";
import { placeOf, showSource } from "./source.js";

/** Show the view; `sought` is the query of the address. */
export function show(place, me, sought) {
  put(place, el("h1", {}, "Search"), form(), el("div", { id: "hits", "aria-live": "off" }));
  byId("query").value = sought;
  if (sought) search();
  else fill(byId("hits"), empty(me.documents ? "Passages are found by meaning and by words." : "No document is indexed yet."));
  byId("query").focus({ preventScroll: true });
}

function form() {
  const go = (event) => {
    event.preventDefault();
    history.replaceState(null, "", `#search/${encodeURIComponent(byId("query").value.trim())}`);
    search();
  };
  return el("form", { class: "searching", role: "search", onsubmit: go },
    el("label", { for: "query", class: "unseen" }, "What is sought"),
    el("input", { id: "query", type: "search", placeholder: "Search the documents", enterkeyhint: "search" }),
    el("label", { for: "kind", class: "unseen" }, "What to find"),
    el("select", { id: "kind", onchange: () => byId("query").value.trim() && search() },
      el("option", { value: "" }, "Passages"), el("option", { value: "true" }, "Documents")),
    el("button", { type: "submit" }, "Search"),
    el("details", { class: "narrow" }, el("summary", {}, "Narrow it down"),
      el("label", { for: "narrow" }, "Only where"),
      el("input", { id: "narrow", placeholder: "type=pdf", spellcheck: "false", "aria-describedby": "narrow-note" }),
      el("p", { id: "narrow-note", class: "note" }, "KEY=VALUE, as doyen search --filter takes it: folder, type, date, language, title.")));
}

async function search(like = "") {
  const q = byId("query").value.trim(), place = byId("hits");
  if (!q && !like) { fill(place, empty("What are you looking for?")); return; }
  const documents = !like && byId("kind").value ? true : undefined;
  const filter = byId("narrow").value.split(/\s*,\s*/).filter(Boolean);
  fill(place, el("p", { class: "note" }, "Searching"));
  try {
    const found = await get(path("/api/search", { ...(like ? { like } : { q, documents }), k: 20, filter }));
    const rows = found.documents ?? found.hits;
    const said = rows.length ? count(rows.length, documents ? "document" : "passage") : "Nothing was found.";
    fill(place, rows.length
      ? [el("p", { class: "note" }, like ? `The nearest passages of documents similar to ${like}` : said),
        el("ol", { class: "hits" }, rows.map(documents ? document_ : passage))]
      : empty(said, " Try other words, or fewer filters."));
    say(said);
  } catch (error) {
    fill(place, fault(error));
  }
}

function passage(hit) {
  return el("li", {},
    el("button", { type: "button", class: "link where", onclick: () => showSource({ ...hit, quote: hit.text }) }, placeOf(hit)),
    el("p", { class: "passage" }, hit.text),
    el("button", { type: "button", class: "link small", onclick: () => search(hit.document) }, "Similar documents"));
}

function document_(found) {
  return el("li", {},
    el("button", { type: "button", class: "link where", onclick: () => showSource({ document: found.document }) }, found.title),
    el("p", { class: "note" }, found.document),
    el("p", { class: "passage" }, found.summary),
    el("ul", { class: "plain inner" }, found.hits.slice(0, 3).map((hit) => el("li", {},
      el("button", { type: "button", class: "link small", onclick: () => showSource({ ...hit, quote: hit.text }) },
        placeOf(hit))))));
}
