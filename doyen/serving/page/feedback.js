// What a user says of an answer: right or wrong, and what would be right. It goes with the passages that were shown.

import { request } from "./api.js";
import { byId, el, fault, fill, say } from "./dom.js";

let made = 0;

/** Return the line under an answer; `row` is the answer, `asked` the question as it was typed. */
export function opinion(row, asked) {
  return new Opinion(row, row.question || asked).element;
}

/** Name places as the API takes them. */
export const places = (passages) => passages.map(({ document, start, end, version }) => ({ document, start, end, version }));

class Opinion {
  constructor(row, question) {
    this.row = row;
    this.question = question;
    this.up = this.thumb("Right", "up", () => this.send("up"));
    this.down = this.thumb("Wrong", "down", () => this.write());
    this.note = el("span", { class: "note" });
    this.line = el("p", { class: "opinion", role: "group", "aria-label": "Is this answer right?" }, this.up, this.down, this.note);
    this.form = el("div");
    this.element = el("div", { class: "feedback" }, this.line, this.form);
  }

  thumb(label, kind, act) {
    return el("button", { type: "button", class: `quiet thumb ${kind}`, "aria-pressed": "false", onclick: act }, label);
  }

  /** Ask what would be right. */
  write() {
    if (this.form.firstChild) { this.close(); return; }
    const [right, why] = [`right-${made += 1}`, `why-${made}`];
    this.down.setAttribute("aria-expanded", "true");
    fill(this.form, el("form", { class: "correction", onsubmit: (event) => { event.preventDefault(); this.send("down"); },
      onkeydown: (event) => { if (event.key === "Escape") { event.stopPropagation(); this.close(); } } },
    el("label", { for: right }, "The right answer, if you know it"), el("textarea", { id: right, rows: 2 }),
    el("label", { for: why }, "What is wrong"), el("textarea", { id: why, rows: 1 }),
    el("p", { class: "buttons" }, el("button", { type: "button", class: "quiet", onclick: () => this.close() }, "Cancel"),
      el("button", { type: "submit" }, "Send"))));
    byId(right).focus({ preventScroll: true });
    this.form.firstChild.scrollIntoView({ block: "nearest" });
  }

  close() {
    fill(this.form);
    this.down.removeAttribute("aria-expanded");
    this.down.focus();
  }

  async send(thumb) {
    const [correction = "", comment = ""] = [...this.form.querySelectorAll("textarea")].map((field) => field.value.trim());
    const { row } = this, shown = row.passages?.length ? row.passages : row.citations;
    const json = {
      question: this.question, answer: row.answer, thumb, correction, comment, arm: row.arm, adapter: row.adapter || null,
      passages: places(shown),
    };
    this.busy(true);
    try {
      await request("/api/feedback", { method: "POST", json });
      (thumb === "up" ? this.up : this.down).setAttribute("aria-pressed", "true");
      this.down.removeAttribute("aria-expanded");
      fill(this.form);
      this.note.textContent = "Thank you. A reviewer looks at it before anything learns from it.";
      this.note.tabIndex = -1;
      this.note.focus();
      say(this.note.textContent);
    } catch (error) {
      this.busy(false);
      this.form.querySelector(".fault")?.remove();
      this.form.prepend(fault(error));
    }
  }

  busy(is) {
    for (const button of this.element.querySelectorAll("button")) button.disabled = is;
  }
}
