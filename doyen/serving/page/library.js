// The library: uploads with their progress, what could not be read and why, the documents.

import { get, path, request, upload } from "./api.js";
import { byId, count, el, empty, fault, fill, moment, put, say, table } from "./dom.js";
import { showSource } from "./source.js";

const A_PAGE = 50, POLL_MS = 700, MOST_FILES = 100;
const WORDS = { queued: "waits", running: "at work", done: "done", failed: "failed", cancelled: "stopped" };
let offset = 0;

/** Show the view. */
export function show(place, me) {
  const editor = me.role !== "reader";
  let timer = null;
  offset = 0;
  put(place, el("h1", {}, "Library"), editor && dropZone(me, poll),
    el("section", { id: "jobs", "aria-label": "Uploads and readings" }), el("section", { id: "unread" }), search(), el("div", { id: "documents" }));
  if (editor) takeDrops(place, me, poll);
  documents(editor);
  if (editor) unread();
  poll();
  return () => { clearTimeout(timer); timer = "left"; };

  async function poll() {
    if (timer === "left") return;
    clearTimeout(timer);
    let jobs = [];
    try { ({ jobs } = await get("/api/jobs")); } catch (error) { fill(byId("jobs"), fault(error)); return; }
    if (timer === "left" || !byId("jobs")) return;
    const ended = showJobs(jobs, editor, poll);
    if (ended) {
      documents(editor);
      if (editor) unread();
      me.documents = true;
    }
    if (jobs.some(works)) timer = setTimeout(poll, POLL_MS);
  }
}

// ---- uploading

function dropZone(me, poll) {
  const chosen = (event) => { send([...event.target.files], me, poll); event.target.value = ""; };
  return el("div", { class: "drop", id: "drop" },
    el("p", {}, "Drop files here, or ",
      el("input", { type: "file", id: "files", multiple: true, class: "unseen", onchange: chosen }),
      el("label", { for: "files", class: "as-button" }, "choose files")),
    el("p", { class: "note" }, `PDF, Word, PowerPoint, Excel, HTML, Markdown, CSV, mail and more; up to ${me.upload_mib} MiB at once.`),
    el("div", { id: "sending" }));
}

function takeDrops(place, me, poll) {
  const over = (is) => byId("drop")?.classList.toggle("over", is);
  place.addEventListener("dragover", (event) => { event.preventDefault(); over(true); });
  place.addEventListener("dragleave", (event) => { if (!place.contains(event.relatedTarget)) over(false); });
  place.addEventListener("drop", (event) => {
    event.preventDefault();
    over(false);
    send([...event.dataTransfer.files], me, poll);
  });
}

async function send(files, me, poll) {
  if (!files.length) return;
  const place = byId("sending"), bytes = files.reduce((sum, f) => sum + f.size, 0);
  if (files.length > MOST_FILES) { fill(place, fault(new Error(`${files.length} files; at most ${MOST_FILES} are taken at once.`))); return; }
  if (bytes > me.upload_mib * 2 ** 20) {
    fill(place, fault(new Error(`${Math.ceil(bytes / 2 ** 20)} MiB; at most ${me.upload_mib} MiB are taken at once.`)));
    return;
  }
  const bar = el("progress", { max: 1, value: 0, "aria-label": "Upload" });
  fill(place, el("p", { class: "note" }, `Uploading ${count(files.length, "file")}`), bar);
  try {
    await upload(files, (share) => { bar.value = share; });
    fill(place);
    say("Uploaded. The files are being read.");
    poll();
  } catch (error) {
    fill(place, fault(error));
  }
}

// ---- jobs

const works = (job) => job.state === "queued" || job.state === "running";
const open = new Set();

/** Show the newest jobs; returns whether one that was at work has ended. */
function showJobs(jobs, editor, poll) {
  let ended = false;
  for (const job of jobs) {
    if (works(job)) open.add(job.id);
    else if (open.delete(job.id)) {
      ended = true;
      say(`${title(job)}: ${WORDS[job.state]}. ${outcome(job)}`);
    }
  }
  const again = editor && el("button", {
    type: "button", class: "quiet",
    onclick: async () => {
      try { await request("/api/jobs", { method: "POST" }); poll(); } catch (error) { put(byId("jobs"), fault(error)); }
    },
  }, "Read all sources again");
  const [newest, older] = [jobs.slice(0, 3), jobs.slice(3)];
  const was = byId("jobs").querySelector("details")?.open;
  fill(byId("jobs"), el("div", { class: "section-head" }, el("h2", {}, "Uploads and readings"), again),
    jobs.length ? el("ul", { class: "jobs" }, newest.map((job) => entry(job, editor, poll))) : empty("Nothing was uploaded yet."),
    older.length > 0 && el("details", { open: was }, el("summary", {}, `Earlier ones (${older.length})`),
      el("ul", { class: "jobs" }, older.map((job) => entry(job, editor, poll)))));
  return ended;
}

const title = (job) => (job.kind === "upload"
  ? job.files.slice(0, 3).join(", ") + (job.files.length > 3 ? ` and ${job.files.length - 3} more` : "") : "All sources");

function outcome(job) {
  if (job.error) return job.error;
  const counts = job.report.counts;
  if (!counts) return "";
  return ["new", "changed", "unchanged", "removed", "failed"].filter((k) => counts[k]).map((k) => `${counts[k]} ${k}`).join(", ");
}

function entry(job, editor, poll) {
  const files = job.report.failed ?? [];
  const doing = job.total ? `${job.stage} ${job.done} of ${job.total}` : job.stage;
  return el("li", { class: `job ${job.state}`, "data-job": job.id },
    el("div", { class: "job-line" }, el("strong", {}, title(job)),
      el("span", { class: `state ${job.state}` }, WORDS[job.state]),
      el("span", { class: "note" }, moment(job.finished ?? job.created)),
      works(job) && editor && el("button", {
        type: "button", class: "link danger",
        onclick: async () => { await request(`/api/jobs/${encodeURIComponent(job.id)}`, { method: "DELETE" }).catch(() => {}); poll(); },
      }, "Stop")),
    works(job) && el("progress", { "aria-label": `Progress of ${title(job)}`, max: job.total || 1, value: job.total ? job.done : null }),
    el("p", { class: job.error ? "fault" : "note" }, works(job) ? doing : outcome(job)),
    files.length > 0 && reasons(files.map((f) => [f.file, f.reason])),
    (job.report.warnings ?? []).length > 0 && el("details", {}, el("summary", {}, `Remarks (${job.report.warnings.length})`),
      reasons(job.report.warnings.map((w) => [w.document, w.remark]))));
}

const reasons = (rows) => el("dl", { class: "reasons" }, rows.map(([name, why]) => [el("dt", {}, last(name)), el("dd", {}, why)]));
const last = (name) => name.split("/").pop();

async function unread() {
  let found;
  try { found = (await get("/api/status")).failed; } catch { return; }
  if (byId("unread")) {
    fill(byId("unread"), found.length > 0 && [el("h2", {}, `Files that could not be read (${found.length})`),
      reasons(found.map((f) => [f.file, f.reason]))]);
  }
}

// ---- documents

function search() {
  let waits = null;
  return el("div", { class: "section-head" }, el("h2", {}, "Documents"),
    el("label", { for: "contains", class: "unseen" }, "Find in names and titles"),
    el("input", {
      id: "contains", type: "search", placeholder: "Find in names and titles",
      oninput: () => { clearTimeout(waits); waits = setTimeout(() => { offset = 0; documents(byId("drop") !== null); }, 250); },
    }));
}

async function documents(editor) {
  const contains = byId("contains").value.trim();
  let found;
  try {
    found = await get(path("/api/documents", { offset, limit: A_PAGE, contains }));
  } catch (error) {
    if (byId("documents")) fill(byId("documents"), fault(error));
    return;
  }
  if (!byId("documents")) return;
  if (!found.total) {
    fill(byId("documents"), empty(contains ? "No name or title holds that." : editor ? "No document yet: drop some files above." : "No document yet."));
    return;
  }
  const heads = ["Document", "Kind", "Pages", "Passages", "Changed", ...(editor ? ["Delete"] : [])];
  const turn = (by) => { offset += by; documents(editor); };
  fill(byId("documents"), table(`${count(found.total, "document")}`, heads, found.documents.map((d) => row(d, editor)), "documents"),
    found.total > A_PAGE && el("p", { class: "tools" },
      el("button", { type: "button", class: "quiet", disabled: offset === 0, onclick: () => turn(-A_PAGE) }, "Previous"),
      el("span", { class: "note" }, `${offset + 1} to ${offset + found.documents.length} of ${found.total}`),
      el("button", { type: "button", class: "quiet", disabled: offset + A_PAGE >= found.total, onclick: () => turn(A_PAGE) }, "Next")));
}

function row(document_, editor) {
  const name = [
    el("button", { type: "button", class: "link", onclick: () => showSource({ document: document_.id }) }, document_.title || document_.id),
    el("span", { class: "note id" }, document_.id)];
  const kind = last(document_.id).includes(".") ? last(document_.id).split(".").pop().toLowerCase() : document_.media_type;
  const cells = [name, kind, document_.pages || "", document_.chunks, moment(document_.modified_at)];
  return editor ? [...cells, el("button", {
    type: "button", class: "link danger", "aria-label": `Delete ${document_.id}`, onclick: () => remove(document_),
  }, "Delete")] : cells;
}

async function remove(document_) {
  const sure = await confirmed("Delete this document?",
    `${document_.id} is taken out of the index with its older versions, and answers and conversations that it was shown in are erased.`, "Delete");
  if (!sure) return;
  try {
    await request(path("/api/document", { id: document_.id }), { method: "DELETE" });
    say(`${document_.id} was deleted.`);
    documents(true);
  } catch (error) {
    put(byId("documents"), fault(error));
  }
}

function confirmed(title_, text, yes) {
  const dialog = byId("confirm-dialog");
  byId("confirm-title").textContent = title_;
  byId("confirm-text").textContent = text;
  byId("confirm-yes").textContent = yes;
  dialog.returnValue = "no";
  dialog.showModal();
  return new Promise((resolve) => { dialog.onclose = () => resolve(dialog.returnValue === "yes"); });
}
