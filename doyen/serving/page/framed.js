// A finished HTML page (a report) in a frame that is served into a sandbox: it draws, and reaches nothing.

import { el } from "./dom.js";

/** Return the frame; `text` is the page's whole HTML. */
export function framed(title, text) {
  const frame = el("iframe", { class: "report", title, src: "/page/frame.html", sandbox: "allow-scripts" });
  const ready = (event) => {
    if (event.source !== frame.contentWindow || event.data !== "ready") return;
    removeEventListener("message", ready);
    frame.contentWindow.postMessage(text, "*");
  };
  addEventListener("message", ready);
  return frame;
}
