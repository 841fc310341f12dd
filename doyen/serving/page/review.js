// The review queue: what users said of answers, with the passages that were shown, to be accepted, edited or rejected.

import { get, path, request } from "./api.js";
import { byId, count, el, empty, fault, fill, moment, put, say } from "./dom.js";
import { armName } from "./ask.js";
import { places } from "./feedback.js";
import { placeOf, showSource } from "./source.js";

const STATES = { new: "Waiting", accepted: "Accepted", edited: "Edited", rejected: "Rejected", all: "All" };
const USES = { train: "It becomes a training example.", compare: "It becomes a question of the next comparison." };
const FOUND = 5;

/** Return how many lines a text has, about, where a field does not grow by itself. */
const lines = (text) => Math.min(6, Math.ceil(text.length / (innerWidth < 760 ? 34 : 100)) || 1);

/** Show the view. */
export async function show(place, me, state) {
  put(place, el("h1", {}, "Review"));
  if (me.role === "reader") {
    put(place, empty("The review takes the key of an editor; yours is a reader's."));
    return;
  }
  const shown = STATES[state] ? state : "new";
  put(place, el("div", { class: "tools" },
    el("label", { for: "state" }, "Show"),
    el("select", { id: "state", onchange: () => { location.hash = `#review/${byId("state").value}`; } },
      Object.entries(STATES).map(([value, label]) => el("option", { value, selected: value === shown }, label))),
    el("span", { class: "note", id: "queue-count" })));
  const list = el("div", { class: "queue" });
  put(place, list);
  const { feedback, total } = await get(path("/api/feedback", { state: shown }));
  byId("queue-count").textContent = count(total, "answer") + (total > feedback.length ? `, the oldest ${feedback.length} here` : "");
  fill(list, feedback.length ? feedback.map((row) => new Item(row).element)
    : empty(shown === "new" ? "Nothing waits: what users say of answers comes here." : "There is none."));
}

class Item {
  constructor(row) {
    this.row = row;
    this.places = row.evidence.length ? row.evidence : row.passages;
    this.element = el("article", { class: "item", "aria-labelledby": `q-${row.id}` });
    this.draw();
  }

  draw() {
    const { row } = this, id = row.id;
    const waits = row.state === "new";
    this.question = el("textarea", { id: `question-${id}`, rows: lines(row.final_question || row.question), value: row.final_question || row.question, oninput: () => this.look() });
    this.answer = el("textarea", { id: `answer-${id}`, rows: 2, value: row.final_answer || row.proposed, oninput: () => this.look() });
    this.evidence = el("ul", { class: "plain" });
    this.told = el("p", { class: "note", role: "status" });
    this.accept = el("button", { type: "button", onclick: () => this.decide() });
    fill(this.element,
      el("h2", { id: `q-${id}`, tabindex: -1 }, row.question),
      el("p", { class: "note" }, [
        waits ? "" : `${STATES[row.state]} · `, moment(row.created), row.arm && ` · ${armName(row.arm + (row.adapter ? `:${row.adapter}` : ""))}`]),
      el("p", { class: `said ${row.thumb}` }, el("span", { class: "state" }, row.thumb === "up" ? "Right" : "Wrong"), " ", row.answer),
      row.comment && el("p", { class: "comment" }, el("span", { class: "note" }, "They say: "), row.comment),
      el("div", { class: "verdict" },
        el("label", { for: `question-${id}` }, "Question"), this.question,
        el("label", { for: `answer-${id}` }, row.correction ? "Right answer, as they corrected it" : "Right answer"), this.answer,
        el("fieldset", {}, el("legend", {}, "Evidence"), this.evidence, this.finder()),
        this.told,
        el("p", { class: "buttons" },
          el("button", { type: "button", class: "quiet", onclick: () => this.send("reject") }, "Reject"), this.accept)));
    this.list(this.places, true);
    this.look();
  }

  /** Add passages to those that can be evidence. */
  list(passages, chosen) {
    if (!passages.length) put(this.evidence, el("li", { class: "note none" }, "No passage was shown. Find one, or reject it."));
    else this.evidence.querySelector(".none")?.remove();
    for (const p of passages) {
      const quote = p.quote ?? p.text, box = el("input", { type: "checkbox", checked: chosen, onchange: () => this.look() });
      box.place = p;
      put(this.evidence, el("li", {}, el("label", { class: "choice" }, box, " ", placeOf(p)),
        el("button", { type: "button", class: "link small", "aria-label": `Open ${placeOf(p)}`, onclick: () => showSource({ ...p, quote }) }, "Open"),
        el("p", { class: "passage" }, quote)));
    }
  }

  finder() {
    return el("button", { type: "button", class: "link small", onclick: async (event) => {
      const button = event.target;
      button.disabled = true;
      try {
        const { hits } = await get(path("/api/search", { q: `${this.question.value} ${this.answer.value}`.slice(0, 4000), k: FOUND }));
        const known = new Set([...this.boxes()].map((b) => `${b.place.document} ${b.place.start}`));
        const fresh = hits.filter((h) => !known.has(`${h.document} ${h.start}`));
        if (fresh.length) this.list(fresh, false);
        say(fresh.length ? `${count(fresh.length, "passage")} more` : "No other passage was found.");
      } catch (error) {
        this.told.textContent = error.message;
      }
      button.disabled = false;
    } }, "Find other passages");
  }

  boxes() { return this.evidence.querySelectorAll("input"); }
  chosen() { return [...this.boxes()].filter((b) => b.checked).map((b) => b.place); }

  /** Tell what an acceptance would do. */
  look() {
    const { row } = this, chosen = this.chosen();
    this.edit = {
      question: this.question.value.trim() === row.question ? "" : this.question.value.trim(),
      answer: this.answer.value.trim() === row.proposed ? "" : this.answer.value.trim(),
      evidence: chosen.length === row.passages.length && chosen.every((p) => row.passages.includes(p)) ? [] : places(chosen),
    };
    this.edited = Boolean(this.edit.question || this.edit.answer || this.edit.evidence.length);
    const missing = !this.answer.value.trim() ? "An answer is missing." : !chosen.length ? "Evidence is missing." : "";
    this.accept.textContent = this.edited ? "Accept as edited" : "Accept";
    this.accept.disabled = Boolean(missing);
    this.told.textContent = missing || (row.supported || this.edit.answer ? "" : "Not all words of this answer stand in the passages: look closely.");
  }

  decide() { return this.send(this.edited ? "edit" : "accept", this.edited ? this.edit : {}); }

  async send(verdict, edit = {}) {
    const buttons = this.element.querySelectorAll("button");
    for (const button of buttons) button.disabled = true;
    try {
      const json = { verdict, ...edit };
      const done = await (await request(`/api/feedback/${encodeURIComponent(this.row.id)}/review`, { method: "POST", json })).json();
      const said = `${STATES[done.state]}. ${USES[done.use] ?? "Nothing learns from it."}`;
      const next = this.element.nextElementSibling ?? this.element.previousElementSibling;
      fill(this.element, el("h2", {}, done.final_question || done.question), el("p", { class: "good" }, said, " ",
        el("button", { type: "button", class: "link small", onclick: () => { this.row = done; this.draw(); } }, "Change it")));
      this.element.classList.add("reviewed");
      (next?.querySelector("h2[tabindex]") ?? byId("view")).focus();
      say(said);
    } catch (error) {
      for (const button of buttons) button.disabled = false;
      this.look();
      this.told.replaceWith(this.told = fault(error));
    }
  }
}
