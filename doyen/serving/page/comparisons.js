// The comparisons of the arms: what each advises, and its report, which is shown in a sandbox.

import { get, request } from "./api.js";
import { count, el, empty, fill, moment, put } from "./dom.js";
import { armName } from "./ask.js";
import { framed } from "./framed.js";

/** Show the list, or with an id its report. */
export async function show(place, me, id) {
  if (id) { await report(place, me, id); return; }
  put(place, el("h1", {}, "Comparisons"));
  const { comparisons } = await get("/api/comparisons");
  put(place, comparisons.length
    ? el("ul", { class: "cards" }, comparisons.map(card))
    : empty("Nothing was compared yet. ", el("code", {}, "doyen compare QUESTIONS"), " measures the arms on your questions."));
}

function card(found) {
  const advice = found.advice;
  return el("li", { class: "card" },
    el("h2", {}, el("a", { href: `#comparisons/${encodeURIComponent(found.id)}` },
      advice?.arm ? `${armName(advice.arm)} is advised` : "No arm is advised")),
    el("p", { class: "note" }, `${moment(found.created)} · ${count(found.questions, "question")} · ${found.arms.map(armName).join(", ")}`),
    advice?.reasons && el("ul", {}, advice.reasons.slice(0, 3).map((reason) => el("li", {}, reason))));
}

async function report(place, me, id) {
  const address = `/api/comparisons/${encodeURIComponent(id)}/report.html`;
  put(place, el("h1", { class: "unseen" }, "Report of a comparison"),
    el("p", { class: "tools" }, el("a", { href: "#comparisons" }, "All comparisons"),
      !me.keys && el("a", { href: address, target: "_blank", rel: "noopener" }, "Open in a tab of its own")));
  const text = await (await request(address)).text();
  put(place, framed("The comparison's report", text));
}
