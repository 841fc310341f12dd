// One answer as it is written, then with its evidence: numbered citations, the passages that the model was shown.

import { el, fill, put, say } from "./dom.js";
import { opinion } from "./feedback.js";
import { placeOf, quoted, showSource } from "./source.js";

export class Answer {
  constructor(by, named) {
    this.by = by;
    this.text = el("p", { class: "text" });
    this.note = el("p", { class: "note waiting" }, "Looking for passages");
    this.more = el("div", { class: "evidence" });
    this.element = el("section", { class: "answer", "aria-label": `Answer by ${by}`, "aria-busy": "true" },
      named && el("h3", { class: "by" }, by), this.text, this.note, this.more);
  }

  grow(text) {
    this.note.textContent = "";
    this.text.append(text);
  }

  wait(seconds) {
    this.note.textContent = `Many are asking at the moment: asked again in ${seconds} s.`;
    say(this.note.textContent);
  }

  restart() {
    fill(this.text);
    fill(this.more);
    this.note.textContent = "Looking for passages";
    this.element.classList.remove("failed", "refused");
    this.element.setAttribute("aria-busy", "true");
  }

  /** Show the finished answer. `asked` is the question as it was typed. */
  finish(row, asked, { quiet = false } = {}) {
    this.text.textContent = row.answer;
    this.element.setAttribute("aria-busy", "false");
    this.element.classList.toggle("refused", !row.answered);
    this.note.textContent = this.about(row, asked);
    fill(this.more, this.citations(row), this.passages(row), opinion(row, asked));
    if (!quiet) say(`${this.by}: ${row.answer} ${row.citations.length} sources.`);
  }

  about(row, asked) {
    const parts = [row.adapter && `adapter ${row.adapter}`, row.cached ? "as answered before" : `${row.seconds.toFixed(1)} s`];
    if (row.question && row.question !== asked) parts.push(`searched as: ${row.question}`);
    if (row.passages_left_out) parts.push(`${row.passages_left_out} passages did not fit`);
    if (row.answered && !row.citations.length) parts.push("no source: nothing in the documents backs this answer");
    return parts.filter(Boolean).join(" · ");
  }

  citations(row) {
    if (!row.citations.length) return null;
    return el("ol", { class: "citations", "aria-label": "Sources" }, row.citations.map((c, i) => el("li", {},
      el("button", { type: "button", class: "citation", onclick: () => showSource({ ...c, number: i + 1 }) },
        el("span", { class: "number" }, i + 1),
        el("span", { class: "where" }, placeOf(c)),
        el("q", {}, quoted(c.quote))))));
  }

  passages(row) {
    const shown = row.passages ?? [];
    if (!shown.length) return null;
    return el("details", { class: "passages" }, el("summary", {}, `What the model was shown (${shown.length})`),
      el("ol", {}, shown.map((p) => el("li", {},
        el("button", { type: "button", class: "link", onclick: () => showSource({ ...p, quote: p.text }) }, placeOf(p)),
        el("p", { class: "passage" }, p.text)))));
  }

  fail(error, again) {
    this.element.setAttribute("aria-busy", "false");
    if (error.name === "AbortError") {
      this.note.textContent = "Stopped.";
      return;
    }
    this.element.classList.add("failed");
    this.note.textContent = "";
    put(fill(this.more, el("p", { class: "fault", role: "alert" }, error.message)),
      el("button", { type: "button", class: "quiet", onclick: again }, "Ask again"));
  }
}
