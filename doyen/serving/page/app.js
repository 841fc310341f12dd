// The page: which view is shown, and how the server does. Views are modules with `show(place, me, rest)`; what it returns is
// called when the view is left.

import { askForKey, get, hasKey, listen } from "./api.js";
import { byId, el, fault, fill } from "./dom.js";
import { show as ask } from "./ask.js";
import { show as comparisons } from "./comparisons.js";
import { show as library } from "./library.js";
import { show as review } from "./review.js";
import { show as search } from "./search.js";
import { show as status } from "./status.js";
import { show as training } from "./training.js";

const VIEWS = { ask, search, library, review, comparisons, training, status };
const AGAIN_MS = 2000;
let me = null;
let learning = null;
let leave = null;
let watching = null;
let shown = 0;

async function route({ focus = true } = {}) {
  const [name, ...rest] = location.hash.slice(1).split("/");
  const view = VIEWS[name] ? name : "ask", own = (shown += 1);
  for (const link of byId("views").querySelectorAll("a")) {
    if (link.hash === `#${view}`) {
      link.setAttribute("aria-current", "page");
      link.scrollIntoView({ block: "nearest", inline: "nearest" });
    } else link.removeAttribute("aria-current");
  }
  leave?.();
  leave = null;
  const place = el("div", { class: `view ${view}` });
  fill(byId("view"), place);
  document.title = `${byId("views").querySelector(`[href="#${view}"]`).textContent} · doyen`;
  try {
    me ??= await (learning ??= learn());
    if (own !== shown) return;
    const left = await VIEWS[view](place, me, decoded(rest.join("/")));
    if (own === shown) leave = left ?? null;
    else left?.();
  } catch (error) {
    if (own === shown) fill(place, fault(error));
  }
  if (focus) byId("view").focus({ preventScroll: true });
  scrollTo(0, 0);
}

function decoded(text) {
  try { return decodeURIComponent(text); } catch { return ""; }
}

/** Learn who asks, and what the expert has. */
async function learn() {
  try { me = await get("/api/me"); } finally { learning = null; }
  byId("expert-name").textContent = me.expert;
  byId("change-key").hidden = !me.keys;
  byId("views").querySelector("[href='#review']").parentElement.hidden = me.role === "reader";
  return me;
}

// ---- how the server does

function heard(state) {
  if (state === "gone" && watching === null) watch("The server does not answer. This page tries again every two seconds.");
}

async function watch(text) {
  fill(byId("notices"), el("p", { class: "notice" }, text));
  watching ??= setTimeout(again, AGAIN_MS);
}

async function again() {
  watching = null;
  let state = null;
  try { state = (await (await fetch("/healthz")).json()).state; } catch { /* still gone */ }
  if (state === "ready") {
    fill(byId("notices"));
    if (me === null) route({ focus: false });
  } else {
    watch(state === null
      ? "The server does not answer. This page tries again every two seconds."
      : state === "loading" ? "The models are being loaded: answers come in a moment." : "The server is being stopped.");
  }
}

listen(heard);
byId("change-key").addEventListener("click", async () => {
  await askForKey(hasKey() ? "Another key, in place of the one in use." : "This server takes requests with a key only.");
  me = null;
  route();
});
addEventListener("hashchange", () => route());
document.querySelector(".skip").addEventListener("click", (event) => {
  event.preventDefault();
  byId("view").focus();
});
again();
route({ focus: false });
