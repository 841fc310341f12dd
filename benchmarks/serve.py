"""`doyen serve` under load: first token, 16 clients asking and searching, and being killed.

    python benchmarks/serve.py first load kills --work DIR --expert EXPERT --questions Q.jsonl
    python benchmarks/serve.py search --work DIR --scale DIR/chunks-100000

Each part writes benchmarks/results/serve_PART.json. EXPERT is copied, with five passages a prompt and no kept answers; the
load needs some hundred different questions on it. The folder of `--scale` is what benchmarks/retrieval_scale.py makes. In
`load` the server and `transformers.generate` take turns, so that a busy machine slows both: transformers gets the same
prompts, one at a time, and writes as many tokens.
"""

from __future__ import annotations

import argparse
import dataclasses
import http.client
import itertools
import json
import random
import shutil
import statistics
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import measuring
from served import Client, Server, at_once, searching, serving, spread

from doyen.config import load_settings, settings_toml
from doyen.examples.importing import read_questions
from doyen.feedback import FeedbackBook

CLIENTS = 16
PASSAGES, ANSWER_TOKENS = 5, 60
LONG_ANSWER = r"(.|\n){150,}"
"""What makes answers of nearly ANSWER_TOKENS tokens, whatever the question; a longer one would end in filling."""
BARS = {
    "first": {"first_token_p50_s": 1.2},
    "load": {"memory_growth": 0.10, "over_transformers": 3.0},
    "search": {"per_s": 60, "p95_ms": 400, "one_client_p50_ms": 35},
    "kills": {"ready_s": 8.0},
}


def prepared(given: argparse.Namespace) -> Path:
    """Copy the expert, with the settings of the bars."""
    expert: Path = given.work / "expert"
    if not (expert / "index").is_dir():
        shutil.copytree(given.expert / "index", expert / "index")
    settings = load_settings(given.expert)
    answer = dataclasses.replace(settings.answer, arm="rag", adapter="", passages=PASSAGES, cache_mib=0)
    (expert / "doyen.toml").write_text(settings_toml(dataclasses.replace(settings, answer=answer)), encoding="utf-8")
    return expert


def questions_of(given: argparse.Namespace) -> list[str]:
    """Return the different questions, in an order of chance."""
    found = list(dict.fromkeys(q.question for q in read_questions(given.questions)))
    random.Random(7).shuffle(found)
    return found


# ---- the first token


def first(given: argparse.Namespace) -> dict[str, Any]:
    """One client: seconds from a question until the first text of its answer, and until its end."""
    with serving(prepared(given), given.work / "server.log") as server:
        client, rows = Client(server.port), []
        for question in questions_of(given)[: given.first + 2]:
            rows.append(_streamed(client, question))
        rows = [row for row in rows[2:] if row["text"]]  # two to warm up
    found = {name: spread([row[name] for row in rows]) for name in ("first_s", "whole_s")}
    more = {name: round(statistics.fmean(row[name] for row in rows)) for name in ("prompt_tokens", "completion_tokens")}
    return {"passages": PASSAGES, "answers": len(rows)} | found | more | {"first_token_p50_s": found["first_s"]["p50"]}


def _streamed(client: Client, question: str) -> dict[str, Any]:
    row = {"model": "doyen/rag", "messages": [{"role": "user", "content": question}], "stream": True}
    began, first_s, text, usage = time.perf_counter(), 0.0, "", {}
    answer = client.begin("/v1/chat/completions", row | {"stream_options": {"include_usage": True}})
    assert answer.status == 200, answer.read()
    for line in answer:
        if not line.startswith(b"data: {"):
            continue
        event = json.loads(line[6:])
        for choice in event.get("choices", ()):
            if piece := choice["delta"].get("content"):
                first_s = first_s or time.perf_counter() - began
                text += piece
        usage = event.get("usage") or usage
    return {"first_s": first_s, "whole_s": time.perf_counter() - began, "text": text} | usage


# ---- answers for many


def load(given: argparse.Namespace) -> dict[str, Any]:
    """CLIENTS clients with different questions, and transformers.generate one at a time, in turn."""
    expert, source = prepared(given), questions_of(given)
    waiting, lock = itertools.cycle(source), threading.Lock()
    theirs = OneByOne(expert)
    slices, memory, statuses = [], [], dict[str, int]()
    with serving(expert, given.work / "server.log") as server:
        watch = threading.Event()
        watcher = threading.Thread(target=_watch, args=(server, memory, watch), daemon=True)
        watcher.start()
        _slice(server, waiting, lock, min(20.0, given.seconds / 5), statuses)  # to warm up
        warm = len(memory)
        for _ in range(given.slices):
            answers, took = _slice(server, waiting, lock, given.seconds / given.slices, statuses)
            shown = answers[:: max(1, len(answers) // given.few)][: given.few]
            alone = theirs.seconds(shown)
            row = {
                "answers_per_s": len(answers) / took,
                "prompt_tokens": statistics.fmean(a["usage"]["prompt_tokens"] for a in answers),
                "completion_tokens": statistics.fmean(a["usage"]["completion_tokens"] for a in answers),
                "answer_p95_s": spread([a["seconds"] for a in answers])["p95"],
                "transformers_answers_per_s": len(shown) / alone,
            }
            row["ratio"] = row["answers_per_s"] / row["transformers_answers_per_s"]
            slices.append({name: round(value, 3) for name, value in row.items()})
            print(slices[-1])
        watch.set()
        watcher.join()
    after, end = memory[warm:], max(1, len(memory[warm:]) // 5)
    growth = max(after[-end:]) / max(after[:end]) - 1
    return {
        "clients": CLIENTS,
        "seconds": given.seconds,
        "statuses": statuses,
        "slices": slices,
        "over_transformers": round(statistics.median(s["ratio"] for s in slices), 2),
        "memory_gib": {"first": round(max(after[:end]) / 2**30, 3), "last": round(max(after[-end:]) / 2**30, 3)},
        "memory_growth": round(growth, 4),
        "errors": sum(count for status, count in statuses.items() if status not in ("200", "429")),
    }


def _watch(server: Server, memory: list[int], ended: threading.Event) -> None:
    while not ended.wait(2.0):
        memory.append(measuring.tree_bytes(server.process.pid))


def _slice(
    server: Server, questions: Iterator[str], lock: threading.Lock, seconds: float, statuses: dict[str, int]
) -> tuple[list[dict[str, Any]], float]:
    """Ask for so long; return the answers, and how long it took until the last of them was there."""
    began, answers = time.perf_counter(), list[dict[str, Any]]()

    def ask(_: int) -> None:
        client = Client(server.port)
        while time.perf_counter() - began < seconds:
            with lock:
                question = next(questions)
            started = time.perf_counter()
            row = {"question": question, "arm": "rag", "max_tokens": ANSWER_TOKENS, "regex": LONG_ANSWER}
            status, body = client.post("/api/ask", row)
            found = json.loads(body) if status == 200 else {}
            with lock:
                statuses[str(status)] = statuses.get(str(status), 0) + 1
                if found and found["usage"]["completion_tokens"]:  # the model was asked, it was not refused before that
                    answers.append(found | {"question": question, "seconds": time.perf_counter() - started})

    at_once(CLIENTS, ask)
    return answers, time.perf_counter() - began


class OneByOne:
    """`transformers.generate` with the prompts of the server's answers, each alone, and as many tokens as it wrote."""

    def __init__(self, expert: Path) -> None:
        import torch
        from transformers import AutoModelForCausalLM, AutoTokenizer

        from doyen.expert import open_retriever
        from doyen.models.fetching import require_model

        settings = load_settings(expert)
        folder = require_model(settings.model.name)
        self._retriever = open_retriever(expert, settings)
        self._tokenizer = AutoTokenizer.from_pretrained(folder)
        self._model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.bfloat16).eval()

    def seconds(self, answers: Sequence[dict[str, Any]]) -> float:
        """Return the time that the answers take, without making the prompts."""
        import torch

        from doyen.prompts import passages_messages

        took = 0.0
        for answer in answers:
            hits = self._retriever.search(answer["question"], 30)
            messages = passages_messages(answer["question"], self._retriever.passages(hits, PASSAGES))
            prompt = self._tokenizer.apply_chat_template(messages, add_generation_prompt=True, return_tensors="pt")
            ids = prompt["input_ids"]
            tokens = answer["usage"]["completion_tokens"]
            began = time.perf_counter()
            with torch.inference_mode():
                limits = {"min_new_tokens": tokens, "max_new_tokens": tokens, "do_sample": False, "pad_token_id": 0}
                self._model.generate(ids, attention_mask=torch.ones_like(ids), **limits)
            took += time.perf_counter() - began
        return took


# ---- searches


def search(given: argparse.Namespace) -> dict[str, Any]:
    """One client, then CLIENTS of them, at the search endpoint of a large index."""
    questions: list[str] = json.loads((given.scale / "questions.json").read_text(encoding="utf-8"))
    with serving(given.scale, given.work / "server.log") as server:
        client = Client(server.port)
        for question in questions[:20]:
            assert client.get(searching(question))[0] == 200
        one, alone = _searches(server, questions, 1, len(questions))
        _searches(server, questions, CLIENTS, 4 * CLIENTS)  # to warm up
        processor, began = server.processor_s(), time.perf_counter()
        many, took = [], 0.0
        while time.perf_counter() - began < given.seconds:
            found, seconds = _searches(server, questions, CLIENTS, len(questions))
            many, took = [*many, *found], took + seconds
        processor = (server.processor_s() - processor) / len(many)
    return {
        "one_client": spread(one, 1e3) | {"per_s": round(len(one) / alone, 1)},
        "many": spread(many, 1e3) | {"clients": CLIENTS, "searches": len(many)},
        "per_s": round(len(many) / took, 1),
        "p95_ms": spread(many, 1e3)["p95"],
        "one_client_p50_ms": spread(one, 1e3)["p50"],
        "server_processor_ms": round(1e3 * processor, 1),
    }


def _searches(server: Server, questions: Sequence[str], clients: int, count: int) -> tuple[list[float], float]:
    """Search for `count` questions; return the seconds of each, and of all together."""
    numbers, took = iter(range(count)), list[float]()

    def client(_: int) -> None:
        own = Client(server.port)
        for number in numbers:  # one iterator for all threads: each number comes once
            started = time.perf_counter()
            status, body = own.get(searching(questions[number % len(questions)]))
            took.append(time.perf_counter() - started)
            assert status == 200 and json.loads(body)["hits"], (status, body[:200])

    began = time.perf_counter()
    at_once(clients, client)
    return took, time.perf_counter() - began


# ---- being killed


def kills(given: argparse.Namespace) -> dict[str, Any]:
    """Kill -9 in mid-feedback, mid-ingest and mid-answer; what was accepted or finished is there again."""
    expert, rng, rows = prepared(given), random.Random(7), []
    shutil.rmtree(expert / "serving", ignore_errors=True)
    questions = questions_of(given)
    state = _State(expert)
    for number in range(given.rounds):
        for moment in (_in_feedback, _in_ingest, _in_answer):
            server = Server(expert, given.work / "server.log")
            try:
                moment(server, state, rng, questions, number)
            finally:
                server.kill()
            again = Server(expert, given.work / "server.log")
            try:
                rows.append({"killed": moment.__name__[1:], "ready_s": round(again.ready_s, 2)} | state.lost(again))
            finally:
                again.stop()
            print(rows[-1])
    lost = {name: sum(len(row[name]) for row in rows) for name in ("lost_feedback", "lost_documents", "lost_turns")}
    told = {"feedback": len(state.feedback), "documents": len(state.documents), "turns": len(state.turns)}
    return {"kills": rows, "accepted": told, "ready_s": max(row["ready_s"] for row in rows)} | lost


class _State:
    """What the server said that it has."""

    def __init__(self, expert: Path) -> None:
        self._book = FeedbackBook(expert)
        self.feedback: set[str] = set()
        self.documents: dict[str, str] = {}
        self.turns: dict[str, int] = {}

    def lost(self, server: Server) -> dict[str, Any]:
        """Return what a server that was started again has no more, and wait for the jobs that it goes on with."""
        client = Client(server.port)
        missing = [name for name, text in self.documents.items() if _text(client, name) != text]
        turns = [s for s, n in self.turns.items() if len(json.loads(client.get(f"/api/sessions/{s}")[1])["turns"]) < n]
        while any(j["state"] in ("queued", "running") for j in json.loads(client.get("/api/jobs")[1])["jobs"]):
            time.sleep(0.2)
        missing += [name for name, text in self.documents.items() if _text(client, name) != text]
        return {
            "lost_feedback": sorted(self.feedback - {row.id for row in self._book.rows()}),
            "lost_documents": sorted(set(missing)),
            "lost_turns": turns,
        }


def _text(client: Client, name: str) -> str | None:
    status, body = client.get(f"/api/document?id={name}&text=true")
    found: str | None = json.loads(body)["text"] if status == 200 else None
    return found


def _in_feedback(server: Server, state: _State, rng: random.Random, questions: Sequence[str], number: int) -> None:
    """Four clients give feedback; the server is killed under them."""

    def give(one: int) -> None:
        client = Client(server.port)
        while True:
            row = {"question": questions[one], "answer": f"{number}", "thumb": "up", "comment": "x" * 2000}
            try:
                status, body = client.post("/api/feedback", row)
            except (OSError, http.client.HTTPException):  # it is gone, perhaps in the middle of its answer
                return
            if status == 201:
                state.feedback.add(json.loads(body)["id"])

    threading.Timer(0.3 + rng.random(), server.kill).start()
    at_once(4, give)


def _in_ingest(server: Server, state: _State, rng: random.Random, questions: Sequence[str], number: int) -> None:
    """An upload is ingested whole, another is at work when the server is killed."""
    client = Client(server.port)
    files = {f"kept-{number}-{i}.txt": f"Kept {number} {i}. {questions[i]}\n" for i in range(3)}
    job = client.upload({name: text.encode() for name, text in files.items()})[1]["id"]
    while (state_now := json.loads(client.get(f"/api/jobs/{job}")[1])["state"]) in ("queued", "running"):
        time.sleep(0.1)
    assert state_now == "done", state_now
    for name in files:
        text = _text(client, f"uploads/{name}")
        assert text, name
        state.documents[f"uploads/{name}"] = text
    more = {f"more-{number}-{i}.txt": f"More {number} {i}. {questions[i]} ".encode() * 200 for i in range(40)}
    assert client.upload(more)[0] == 202
    time.sleep(1 + 4 * rng.random())


def _in_answer(server: Server, state: _State, rng: random.Random, questions: Sequence[str], number: int) -> None:
    """A conversation has a turn; its next answer is being written when the server is killed."""
    client = Client(server.port)
    session = json.loads(client.post("/api/sessions", {})[1])["id"]
    row: dict[str, Any] = {"question": questions[number], "arm": "rag", "session": session}
    assert client.post("/api/ask", row)[0] == 200
    state.turns[session] = 1
    more = row | {"question": questions[number + 1], "stream": True, "regex": LONG_ANSWER, "max_tokens": ANSWER_TOKENS}
    answer = client.begin("/api/ask", more)
    answer.readline()
    time.sleep(0.3 * rng.random())


PARTS: dict[str, Callable[[argparse.Namespace], dict[str, Any]]] = {
    "first": first,
    "load": load,
    "search": search,
    "kills": kills,
}


def main() -> None:
    parser = measuring.parser(__doc__ or "")
    parser.add_argument("parts", nargs="+", choices=list(PARTS))
    parser.add_argument("--expert", type=Path, help="expert with an index; it is copied")
    parser.add_argument("--questions", type=Path, help="questions on it (contract form)")
    parser.add_argument("--scale", type=Path, help="a store of benchmarks/retrieval_scale.py, for `search`")
    parser.add_argument("--seconds", type=float, default=300.0, help="how long clients ask")
    parser.add_argument("--slices", type=int, default=10, help="turns of server and transformers in that time")
    parser.add_argument(
        "--few", type=int, default=5, help="answers by transformers a slice; a fifth of those of `first`"
    )
    parser.add_argument("--first", type=int, default=40, help="questions for the first token")
    parser.add_argument("--rounds", type=int, default=5, help="kills at each moment")
    parser.add_argument("--note", default="", help="what else the machine did")
    given = parser.parse_args()
    given.work.mkdir(parents=True, exist_ok=True)
    for part in given.parts:
        found = PARTS[part](given)
        print(json.dumps(found, indent=1))
        out = None if given.out is None else given.out.with_name(f"{given.out.stem}_{part}.json")
        measuring.save(f"serve_{part}", {"note": given.note, "bars": BARS[part]} | found, out)


if __name__ == "__main__":
    main()
