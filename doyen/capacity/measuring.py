"""Some documents → what this machine takes for each stage of an ingest, for a search and for an answer: Rates.

The stages are run one after the other and their processor seconds noted; the same files are then ingested for real into an
expert that is thrown away, whose clock and disk say what lies between and around the stages. A minute or two in all.
"""

from __future__ import annotations

import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np

from doyen.capacity.engine_rates import measure_engine
from doyen.capacity.rates import Line, Rates, Shape, fit_line
from doyen.capacity.sample import choose_files, copy_files, make_files, make_notes
from doyen.capacity.search_rates import measure_search, questions_of
from doyen.capacity.stored import Stored, store_bytes, store_start, stored_lines
from doyen.capacity.wanted import pages_of
from doyen.config import Settings, StoreSettings, settings_toml
from doyen.embedding import Embedder, load_embedder
from doyen.embedding.runtime import cores
from doyen.errors import UsageError
from doyen.evaluation.memory_notes import resident_gib
from doyen.finetuning.repeating import processor_name
from doyen.index.lance import LanceIndex
from doyen.index.rows import IndexEntry
from doyen.index.store import IndexManifest
from doyen.ingesting.opening import open_index
from doyen.originals import wanted_original
from doyen.parsing import Limits, WorkerPool
from doyen.parsing.tasks import Parsed, Parser, ParseTask
from doyen.retrieval.hybrid import Retriever

Say = Callable[[str], None]
_FEWEST = 4


@dataclass(frozen=True, slots=True)
class Timed:
    """A parsed item with the processor seconds of reading it, and of cutting it."""

    parsed: Parsed
    parse_s: float
    chunk_s: float


@dataclass(frozen=True, slots=True)
class TimedParser:
    """The workers' function: what `Parser` does, with a watch on its two halves."""

    parser: Parser

    def __call__(self, task: ParseTask) -> Timed:
        """Read and cut an item."""
        began = time.process_time()
        read = self.parser.read(task)
        between = time.process_time()
        parsed = self.parser.cut(read)
        return Timed(parsed, between - began, time.process_time() - between)


def measure(
    settings: Settings,
    *,
    sample: Path | None = None,
    answers: bool = True,
    expert: Path | None = None,
    say: Say = lambda _: None,
) -> Rates:
    """Measure this machine with the settings' embedder and model, on files of `sample` or on PDFs that are made.

    `answers` is whether the model is measured too. `expert` is the folder that relative names of models start from.

    Raises:
        UsageError: the sample has fewer than four files that can be read.
        ModelError: a model is not here.
    """
    settings = replace(settings, store=StoreSettings())
    with tempfile.TemporaryDirectory(prefix="doyen-capacity-") as made:
        work = Path(made)
        files = copy_files(choose_files(sample), work / "files") if sample else make_files(work / "files")
        say(f"reading {len(files)} files")
        timed = _parsed(files, settings)
        if len(timed) < _FEWEST:
            raise UsageError(f"{len(timed)} of {len(files)} sampled files can be read", hint="at least four are needed")
        say(f"embedding {sum(_vectors(one) for one in timed.values())} passages")
        embedder = load_embedder(settings.embedder, expert=expert)
        stages = _stages(list(timed.values()), embedder, settings, work)
        say("ingesting them as a whole")
        first, *_ = timed
        small = _ingest(copy_files([first], work / "one"), work / "small", settings)
        whole = _ingest(list(timed), work / "expert", settings)
        shape = _shape(timed, settings, embedder)
        notes = _ingest(make_notes(work / "notes"), work / "noted", settings)
        found = _composed(stages, shape, notes, whole)
        found["stored"] = lines = stored_lines(small.stored, notes.stored, whole.stored, embedder.dim)
        found["store_start"] = store_start(small.stored, lines, embedder.dim)
        say("searching and answering")
        retriever = Retriever(open_index(work / "expert", settings), embedder, settings.retrieval)
        passages = [c.text for one in timed.values() for _, chunks, _, _ in one.parsed.documents for c in chunks]
        questions = questions_of(passages)
        searched = measure_search(retriever, questions)
        engine = measure_engine(settings, retriever, questions, say) if answers else None
        return Rates(
            measured=datetime.now(UTC).date().isoformat(),
            sample=f"{len(timed)} files of {sample.name}" if sample else f"{len(timed)} made PDFs",
            cores=cores(),
            processor=processor_name(),
            embedder=embedder.fingerprint,
            dim=embedder.dim,
            shape=shape,
            search_chunks=retriever.index.chunk_count(),
            memory_gib=resident_gib() or 0.0,
            engine=engine,
            **found,
            **searched,
        )


def _parsed(files: Sequence[Path], settings: Settings) -> dict[Path, Timed]:
    """Read and cut the files in a worker; those that fail are left out."""
    from doyen.embedding import load_counter

    given = settings.ingest
    limits = Limits(given.file_timeout_s, given.file_memory_gib, given.file_max_characters)
    parser = TimedParser(Parser(load_counter(settings.embedder), settings.chunking.max_tokens, limits))
    tasks = [ParseTask(p.name, p.name, str(p), str(p.parent), p.read_bytes(), f"{i:064x}") for i, p in enumerate(files)]
    with WorkerPool(parser, workers=1, limits=limits) as pool:
        list(pool.run(tasks[:1]))  # the first loads the readers
        outcomes = list(pool.run(tasks))
    found = {o.task.name: o.result for o in outcomes if o.result is not None and o.result.parsed.documents}
    return {path: timed for path in files if (timed := found.get(path.name)) is not None}


def _vectors(timed: Timed) -> int:
    return sum(len(chunks) + len(summaries) for _, chunks, _, summaries in timed.parsed.documents)


def embedded_texts(parsed: Parsed) -> list[str]:
    """Return what the embedder reads of an item: passages and summaries, equal ones (of a document of one passage) once."""
    found = [chunk.indexed for _, chunks, _, _ in parsed.documents for chunk in chunks]
    return list(dict.fromkeys(found + [summary.indexed for *_, summaries in parsed.documents for summary in summaries]))


def _characters(timed: Timed) -> int:
    return sum(len(document.text) for document, *_ in timed.parsed.documents)


def _stages(timed: Sequence[Timed], embedder: Embedder, settings: Settings, work: Path) -> dict[str, Line]:
    documents = [float(len(one.parsed.documents)) for one in timed]
    characters = [float(_characters(one)) for one in timed]
    return {
        "parse": fit_line(documents, characters, [one.parse_s for one in timed]),
        "chunk": fit_line(documents, characters, [one.chunk_s for one in timed]),
        "embed": _embedded(timed, embedder),
        "index": _indexed(timed, embedder, settings, work / "index"),
    }


def _embedded(timed: Sequence[Timed], embedder: Embedder) -> Line:
    """Embed the passages in groups of like length, and fit the cost to number and tokens."""
    counted = {text: embedder.counter.count(text) for one in timed for text in embedded_texts(one.parsed)}
    texts = sorted(counted, key=counted.__getitem__)
    embedder.embed(texts[:8])
    groups = [list(group) for group in np.array_split(np.array(texts, dtype=object), min(6, max(1, len(texts) // 16)))]
    costs = []
    for group in groups:
        began = time.process_time()
        embedder.embed(group)
        costs.append(time.process_time() - began)
    tokens = [float(sum(counted[text] for text in group)) for group in groups]
    return fit_line([float(len(group)) for group in groups], tokens, costs)


def _indexed(timed: Sequence[Timed], embedder: Embedder, settings: Settings, folder: Path) -> Line:
    """Write one item, then the others, and close; what the others take is the cost of their passages."""
    counter = embedder.counter.fingerprint
    manifest = IndexManifest(
        settings.embedder.name, embedder.fingerprint, embedder.dim, settings.chunking.max_tokens, counter=counter
    )
    rng, costs = np.random.default_rng(7), []
    for number, group in enumerate((timed[:1], timed)):
        index = LanceIndex.open_or_create(folder / str(number), manifest)
        entries = [
            IndexEntry(d, "sample", c, d.id, d.sha256, "", k, s) for t in group for d, c, k, s in t.parsed.documents
        ]
        sizes = [sum(len(e.chunks) for e in entries), sum(len(e.summaries) for e in entries)]
        own, summaries = (_unit(rng, size, embedder.dim) for size in sizes)
        began = time.process_time()
        index.write(entries, own, summary_vectors=summaries)
        index.finish(whole=True, keep_versions_days=0)
        costs.append(time.process_time() - began)
    more = sum(map(_vectors, timed)) - _vectors(timed[0])
    return Line(max(costs[1] - costs[0], 0.0) / max(more, 1), 0.0, 0.2)


def _unit(rng: np.random.Generator, count: int, dim: int) -> np.ndarray:
    vectors = rng.standard_normal((count, dim)).astype(np.float32)
    return np.asarray(vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-9), dtype=np.float32)


# ---- a whole ingest


@dataclass(frozen=True, slots=True)
class Ingested:
    """What an ingest took, in seconds by the clock and of the processor, and what it left."""

    seconds: float
    cpu_s: float
    stored: Stored


def _ingest(files: Sequence[Path], expert: Path, settings: Settings) -> Ingested:
    """Ingest files in a process of its own, as `doyen ingest` does."""
    expert.mkdir(parents=True)
    (expert / "doyen.toml").write_text(settings_toml(settings), encoding="utf-8")
    command = [sys.executable, "-m", "doyen", "ingest", *map(str, files), "--expert", str(expert), "--json"]
    before, began = _children_s(), time.perf_counter()
    done = subprocess.run(command, capture_output=True, text=True)
    seconds, cpu = time.perf_counter() - began, _children_s() - before
    if done.returncode and not (expert / "index").is_dir():
        raise UsageError(f"the sample cannot be ingested: {done.stderr.strip()[-400:]}")
    index = open_index(expert, settings)
    documents = index.documents()
    chunks = index.chunk_count() + index.summary_count()
    characters = sum(document.characters for document in documents)
    return Ingested(seconds, cpu, Stored(store_bytes(expert), len(documents), chunks, characters))


def _children_s() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def _shape(timed: dict[Path, Timed], settings: Settings, embedder: Embedder) -> Shape:
    documents = sum(len(one.parsed.documents) for one in timed.values())
    keep = settings.documents.keep_originals
    sizes = {path: path.stat().st_size for path in timed}
    paged = sum(size for path, size in sizes.items() if wanted_original(keep, path.suffix))
    pages = sum(pages_of(len(d.pages), len(d.text)) for one in timed.values() for d, *_ in one.parsed.documents)
    return Shape(
        documents=documents,
        bytes=sum(sizes.values()) / documents,
        characters=sum(map(_characters, timed.values())) / documents,
        chunks=sum(map(_vectors, timed.values())) / documents,
        pages=pages / documents,
        paged=paged / sum(sizes.values()),
        tokens=sum(embedder.counter.count(t) for one in timed.values() for t in embedded_texts(one.parsed)) / documents,
    )


def _composed(stages: dict[str, Line], shape: Shape, notes: Ingested, whole: Ingested) -> dict[str, Any]:
    """Return what the ingest as a whole says beyond its stages, by what it took more than that of notes.

    The notes are many enough for all workers to start: one file would leave the start of the others to be counted as work.
    """
    tokens = shape.tokens / shape.characters

    def of_stages(one: Stored) -> float:
        read = stages["parse"](one.documents, one.characters) + stages["chunk"](one.documents, one.characters)
        return read + stages["embed"](one.chunks, tokens * one.characters) + stages["index"](one.chunks, one.characters)

    seconds, cpu = max(whole.seconds - notes.seconds, 1e-3), max(whole.cpu_s - notes.cpu_s, 1e-3)
    alone = of_stages(whole.stored) - of_stages(notes.stored)
    left = max(cpu - alone, 0.0) / max(whole.stored.chunks - notes.stored.chunks, 1)
    noted = f"the stages alone took {alone:.1f} s of processor time, within the ingest {cpu:.1f} s"
    return {
        "stages": stages | {"handing over": Line(left, 0.0, 0.3)},
        "start_s": notes.seconds,
        "start_cpu_s": notes.cpu_s,
        "busy": min(1.0, max(0.05, max(cpu, alone) / (seconds * cores()))),
        "notes": [noted],
    }
