"""Search in 100,000 and 1,000,000 chunks: latency, recall, memory, cold start, many threads.

    python benchmarks/retrieval_scale.py --work DIR --expert EXPERT --chunks 100000 1000000

makes stores of that many synthetic chunks, and a summary a document, from the real chunks of an expert
(benchmarks/synthetic_chunks.py) through `LanceIndex.write` and `finish`, and measures `Retriever.search` in a process of its
own, query embedding included. Recall is against the exact search, for synthetic chunks and for synthetic questions; embedded
questions show the distances that real ones have. Say in --note what else the machine was doing.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import measuring
import numpy as np
from synthetic_chunks import Synthesis, Texts, neighbour_cosines, quantiles

from doyen.config import load_settings
from doyen.expert import open_retriever
from doyen.folder import init
from doyen.index.lance import IndexEntry, LanceIndex
from doyen.index.rows import matrix
from doyen.index.scanning import nearest_of_many
from doyen.index.tables import rows_of
from doyen.index.vector_matrix import open_matrix
from doyen.ingesting import index_place, open_index
from doyen.records import Chunk, Document, Summary

SEED = 7
QUERIES = 200
THREADS = 32
_BATCH = 10_000
_CHUNKS_A_DOCUMENT = 20
_FITTED_AT = 400_000  # vectors: fitting takes seven exact searches; the result tells the distances that came of it


def main() -> None:
    """Make the stores and measure them."""
    options = measuring.parser(__doc__ or "")
    options.add_argument("--expert", type=Path, help="expert whose chunks are the pattern")
    options.add_argument("--chunks", type=int, nargs="+", default=[100_000, 1_000_000])
    options.add_argument("--note", default="", help="what else the machine did")
    options.add_argument("--measure", type=Path, default=None, help=argparse.SUPPRESS)
    given = options.parse_args()
    if given.measure is not None:
        print(json.dumps(measured(given.measure)))
        return
    result: dict[str, Any] = {"seed": SEED, "note": given.note, "stores": []}
    for count in given.chunks:
        folder = given.work / f"chunks-{count}"
        if not (folder / "made.json").is_file():
            make_store(given.expert, folder, count)
        made = json.loads((folder / "made.json").read_text())
        command = [sys.executable, __file__, "--work", str(given.work), "--measure", str(folder)]
        found = json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout)
        result["stores"].append(made | found | {"cold_search_s": cold_search(folder)})
        print(json.dumps(result["stores"][-1], indent=1))
    measuring.save("retrieval_scale", result, given.out)


# ---- the store


def make_store(expert: Path, folder: Path, count: int, wrote: Callable[[int], None] = lambda _: None) -> None:
    """Write `count` synthetic chunks like those of an expert, with queries beside them.

    `wrote` is called with the number of chunks after each batch, and once more when the index is finished.
    """
    rng = np.random.default_rng(SEED)
    source = open_index(expert, load_settings(expert))
    batches = list(rows_of(source.tables.chunks, ("vector", "searched")))
    real = np.concatenate([matrix(batch["vector"], source.manifest.dim) for batch in batches])
    texts = Texts([text for batch in batches for text in batch["searched"].to_pylist()])
    synthesis = Synthesis.of(real).fitted(min(count, _FITTED_AT), rng)
    init(folder)
    target = index_place(folder, load_settings(folder)).state
    index = LanceIndex.open_or_create(target, source.manifest)
    started = time.perf_counter()
    for first in range(0, count, _BATCH):
        size = min(_BATCH, count - first)
        vectors = synthesis.make(size, rng)
        index.write(_documents(first, texts.make(size, rng)), vectors, summary_vectors=_summary_vectors(vectors))
        wrote(first + size)
    written = time.perf_counter()
    index.finish()
    finished = time.perf_counter()
    wrote(count)
    np.save(folder / "queries.npy", synthesis.make(QUERIES, rng))
    (folder / "questions.json").write_text(json.dumps(texts.questions(QUERIES, rng)), encoding="utf-8")
    snapshot = open_matrix(target, source.manifest.dim)
    assert snapshot is not None
    sample = np.load(folder / "queries.npy")
    places = nearest_of_many(snapshot.vectors, sample, 10)[:, -1]
    tenth = (sample * snapshot.vectors[places].astype(np.float32)).sum(axis=1)
    made = {"chunks": count, "real_chunks": len(real), "spread": round(synthesis.spread, 3)}
    made |= {
        "tenth_neighbour_cosine": {
            "real": quantiles(neighbour_cosines(real, real[::20])),
            "synthetic": quantiles(tenth),
        }
    }
    made |= {"write_s": round(written - started, 1), "finish_s": round(finished - written, 1)}
    (folder / "made.json").write_text(json.dumps(made))


def _documents(first: int, texts: list[str]) -> list[IndexEntry]:
    entries = []
    for start in range(0, len(texts), _CHUNKS_A_DOCUMENT):
        name = f"part{first // 100_000:02d}/{(first + start) // _CHUNKS_A_DOCUMENT:06d}.md"
        chunks, place = [], 0
        for text in texts[start : start + _CHUNKS_A_DOCUMENT]:
            chunks.append(Chunk(name, place, place + len(text), text, sha256=name, language="en"))
            place += len(text) + 1
        document = Document(name, "", name, "text/markdown", name, name, "en")
        first_text = chunks[0].text
        summary = Summary(name, None, 0, len(first_text), first_text, ((0, len(first_text)),), first_text)
        entries.append(IndexEntry(document, "/", chunks, sketch=bytes(256), summaries=[summary]))
    return entries


def _summary_vectors(vectors: Any) -> Any:
    """Return the unit mean of each document's chunk vectors, as of its summary."""
    starts = np.arange(0, len(vectors), _CHUNKS_A_DOCUMENT)
    means = np.add.reduceat(vectors, starts, axis=0)
    return means / np.linalg.norm(means, axis=1, keepdims=True)


# ---- what is measured


def measured(folder: Path) -> dict[str, Any]:
    """Measure one store: warm latency, its parts, recall, threads, memory."""
    retriever = open_retriever(folder, load_settings(folder))
    questions = json.loads((folder / "questions.json").read_text(encoding="utf-8"))
    queries = np.load(folder / "queries.npy")
    index = retriever.index
    where = index.filter_condition(["folder=part00"])
    for question in questions[:20]:
        retriever.search(question)
    snapshot = open_matrix(index.folder, index.manifest.dim)
    assert snapshot is not None
    found: dict[str, Any] = {"search_ms": timed(lambda i: retriever.search(questions[i]))}
    parts: dict[str, Callable[[int], object]] = {
        "embed": lambda i: retriever.embedder.embed([questions[i]]),
        "nearest": lambda i: index.nearest_rows(queries[i], 100),
        "matching": lambda i: index.matching_rows(questions[i], 100),
        "filtered": lambda i: retriever.search(questions[i], where=where),
    }
    rows = [[row.row for row in index.nearest_rows(query, 10)] for query in queries]
    parts["fetch"] = lambda i: index.chunks_at(rows[i])
    found["parts_ms"] = {name: timed(part) for name, part in parts.items()}
    embedded = retriever.embedder.embed(questions)
    found["recall_at_10"] = {
        name: recall(index, snapshot, v) for name, v in (("chunks", queries), ("questions", embedded))
    }
    known = index.recall()
    found["recall_in_manifest"] = None if known is None else {"value": known.value, "rescored": known.rescored}
    found["threads"] = threads(retriever.search, questions)
    found["resident_gib"] = round(resident_gib(), 2)
    return found


def timed(work: Callable[[int], object]) -> dict[str, float]:
    """Return the median and the 95th percentile of QUERIES calls, in ms, and the processor time that one takes."""
    took = []
    before = time.process_time()
    for i in range(QUERIES):
        started = time.perf_counter()
        work(i)
        took.append(1e3 * (time.perf_counter() - started))
    processor = 1e3 * (time.process_time() - before) / QUERIES
    figures = {"p50": np.median(took), "p95": np.quantile(took, 0.95), "processor": processor}
    return {name: round(float(value), 2) for name, value in figures.items()}


def recall(index: LanceIndex, snapshot: Any, queries: Any) -> float:
    """Return the share of the 10 nearest (exact, float32 of the stored float16) that the search finds."""
    truth = nearest_of_many(snapshot.vectors, queries, 10)
    shares = []
    for wanted, query in zip(truth, queries, strict=True):
        rows = {row.row for row in index.nearest_rows(query, 100)[:10]}
        shares.append(len(rows.intersection(snapshot.rows[wanted].tolist())) / 10)
    return round(float(np.mean(shares)), 4)


def threads(search: Callable[[str], Any], questions: list[str]) -> dict[str, Any]:
    """Return the throughput of one thread and of THREADS, and whether their hits are the same."""

    def hits(question: str) -> list[tuple[str, int]]:
        return [(hit.chunk.document, hit.chunk.start) for hit in search(question)]

    started = time.perf_counter()
    one = [hits(question) for question in questions]
    alone = time.perf_counter() - started
    with ThreadPoolExecutor(THREADS) as pool:
        started = time.perf_counter()
        many = list(pool.map(hits, questions * 2))
        together = time.perf_counter() - started
    rates = len(questions) / alone, 2 * len(questions) / together
    return {
        "threads": THREADS,
        "one_per_s": round(rates[0], 1),
        "all_per_s": round(rates[1], 1),
        "ratio": round(rates[1] / rates[0], 2),
        "same_hits": many == one * 2,
    }


def resident_gib() -> float:
    """Return the most memory that this process has held, mapped files included."""
    status = Path("/proc/self/status").read_text()
    return int(status.split("VmHWM:")[1].split()[0]) / 2**20


def cold_search(folder: Path) -> list[float]:
    """Return the seconds of three `doyen search`, each in a new process."""
    took = []
    for question in json.loads((folder / "questions.json").read_text(encoding="utf-8"))[:3]:
        started = time.perf_counter()
        command = [
            sys.executable,
            "-c",
            "from doyen.cli import main; main()",
            "search",
            "--json",
            "--expert",
            str(folder),
        ]
        command += ["--", question]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL, env=os.environ)
        took.append(round(time.perf_counter() - started, 2))
    return took


if __name__ == "__main__":
    main()
