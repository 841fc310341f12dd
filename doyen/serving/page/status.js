// What the expert holds, what of its examples is stale, how the server does.

import { get } from "./api.js";
import { count, el, empty, moment, percent, put, table } from "./dom.js";

const MOST = 200;

/** Show the view. */
export async function show(place, me) {
  put(place, el("h1", {}, "Status"));
  if (me.role === "reader") {
    put(place, empty("The status takes the key of an editor; yours is a reader's."));
    return;
  }
  const found = await get("/api/status");
  put(place, figures(found), staleness(found), adapters(found), list("Files that could not be read", found.failed, "file", "reason"),
    list("Remarks", found.warnings, "document", "remark"), duplicates(found), setup(found));
}

function figures(found) {
  const shown = [["documents", found.documents], ["pages", found.pages], ["passages", found.chunks],
    ["summaries", found.summaries], ["adapters", found.adapters.length], ["questions at work", found.server.asking],
    ["turned away", found.server.refused]].filter(([, value]) => value !== null);
  return el("dl", { class: "figures" }, shown.map(([name, value]) => el("div", {}, el("dt", {}, name), el("dd", {}, value.toLocaleString()))));
}

function staleness(found) {
  const kept = [["the examples", found.examples], ...found.adapters.map((a) => [`adapter ${a.name}`, a])].filter(([, row]) => row);
  const stale = kept.filter(([, row]) => row.stale_documents?.length);
  if (!kept.length) return null;
  const title = el("h2", {}, "Stale examples");
  if (!stale.length) return [title, el("p", { class: "good" }, "None: all that was trained on stands in the documents as they are now.")];
  return [title, stale.map(([name, row]) => el("div", { class: "stale" },
    el("p", {}, `${row.stale_share === null ? "Some" : percent(row.stale_share)} of ${name} stands on text that has changed or gone, in ${count(row.stale_documents.length, "document")}.`),
    el("details", {}, el("summary", {}, "Which"),
      el("ul", {}, row.stale_documents.slice(0, MOST).map((d) => el("li", {}, d))),
      (row.stale_examples ?? []).length > 0 && table("Examples", ["Line", "Question", "Text", "Documents"],
        row.stale_examples.slice(0, MOST).map((e) => [e.line, e.question_id ?? "", e.reason, e.documents.join(", ")])))))];
}

function adapters(found) {
  if (!found.adapters.length) return null;
  const rows = found.adapters.map((a) => a.fault ? [a.name, a.fault, "", "", "", ""]
    : [el("a", { href: `#training/${encodeURIComponent(a.name)}` }, a.name), a.method, moment(a.created), a.steps, a.validation_loss ?? "",
      a.stale_share === null ? "unknown" : percent(a.stale_share)]);
  return [el("h2", {}, "Adapters"), table("Adapters", ["Name", "Method", "Made", "Steps", "Held-out loss", "Stale"], rows, "titled")];
}

function list(title, rows, name, why) {
  if (!rows.length) return null;
  return [el("h2", {}, `${title} (${rows.length})`),
    el("dl", { class: "reasons" }, rows.slice(0, MOST).map((r) => [el("dt", {}, r[name]), el("dd", {}, r[why])]))];
}

function duplicates(found) {
  if (!found.duplicates.length) return null;
  return [el("h2", {}, `Near-copies (${found.duplicates.length})`),
    el("ul", {}, found.duplicates.slice(0, MOST).map((group) => el("li", {}, group.documents.join(", "))))];
}

function setup(found) {
  const rows = [...Object.entries(found.models).map(([role, m]) => [role, m.fetched ? m.name : `${m.name} (not fetched)`]),
    ["engine", found.server.engine], ["answers by default", found.server.default],
    ["interrupted runs", found.interrupted_runs.join(", ") || "none"]];
  return [el("h2", {}, "Set up"), table("Set up", ["What", "Is"], rows, "titled")];
}
