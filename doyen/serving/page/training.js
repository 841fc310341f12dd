// The training runs: their curves, which grow while a run is at work.

import { get, request } from "./api.js";
import { duration, el, empty, fault, fill, moment, put } from "./dom.js";
import { chart, smoothed } from "./chart.js";
import { framed } from "./framed.js";

const POLL_MS = 3000;
const WORDS = { running: "at work", stopped: "stopped", done: "done" };

/** Show the runs, and the curve of one: that of the address, else the newest. */
export async function show(place, me, name) {
  put(place, el("h1", {}, "Training"));
  const { runs } = await get("/api/runs");
  if (!runs.length) {
    put(place, empty("Nothing was trained yet. ", el("code", {}, "doyen finetune"), " trains an adapter on the expert's examples."));
    return null;
  }
  const chosen = runs.find((r) => r.name === name) ?? runs[0];
  put(place, el("nav", { "aria-label": "Training runs" }, el("ul", { class: "pills" }, runs.map((r) => el("li", {},
    el("a", { href: `#training/${encodeURIComponent(r.name)}`, "aria-current": r === chosen && "true" }, r.name),
    " ", el("span", { class: `state ${r.state}` }, WORDS[r.state]))))));
  const shown = new Run(place, chosen.name);
  await shown.load();
  return () => shown.leave();
}

class Run {
  constructor(place, name) {
    this.name = name;
    this.title = el("h2", {}, name);
    this.about = el("p", { class: "note" });
    this.loss = el("div", { class: "chart" });
    this.rate = el("div", { class: "chart" });
    this.pace = el("div", { class: "chart" });
    this.keys = el("figcaption", {});
    this.more = el("div", {});
    put(place, this.title, this.about,
      el("figure", {}, el("h3", {}, "Loss"), this.keys, this.loss, el("figcaption", {}, "Nats a supervised token, by step.")),
      el("div", { class: "halves" },
        el("figure", {}, el("h3", {}, "Learning rate"), this.rate), el("figure", {}, el("h3", {}, "Tokens a second"), this.pace)),
      this.more);
    this.resized = new ResizeObserver(() => this.row && this.draw());
    this.resized.observe(place);
  }

  leave() {
    clearTimeout(this.timer);
    this.left = true;
    this.resized.disconnect();
  }

  async load() {
    try {
      this.row = await get(`/api/runs/${encodeURIComponent(this.name)}`);
    } catch (error) {
      fill(this.about, fault(error));
      return;
    }
    if (this.left) return;
    this.tell();
    this.draw();
    if (this.row.state === "running") this.timer = setTimeout(() => this.load(), POLL_MS);
    else if (this.row.has_page && !this.more.hasChildNodes()) put(this.more, this.page());
  }

  tell() {
    const { state, step, steps, facts, changed } = this.row;
    const parts = [facts.model, facts.method, state === "done" ? moment(facts.created) : `step ${step} of ${steps || "…"}`];
    if (state === "running" && facts.seconds_left) parts.push(`${duration(facts.seconds_left)} left`);
    if (state === "stopped") parts.push(`nothing new since ${moment(changed)}; doyen finetune --resume goes on`);
    if (state === "done") {
      parts.push(`${steps} steps in ${duration(facts.seconds)}`, `${facts.tokens.toLocaleString()} tokens`);
      if (facts.validation_loss !== null) parts.push(`held-out loss ${facts.validation_loss}`);
      if (facts.held_out?.stopped_early) parts.push(`stopped early, weights of step ${facts.held_out.kept_step} kept`);
    }
    this.about.textContent = parts.filter(Boolean).join(" · ");
  }

  draw() {
    const of = (key) => this.row.history.filter((r) => typeof r[key] === "number").map((r) => [r.step, r[key]]);
    const [each, held] = [of("loss"), of("held_out_loss")];
    if (!each.length) {
      fill(this.loss, empty("Nothing yet."));
      return;
    }
    const before = this.row.facts.held_out?.before;
    const curves = [{ css: "each", points: each }, { css: "smooth", points: smoothed(each) }];
    if (held.length) curves.push({ css: "held-out", points: before === undefined ? held : [[0, before], ...held], dots: true });
    fill(this.keys, el("span", { class: "key each" }, "each step"), el("span", { class: "key" }, "smoothed"),
      held.length > 0 && el("span", { class: "key held-out" }, "held-out examples"));
    chart(this.loss, curves, `Training loss from ${each[0][1].toFixed(3)} to ${each.at(-1)[1].toFixed(3)} in ${each.at(-1)[0]} steps`);
    chart(this.rate, [{ css: "smooth", points: of("learning_rate") }], "Learning rate by step", 140);
    chart(this.pace, [{ css: "smooth", points: of("tokens_per_s") }], "Tokens a second by step", 140);
  }

  page() {
    return el("p", {}, el("button", {
      type: "button", class: "quiet", id: "run-page",
      onclick: async () => {
        try {
          const text = await (await request(`/api/runs/${encodeURIComponent(this.name)}/training.html`)).text();
          fill(this.more, framed(`The page of the run ${this.name}`, text));
        } catch (error) {
          fill(this.more, fault(error));
        }
      },
    }, "All figures of this run"));
  }
}
