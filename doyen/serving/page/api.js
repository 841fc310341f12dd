// All that is asked of the server. A wrong key opens the key's dialog, a full queue is waited for, a server that is gone is
// told to whoever listens.

import { byId } from "./dom.js";

const KEPT = "doyen-key";
const MOST_WAITS = 6;
const listeners = new Set();
let asking = null;

export class ApiError extends Error {
  constructor(message, status, code) {
    super(message);
    this.status = status;
    this.code = code;
  }
}

/** Hear of the server: "here", "gone". */
export const listen = (heard) => listeners.add(heard);
const tell = (state) => listeners.forEach((heard) => heard(state));

export const hasKey = () => Boolean(sessionStorage.getItem(KEPT));
const headers = () => (hasKey() ? { Authorization: `Bearer ${sessionStorage.getItem(KEPT)}` } : {});

/** Ask for a key; all who wait for one get the same. */
export function askForKey(reason) {
  asking ??= new Promise((resolve) => {
    const dialog = byId("key-dialog"), field = byId("key-field");
    byId("key-reason").textContent = reason;
    field.value = "";
    dialog.oncancel = (event) => { if (!hasKey()) event.preventDefault(); };
    dialog.onclose = () => {
      const key = field.value.trim();
      if (key) sessionStorage.setItem(KEPT, key);
      field.value = "";
      asking = null;
      resolve();
    };
    if (!dialog.open) dialog.showModal();
    field.focus();
  });
  return asking;
}

const pause = (seconds, signal) => new Promise((resolve, reject) => {
  const left = () => reject(new DOMException("given up", "AbortError"));
  if (signal?.aborted) left();
  const timer = setTimeout(resolve, 1000 * seconds);
  signal?.addEventListener("abort", () => { clearTimeout(timer); left(); }, { once: true });
});

async function failure(answer) {
  let said = null;
  try { said = (await answer.json()).error; } catch { /* not of our form: the status has to do */ }
  return new ApiError(said?.message || `The server answered ${answer.status}.`, answer.status, said?.code);
}

/**
 * Fetch; returns a good answer. `waiting(seconds)` is told while a full queue is waited for.
 * Throws ApiError, with status 0 where the server does not answer, and AbortError.
 */
export async function request(path, { method = "GET", json, signal, waiting } = {}) {
  for (let tries = 0; ; tries += 1) {
    const given = { method, headers: headers(), signal };
    if (json !== undefined) {
      given.body = JSON.stringify(json);
      given.headers["Content-Type"] = "application/json";
    }
    let answer;
    try {
      answer = await fetch(path, given);
    } catch (error) {
      if (error.name === "AbortError") throw error;
      tell("gone");
      throw new ApiError("The server does not answer.", 0);
    }
    tell("here");
    if (answer.ok) return answer;
    const wrong = await failure(answer);
    if (answer.status === 401) {
      await askForKey(wrong.message);
    } else if (answer.status === 429 && tries < MOST_WAITS) {
      const seconds = Math.min(60, Number(answer.headers.get("Retry-After")) || 2);
      waiting?.(seconds);
      await pause(seconds, signal);
    } else {
      throw wrong;
    }
  }
}

export const get = async (path, given) => (await request(path, given)).json();

/** Write a path with its query; lists give a name several times, null and undefined are left out. */
export function path(base, query = {}) {
  const made = new URLSearchParams();
  for (const [name, value] of Object.entries(query)) {
    for (const one of Array.isArray(value) ? value : [value]) if (one !== null && one !== undefined) made.append(name, one);
  }
  const text = made.toString();
  return text ? `${base}?${text}` : base;
}

/** Ask with a stream; calls `shown(text)` for each piece and returns the answer's row. Throws ApiError, AbortError. */
export async function ask(question, { shown, signal, waiting }) {
  const answer = await request("/api/ask", { method: "POST", json: { ...question, stream: true }, signal, waiting });
  for await (const { name, data } of events(answer.body)) {
    if (name === "text") shown(data.text);
    if (name === "answer") return data;
    if (name === "error") throw new ApiError(data.error.message, 500, data.error.code);
  }
  tell("gone");
  throw new ApiError("The server broke off in the middle of the answer.", 0);
}

/** Read server-sent events out of a body. */
export async function* events(body) {
  const reader = body.pipeThrough(new TextDecoderStream()).getReader();
  let left = "";
  for (;;) {
    let piece;
    try {
      piece = await reader.read();
    } catch (error) {
      if (error.name === "AbortError") throw error;
      return;
    }
    if (piece.done) return;
    const blocks = (left + piece.value).split("\n\n");
    left = blocks.pop();
    for (const block of blocks) {
      const lines = block.split("\n");
      const name = lines.find((l) => l.startsWith("event: "))?.slice(7) ?? "";
      const data = lines.filter((l) => l.startsWith("data: ")).map((l) => l.slice(6)).join("\n");
      if (data) yield { name, data: JSON.parse(data) };
    }
  }
}

/** Upload files; `progress(share)` tells how much is sent. Returns the job. Throws ApiError. */
export async function upload(files, progress) {
  for (;;) {
    const answer = await send(files, progress);
    if (answer.status === 401) await askForKey(answer.message);
    else if (answer.status === 202) return answer.body;
    else throw new ApiError(answer.message, answer.status);
  }
}

function send(files, progress) {
  const form = new FormData();
  for (const file of files) form.append("files", file, file.name);
  return new Promise((resolve, reject) => {
    const sending = new XMLHttpRequest();
    sending.open("POST", "/api/upload");
    sending.responseType = "json";
    for (const [name, value] of Object.entries(headers())) sending.setRequestHeader(name, value);
    sending.upload.onprogress = (event) => { if (event.lengthComputable) progress(event.loaded / event.total); };
    sending.onerror = () => reject(new ApiError("The upload broke off: the server does not answer.", 0));
    sending.onload = () => {
      const body = sending.response, message = body?.error?.message || `The server answered ${sending.status}.`;
      resolve({ status: sending.status, body, message });
    };
    sending.send(form);
  });
}
