"""Does `doyen plan` predict? Rates from one set at a small size, the prediction for another, larger one, and its real run.

    python benchmarks/capacity.py --work DIR --measured-on DIR --held-out DIR… [--documents N] [--answers-s 120]

Folders of documents are yours; none of their text is kept. The held-out corpus is told to the plan by what a user knows of
it: number of files, their bytes, characters a document (`given`), or by a look at 60 of its files (`looked`), in which the
lengths of their texts, of prompts and answers over them, what an index of them takes on the disk, and what a search of them
takes (it hangs on the texts' lengths) are taken; searches of the look and of the whole are timed in turn, since a second of
either would tell what else the machine did in that second. All other rates of seconds are those of the first set, measured anew just
before each held-out set, as a machine that others use is not as fast an hour later; remove --work to measure all anew. Then
the set is ingested as a whole, searched, and served to 1, 4 and 16 clients. Bar: storage, ingest time, search time and
answers per second within 25%. What was measured is kept in --work: the same command goes on where it was stopped.

Times are by the clock; processor seconds stand beside them. Run it on a quiet machine: with other work on it, compare those.
"""

from __future__ import annotations

import argparse
import dataclasses
import itertools
import json
import os
import random
import resource
import shutil
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
from measuring import parser, save
from served import Client, at_once, serving

import doyen
from doyen.capacity.engine_rates import measure_engine
from doyen.capacity.measuring import embedded_texts, measure
from doyen.capacity.plan import plan_capacity
from doyen.capacity.queueing import NodeSpeed, Questions, Simulation
from doyen.capacity.rates import Rates, Shape, load_rates
from doyen.capacity.recorded import with_recorded_store
from doyen.capacity.sample import choose_files, copy_files
from doyen.capacity.search_rates import measure_search, questions_of
from doyen.capacity.serving import load_of, search_seconds
from doyen.capacity.stored import store_bytes
from doyen.capacity.wanted import Wanted, pages_of
from doyen.config import AnswerSettings, ServeSettings, Settings, settings_toml
from doyen.documents.reading import SUFFIXES, read_documents
from doyen.expert import open_retriever
from doyen.ingesting import open_index
from doyen.sources.folder import list_files

BAR = 0.25
CLIENTS = (1, 4, 16)
SEARCH_TURNS = 9
QUESTIONS = 1000
WARM_SHARE = 0.2
ANSWER_LIMIT_S = 900.0
LOOKED_AT = 60
"""Files of a held-out set: as many as `doyen plan --measure --sample` takes."""


def chosen(folder: Path, into: Path, documents: int) -> Path:
    """Copy a seeded choice of the files."""
    shutil.rmtree(into, ignore_errors=True)
    files = list_files(folder, SUFFIXES)[0]
    random.Random(5).shuffle(files)
    for path in files[:documents]:
        target = into / path.relative_to(folder)
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(path, target)
    return into


def known_of(files: Path) -> Wanted:
    """What a user knows: how many, how large, how long a document is."""
    paths = list_files(files, SUFFIXES)[0]
    texts = [d for p in paths for d in read_documents(p.read_bytes(), p.name, p.name).documents]
    pages = sum(pages_of(len(d.pages), len(d.text)) for d in texts) / len(texts)
    characters = sum(len(d.text) for d in texts) / len(texts)
    size = sum(p.stat().st_size for p in paths) / len(texts)
    return Wanted(len(texts), pages=pages, page_characters=characters / pages, document_bytes=size)


def look_at(files: Path, rates: Rates, settings: Settings, expert: Path) -> tuple[Shape, Rates]:
    """The shape of LOOKED_AT files, and the rates with their store and the lengths of prompts and answers over them.

    `expert` is made of these files.
    """
    from doyen.embedding import load_counter
    from doyen.parsing import Limits
    from doyen.parsing.tasks import Parser, ParseTask

    counter = load_counter(settings.embedder)
    parse = Parser(counter, settings.chunking.max_tokens, Limits())
    paths = choose_files(files, LOOKED_AT)
    found = [parse(ParseTask(p.name, p.name, str(p), str(files), p.read_bytes(), "0" * 64)) for p in paths]
    rows = [row for one in found for row in one.documents]
    count = len(rows)
    shape = Shape(
        documents=count,
        bytes=sum(p.stat().st_size for p in paths) / count,
        characters=sum(len(d.text) for d, *_ in rows) / count,
        chunks=sum(len(c) + len(s) for _, c, _, s in rows) / count,
        pages=sum(pages_of(len(d.pages), len(d.text)) for d, *_ in rows) / count,
        paged=rates.shape.paged,
        tokens=sum(counter.count(text) for one in found for text in embedded_texts(one)) / count,
    )
    return shape, with_own(paths, rates, settings, shape, expert)


def with_own(paths: Sequence[Path], rates: Rates, settings: Settings, shape: Shape, expert: Path) -> Rates:
    """The rates, with an expert's of some files: its store, the lengths of prompts and answers."""
    shutil.rmtree(expert, ignore_errors=True)
    expert.mkdir(parents=True)
    (expert / "doyen.toml").write_text(settings_toml(settings), encoding="utf-8")
    with TemporaryDirectory() as made:
        doyen.ingest(expert, [copy_files(paths, Path(made) / "files")[0].parent])
    rates = with_recorded_store(rates, expert, settings, shape)
    if rates.engine is None:
        return rates
    own = measure_engine(settings, open_retriever(expert, settings), asked_of(expert, settings), print)
    assert own is not None
    lengths = {"prompt_tokens": own.prompt_tokens, "answer_tokens": own.answer_tokens}
    return dataclasses.replace(rates, engine=dataclasses.replace(rates.engine, **lengths))


def kept(path: Path, make: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    """Return what an earlier run wrote, or make and write it, with the machine's load before and after."""
    if not path.exists():
        before = os.getloadavg()[0]
        row = make() | {f"load_{path.stem}": [round(before, 1), round(os.getloadavg()[0], 1)]}
        path.write_text(json.dumps(row), encoding="utf-8")
    found: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return found


def asked_of(expert: Path, settings: Settings) -> list[str]:
    """Questions in the words of an expert's documents."""
    index = open_index(expert, settings)
    documents = random.Random(3).sample(index.documents(), min(200, len(index.documents())))
    return questions_of([chunk.text for chunk in index.chunks_of([d.id for d in documents])], QUESTIONS)


def really(files: Path, look: Path, work: Path, settings: Settings, answers_s: float) -> dict[str, Any]:
    """Ingest, search and serve; return what it took, and what searches of the `look` took in turn with it."""
    expert = work / "expert"
    row = kept(work / "ingest.json", lambda: ingested(files, expert, settings))
    row |= kept(work / "search.json", lambda: searched_in_turn(look, expert, settings))
    questions = asked_of(expert, settings)
    return row | kept(work / "answers.json", lambda: served(expert, work, questions, answers_s)) if answers_s else row


def searched_in_turn(look: Path, expert: Path, settings: Settings) -> dict[str, Any]:
    """Medians over SEARCH_TURNS of what a search takes; of the look under `look`, with its number of chunks."""
    sides = [(open_retriever(one, settings), asked_of(one, settings)) for one in (look, expert)]
    turns = [[measure_search(*side) for side in sides] for _ in range(SEARCH_TURNS)]
    own, whole = ({name: statistics.median(t[i][name] for t in turns) for name in turns[0][0]} for i in (0, 1))
    return whole | {"look": own | {"search_chunks": sides[0][0].index.chunk_count()}}


def ingested(files: Path, expert: Path, settings: Settings) -> dict[str, Any]:
    """Ingest anew, in a process of its own."""
    shutil.rmtree(expert, ignore_errors=True)
    expert.mkdir(parents=True)
    (expert / "doyen.toml").write_text(settings_toml(settings), encoding="utf-8")
    command = [sys.executable, "-m", "doyen", "ingest", str(files), "--expert", str(expert), "--json"]
    used, began = children_s(), time.perf_counter()
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    row: dict[str, Any] = {"ingest_s": time.perf_counter() - began, "ingest_cpu_s": children_s() - used}
    stored = store_bytes(expert)
    row |= {"storage_gb": sum(stored.values()) / 1e9, "storage_by_part": stored}
    index = open_index(expert, settings)
    return row | {"chunks": index.chunk_count() + index.summary_count()}  # the plan counts vectors


def children_s() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


@dataclasses.dataclass
class Answered:
    """When an answer came, after how long, and its tokens."""

    ended: float
    seconds: float
    prompt_tokens: int
    completion_tokens: int


def served(expert: Path, work: Path, questions: Sequence[str], seconds: float) -> dict[str, Any]:
    """Ask with some clients at a time, each its next question when it has an answer; none is asked twice while others are left.

    What is answered before all clients are under way (the first fifth of the time) does not count.
    """
    row: dict[str, Any] = {}
    source, lock = itertools.cycle(questions), threading.Lock()
    with serving(expert, work / "server.log") as server:
        Client(server.port).post("/api/ask", {"question": "What is this about?", "arm": "rag"})
        for clients in CLIENTS:
            used, began = server.processor_s(), time.perf_counter()
            made = asked(server.port, clients, source, lock, began + seconds)
            cpu_s = (server.processor_s() - used) / max(1, len(made))
            kept = [one for one in made if began + WARM_SHARE * seconds <= one.ended <= began + seconds]
            if not kept:
                raise SystemExit(f"no answer to {clients} clients in {seconds:g} s: a longer --answers-s")
            row[f"answers_per_s_{clients}"] = len(kept) / (seconds * (1 - WARM_SHARE))
            row[f"answer_p95_s_{clients}"] = float(np.percentile([one.seconds for one in kept], 95))
            row[f"answer_cpu_s_{clients}"] = cpu_s
            row[f"prompt_tokens_{clients}"] = statistics.fmean(one.prompt_tokens for one in kept)
            row[f"answer_tokens_{clients}"] = statistics.fmean(one.completion_tokens for one in kept)
    return row


def asked(port: int, clients: int, source: Iterator[str], lock: threading.Lock, until: float) -> list[Answered]:
    """Let clients ask until a moment; return all answers. Raises SystemExit for a status other than 200."""
    made: list[Answered] = []

    def ask(_: int) -> None:
        client = Client(port, ANSWER_LIMIT_S)
        while time.perf_counter() < until:
            with lock:
                question = next(source)
            started = time.perf_counter()
            status, body = client.post("/api/ask", {"question": question, "arm": "rag"})
            if status != 200:
                raise SystemExit(f"the server answered {status}: {body[:200]!r}")
            usage = json.loads(body)["usage"]
            ended = time.perf_counter()
            with lock:
                made.append(Answered(ended, ended - started, usage["prompt_tokens"], usage["completion_tokens"]))

    at_once(clients, ask)
    return made


def closed_loop(speed: NodeSpeed, questions: Questions, clients: int, count: int = 3000) -> tuple[float, float]:
    """Simulate clients who ask again when they are answered: answers a second, 95th percentile.

    Each new question arrives when an earlier one is answered.
    """
    rng = np.random.default_rng(5)
    drawn = questions.drawn(count, rng)
    if clients == 1:
        whole = drawn.read_s + drawn.tokens * speed.step(1)
        return 1 / float(whole.mean()), float(np.percentile(whole, 95))
    run = Simulation(speed, 1, drawn)
    asked = [0.0] * len(drawn.read_s)
    waiting = list(range(len(drawn.read_s)))[::-1]
    for _number in range(clients):
        run.arrive(waiting.pop(), 0.0)
    now = 0.0
    while waiting:
        before = run.nodes[0].count
        now = run.nodes[0].next_event()
        run.run_until(now)
        for _number in range(before - run.nodes[0].count):
            question = waiting.pop()
            asked[question] = now
            run.arrive(question, now)
    ended = np.array(run.ended)
    done = ~np.isnan(ended)
    times = ended[done] - np.array(asked)[done]
    return float(done.sum() / now), float(np.percentile(times, 95))


def predicted(wanted: Wanted, rates: Rates, shape: Shape | None) -> dict[str, Any]:
    """Return what the plan says, in the units of `really`."""
    plan = plan_capacity(wanted, rates, shape=shape)
    hours = next(figure for name, figure in plan.ingest.items() if name.startswith("hours on one node"))
    search = search_seconds(plan.corpus["chunks"].value, rates)
    row = {
        "chunks": plan.corpus["chunks"].value,
        "storage_gb": plan.storage_gb["total"].value,
        "ingest_s": hours.value * 3600,
        "ingest_cpu_s": plan.ingest["core-hours"].value * 3600 + rates.start_cpu_s,
        "search_s": search.value * rates.search_s / rates.search_cpu_s,
        "search_cpu_s": search.value,
        "search_together_cpu_s": search.value * rates.search_together_cpu_s / rates.search_cpu_s,
    }
    if rates.engine:
        speed, questions = load_of(rates.engine, search, rates)
        for clients in CLIENTS:
            per_s, p95 = closed_loop(speed, questions, clients)
            row |= {f"answers_per_s_{clients}": per_s, f"answer_p95_s_{clients}": p95}
            row[f"prompt_tokens_{clients}"] = statistics.fmean(rates.engine.prompt_tokens)
            row[f"answer_tokens_{clients}"] = statistics.fmean(rates.engine.answer_tokens)
    return row


def against(predicted_row: dict[str, Any], real: dict[str, Any]) -> dict[str, float]:
    """Return by how much each prediction is off: 0.1 for a tenth too much, -0.1 for a tenth too little."""
    return {name: round(value / real[name] - 1, 3) for name, value in predicted_row.items() if real.get(name)}


BARRED = ("storage_gb", "ingest_s", "search_s", *(f"answers_per_s_{c}" for c in CLIENTS))


def rates_of(given: argparse.Namespace, settings: Settings, path: Path) -> Rates:
    """Measure, or take what an earlier run measured."""
    if (kept := load_rates(path)) is not None:
        print(f"rates of {path.name} are taken")
        return kept
    found = measure(settings, sample=given.measured_on, answers=bool(given.answers_s), say=print)
    found.save(path)
    return found


def one_set(folder: Path, given: argparse.Namespace, settings: Settings) -> dict[str, Any]:
    """Predict for a held-out set, then run it; a set that was run already keeps its figures."""
    name = folder.parent.name if folder.name == "docs" else folder.name
    work = given.work / f"{name}-{given.documents}"
    files = chosen(folder, work / "files", given.documents)
    known = known_of(files)
    rates = rates_of(given, settings, work / "rates.json")
    shape, as_looked = look_at(files, rates, settings, work / "look")
    real = really(files, work / "look", work, settings, given.answers_s)
    as_looked = dataclasses.replace(as_looked, **real.pop("look"))
    guesses = {
        "given": predicted(known, rates, None),
        "looked": predicted(Wanted(known.documents), as_looked, shape),
    }
    off = {way: against(guess, real) for way, guess in guesses.items()}
    print(name, json.dumps(off, indent=1))
    found = {"set": name, "documents": known.documents, "predicted": guesses, "real": real, "off": off}
    return found | {"rates": rates.as_dict()}


def main() -> None:
    made = parser(__doc__ or "")
    made.add_argument("--measured-on", type=Path, required=True)
    made.add_argument("--held-out", type=Path, nargs="+", required=True)
    made.add_argument("--documents", type=int, default=1000, help="files of each held-out set")
    made.add_argument("--answers-s", type=float, default=120.0, help="seconds of asking for each number of clients")
    given = made.parse_args()
    settings = Settings(answer=AnswerSettings(arm="rag", cache_mib=0), serve=ServeSettings(time_limit_s=ANSWER_LIMIT_S))
    rows = [one_set(folder, given, settings) for folder in given.held_out]
    worst = {way: max(abs(r["off"][way].get(n, 0.0)) for r in rows for n in BARRED) for way in ("given", "looked")}
    result = {"bar": BAR, "worst": worst, "within": {way: value <= BAR for way, value in worst.items()}}
    save("capacity", result | {"sets": rows}, given.out)


if __name__ == "__main__":
    main()
