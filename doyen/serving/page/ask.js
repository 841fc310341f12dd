// Asking: a conversation with one arm, or with two beside each other. The conversation stays while other views are shown.

import { ask, get, path, request } from "./api.js";
import { byId, count, el, empty, fault, fill, moment, put, say } from "./dom.js";
import { Answer } from "./answer.js";

const ARMS = {
  base: "Model alone",
  rag: "Retrieval",
  finetuned: "Fine-tuned",
  "rag+finetuned": "Retrieval + fine-tuned",
};
let room = null;

/** Show the view. */
export function show(place, me) {
  room ??= new Room(me);
  room.learn(me);
  put(place, room.element);
  room.field.focus({ preventScroll: true });
}

/** Return the arm and the adapter of a model's name. */
const partsOf = (name) => name.replace(/^doyen\//, "").split(":");

/** Name an arm as people do. */
export function armName(name) {
  const [arm, adapter] = partsOf(name);
  return (ARMS[arm] ?? arm) + (adapter ? ` · ${adapter}` : "");
}

class Room {
  constructor(me) {
    this.sessions = [null, null];
    this.working = null;
    this.arm = el("select", { id: "arm" });
    this.other = el("select", { id: "other-arm" });
    this.talk = el("div", { id: "talk", role: "log", "aria-label": "Conversation", "aria-live": "off" });
    this.field = el("textarea", {
      id: "question", rows: 1, "aria-label": "Your question", placeholder: "Ask about the documents", enterkeyhint: "send",
      "aria-describedby": "keys-note", onkeydown: (event) => this.key(event), oninput: () => this.size(),
    });
    this.send = el("button", { type: "submit", id: "send" }, "Ask");
    this.element = el("div", { class: "room" }, this.head(me), this.talk, this.composer());
  }

  head(me) {
    this.earlier = el("details", { class: "earlier", ontoggle: () => this.earlier.open && this.list() },
      el("summary", {}, "Earlier conversations"), el("div", { id: "earlier-list" }));
    return el("div", { class: "room-head" },
      el("h1", {}, `Ask ${me.expert}`),
      el("div", { class: "tools" },
        el("label", { for: "arm" }, "Answers by"), this.arm,
        el("label", { for: "other-arm" }, "Beside it"), this.other,
        el("button", { type: "button", class: "quiet", id: "new-talk", onclick: () => this.begin() }, "New conversation")),
      this.earlier);
  }

  composer() {
    return el("form", { class: "composer", onsubmit: (event) => { event.preventDefault(); this.ask(); } },
      el("div", { class: "composer-row" }, this.field, this.send),
      el("p", { id: "keys-note", class: "note" }, "Enter asks, Shift+Enter begins a new line, Escape stops an answer."));
  }

  /** Take in what can be asked. */
  learn(me) {
    const adapters = new Set(me.models.map((m) => m.split(":")[1]).filter(Boolean));
    const names = me.models.filter((m) => adapters.size > 1 || !m.includes(":"));
    const options = (first, label) => [el("option", { value: first }, label),
      ...names.filter((m) => m !== me.default).map((m) => el("option", { value: m }, armName(m)))];
    const [one, two] = [this.arm.value, this.other.value];
    this.preset = me.default;
    fill(this.arm, options("", `${armName(me.default)} (default)`));
    fill(this.other, el("option", { value: "" }, "Nothing"), options(me.default, armName(me.default)));
    this.arm.value = [...this.arm.options].some((o) => o.value === one) ? one : "";
    this.other.value = [...this.other.options].some((o) => o.value === two) ? two : "";
    this.nothing = !me.documents;
    if (!this.talk.querySelector(".turn")) this.welcome();
  }

  welcome() {
    fill(this.talk, this.nothing
      ? empty("No document is indexed yet. ", el("a", { href: "#library" }, "Upload some"), ", then ask about them.")
      : empty("Answers name the places in the documents that they stand on: open one to see the very page."));
    this.advise();
  }

  /** Say which arm the newest comparison advises, where that is not the default. */
  async advise() {
    let newest = null;
    try { [newest] = (await get("/api/comparisons")).comparisons; } catch { return; /* only a hint */ }
    const value = [...this.arm.options].map((o) => o.value).find((v) => v && partsOf(v)[0] === newest?.advice?.arm);
    if (!value || this.talk.querySelector(".turn, .advice")) return;
    const take = el("button", { type: "button", class: "link", onclick: () => { this.arm.value = value; note.remove(); this.field.focus(); } },
      `Answer by ${armName(value)}`);
    const note = el("p", { class: "note advice" },
      "The ", el("a", { href: `#comparisons/${encodeURIComponent(newest.id)}` }, `comparison of ${moment(newest.created)}`),
      ` advises ${armName(newest.advice.arm)}, the default is ${armName(this.preset)}. `, take);
    if (this.arm.value === "") put(this.talk, note);
  }

  begin() {
    this.working?.abort();
    this.sessions = [null, null];
    this.welcome();
    this.field.focus();
    say("A new conversation has begun.");
  }

  key(event) {
    if (event.key === "Enter" && !event.shiftKey && !event.isComposing) {
      event.preventDefault();
      this.ask();
    } else if (event.key === "Escape") {
      if (this.working) this.working.abort();
      else { this.field.value = ""; this.size(); }
    }
  }

  size() {
    this.field.rows = Math.min(8, this.field.value.split("\n").length + Math.floor(this.field.value.length / 90));
  }

  async ask(question = this.field.value.trim()) {
    if (this.working) { this.working.abort(); return; }
    if (!question) { this.field.focus(); return; }
    this.field.value = "";
    this.size();
    if (!this.talk.querySelector(".turn")) fill(this.talk);
    const names = [this.arm.value, ...(this.other.value ? [this.other.value] : [])];
    const answers = names.map((name) => new Answer(armName(name || this.preset), names.length > 1));
    const turn = this.turn(question, answers);
    turn.scrollIntoView({ block: "start" });
    const working = this.working = new AbortController();
    this.busy(true);
    await Promise.all(names.map((name, i) => this.answer(answers[i], question, name, i, working.signal)));
    if (this.working === working) {
      this.working = null;
      this.busy(false);
    }
  }

  turn(question, answers) {
    const turn = el("article", { class: "turn" }, el("h2", { class: "question" }, question),
      el("div", { class: answers.length > 1 ? "answers two" : "answers" }, answers.map((a) => a.element)));
    put(this.talk, turn);
    return turn;
  }

  busy(is) {
    this.send.textContent = is ? "Stop" : "Ask";
    this.send.classList.toggle("danger", is);
  }

  async answer(shown, question, name, column, signal) {
    const [arm, adapter] = partsOf(name);
    try {
      const session = this.sessions[column] ?? await this.session(column);
      const body = { question, session, passages: true, ...(arm && { arm }), ...(adapter && { adapter }) };
      const row = await ask(body, {
        shown: (text) => shown.grow(text), signal, waiting: (seconds) => shown.wait(seconds),
      });
      shown.finish(row, question);
    } catch (error) {
      if (error.status === 400 && error.message.includes("no session")) this.sessions[column] = null;
      shown.fail(error, () => { shown.restart(); this.again(shown, question, name, column); });
    }
  }

  async again(shown, question, name, column) {
    if (this.working) return;
    const working = this.working = new AbortController();
    this.busy(true);
    await this.answer(shown, question, name, column, working.signal);
    this.working = null;
    this.busy(false);
  }

  async session(column) {
    const made = await (await request("/api/sessions", { method: "POST" })).json();
    this.sessions[column] = made.id;
    return made.id;
  }

  // ---- earlier conversations

  async list() {
    const place = byId("earlier-list");
    fill(place, el("p", { class: "note" }, "Loading"));
    try {
      const { sessions } = await get("/api/sessions");
      const kept = sessions.filter((s) => s.turns);
      fill(place, kept.length ? el("ul", { class: "plain" }, kept.map((s) => this.entry(s))) : empty("There is none yet."));
    } catch (error) {
      fill(place, fault(error));
    }
  }

  entry(session) {
    const line = el("li", {},
      el("button", { type: "button", class: "link", onclick: () => this.open(session.id) }, session.question),
      el("span", { class: "note" }, ` ${count(session.turns, "question")}, ${moment(session.used)} `),
      el("button", {
        type: "button", class: "link danger", "aria-label": `Delete the conversation: ${session.question}`,
        onclick: async () => {
          await request(`/api/sessions/${encodeURIComponent(session.id)}`, { method: "DELETE" });
          line.remove();
          if (this.sessions.includes(session.id)) this.begin();
        },
      }, "Delete"));
    return line;
  }

  async open(id) {
    this.working?.abort();
    try {
      const kept = await get(path(`/api/sessions/${encodeURIComponent(id)}`));
      this.sessions = [id, null];
      fill(this.talk);
      for (const one of kept.turns) {
        const answer = new Answer(armName(one.answer.arm), false);
        this.turn(one.question, [answer]);
        answer.finish({ ...one.answer, question: one.rewritten || one.question }, one.question, { quiet: true });
      }
      this.earlier.open = false;
      this.field.focus();
    } catch (error) {
      fill(byId("earlier-list"), fault(error));
    }
  }
}
