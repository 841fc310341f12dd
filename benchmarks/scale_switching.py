"""Readers, each a process of its own, that ask without pause while an index is re-embedded and switched, there and back.

Embedders are of hashed words (tests/small_stores.py) and each text has words of its own, so that the right first hit, and the
text of each hit, is known: a result of vectors of one model and questions of another, or of two states of the tables, would not
have them. A reader opens the index as `doyen serve` does, and again when it was made anew. See scale_store.py, part `switch`.
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests"))

from small_stores import HashEmbedder, make_expert, manifest_of, write_texts

import doyen
import doyen.expert
from doyen.config import EmbedderSettings, Settings, StoreSettings, load_settings
from doyen.expert import open_retriever
from doyen.index.places import place_of
from doyen.ingesting import index_place

MODELS = {f"hashing-{n}": HashEmbedder(f"hashing-{n}", dim=64 * n, version=n) for n in (2, 4)}
_FIRST, _SECOND = MODELS
_BATCH = 1000
_FOUND = 5


def name_of(number: int) -> str:
    """Return a document's id."""
    return f"{number:06}.txt"


def text_of(number: int) -> str:
    """Return its text."""
    return f"wheel{number} of hall{number} turns beside gate{number} of the mill"


def switching(expert: Path, uri: str, count: int, readers: int, *, rounds: int = 3) -> dict[str, Any]:
    """Fill an index, start readers, re-embed and go back `rounds` times, and return what the readers met with."""
    make_expert(expert, Settings(store=StoreSettings(uri), embedder=EmbedderSettings(name=_FIRST)))
    _fill(expert, uri, count)
    stop = expert / "stop"
    outs = [expert / f"reader-{n}.json" for n in range(readers)]
    command = [sys.executable, __file__, str(expert), str(count)]
    running = [subprocess.Popen([*command, str(out)]) for out in outs]
    while not all(out.with_suffix(".ready").exists() for out in outs):
        if any(process.poll() is not None for process in running):
            raise SystemExit("a reader did not start")
        time.sleep(0.1)
    started = time.perf_counter()
    switches = 0
    for _ in range(rounds):
        for done in ({"model": _SECOND}, {"undo": True}, {"model": _SECOND}, {"model": _FIRST}):
            doyen.reembed(expert, **done, embedder=MODELS[done.get("model", _FIRST)])  # type: ignore[arg-type]
            switches += 1
    seconds = time.perf_counter() - started
    time.sleep(1)
    stop.touch()
    for process in running:
        process.wait()
    return _together([json.loads(out.read_text()) for out in outs]) | {
        "chunks": count,
        "readers": readers,
        "switches": switches,
        "seconds": round(seconds, 1),
    }


def _fill(expert: Path, uri: str, count: int) -> None:
    place = place_of(uri, expert)
    index = place.open_or_create(manifest_of(MODELS[_FIRST]))
    with place.only_writer():
        index.take_hold()
        for first in range(0, count, _BATCH):
            numbers = range(first, min(first + _BATCH, count))
            write_texts(index, MODELS[_FIRST], {name_of(n): text_of(n) for n in numbers})
        index.finish()


def _together(found: list[dict[str, Any]]) -> dict[str, Any]:
    took = [ms for one in found for ms in one["took_ms"]]
    answers: Counter[str] = Counter()
    for one in found:
        answers.update(one["answers"])
    quantiles = {"p50": np.median(took), "p95": np.quantile(took, 0.95), "most": max(took)}
    return {
        "answers": dict(answers),
        "failed": sum(len(one["failed"]) for one in found),
        "mixed": sum(len(one["mixed"]) for one in found),
        "said": [said for one in found for said in (*one["failed"], *one["mixed"])][:5],
        "search_ms": {name: round(float(value), 1) for name, value in quantiles.items()},
    }


# ---- a reader


def read(expert: Path, count: int, out: Path) -> None:
    """Ask until the file `stop` is there, and write down the answers by embedder, and what went wrong."""
    doyen.expert.load_embedder = lambda named, **_: MODELS[named.name]  # type: ignore[assignment]
    rng = np.random.default_rng(int("".join(filter(str.isdigit, out.stem))))
    place, stamp, retriever = index_place(expert, load_settings(expert)), None, None
    answers, failed, mixed, took = Counter[str](), [], [], []
    while not (expert / "stop").exists():
        number = int(rng.integers(count))
        started = time.perf_counter()
        try:
            now = place.stamp()
            if retriever is None or now != stamp:
                stamp, retriever = now, open_retriever(expert, load_settings(expert))
            hits = retriever.search(text_of(number), _FOUND)
        except Exception as error:
            failed.append(repr(error)[:300])
            continue
        took.append(1e3 * (time.perf_counter() - started))
        answers[retriever.embedder.name] += 1
        if fault := _fault(number, [(hit.chunk.document, hit.chunk.text) for hit in hits], count):
            mixed.append(fault)
        out.with_suffix(".ready").touch()
    out.write_text(json.dumps({"answers": answers, "failed": failed, "mixed": mixed, "took_ms": took}))


def _fault(number: int, hits: list[tuple[str, str]], count: int) -> str:
    """Return what is wrong with a result, "" for nothing."""
    if len(hits) < min(_FOUND, count):
        return f"{name_of(number)}: {len(hits)} hits"
    if hits[0][0] != name_of(number):
        return f"{name_of(number)}: {hits[0][0]} came first"
    wrong = [document for document, text in hits if text != text_of(int(document.removesuffix(".txt")))]
    return f"{name_of(number)}: another text of {wrong[0]}" if wrong else ""


if __name__ == "__main__":
    read(Path(sys.argv[1]), int(sys.argv[2]), Path(sys.argv[3]))
