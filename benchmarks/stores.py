"""The same documents and questions in both stores, LanceDB and PostgreSQL: are the hits the same, and what does it cost.

    python benchmarks/stores.py --work DIR --data SET… [--server URI] [--documents 200] [--questions 300]

SET has `docs/` and `questions.jsonl`; where `docs/` has a folder for each language, each is a run. doyen ingests with the
settings of `doyen init` and the same embedder into both; --documents takes the first so many files (those with gold first).
--server is a PostgreSQL database with pgvector (`postgresql://user@host/database`); without it one is started from the
package pgserver, on a socket, with its own settings. Times are of one process, stores in turn, question by question:
`search` is the whole search with the question's embedding, `dense` and `text` are the two queries of 200 rows alone.

Bar: at 10, 95% of the hits of one store are those of the other, on each set.
"""

from __future__ import annotations

import contextlib
import shutil
import statistics
import tempfile
import time
import warnings
from argparse import Namespace
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from measuring import parser, save
from retrieval_sets import QuestionSet, sets_of

import doyen
from doyen.config import load_settings
from doyen.expert import open_retriever
from doyen.index.postgresql.connecting import close_databases
from doyen.records import Hit
from doyen.retrieval.hybrid import Retriever
from doyen.retrieval.terms import question_terms

LEAST_OVERLAP = 0.95
ROWS = 200
Places = list[tuple[str, int]]


@contextlib.contextmanager
def server(given: str | None) -> Iterator[str]:
    """Give the URI of a database: the given one, or that of a server which is started for this."""
    if given:
        yield given
        return
    import pgserver

    with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        started = pgserver.get_server(Path(folder) / "pg", cleanup_mode="delete")
        yield f"postgresql://postgres@/postgres?host={next(Path(folder).rglob('.s.PGSQL.5432')).parent}"
        close_databases()
        started.cleanup()


def chosen(asked: QuestionSet, folder: Path, documents: int) -> Path:
    """Return the files to ingest: all of a set, or a folder with copies of the first so many."""
    files = sorted(p for p in asked.folder.rglob("*") if p.is_file())
    if not documents or len(files) <= documents:
        return asked.folder
    gold = {g.document for q in asked.questions for g in q.gold}
    files.sort(key=lambda p: (p.relative_to(asked.root).as_posix() not in gold, p))
    for path in files[:documents]:
        copy = folder / path.relative_to(asked.folder)
        copy.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(path, copy)
    return folder


def filled(expert: Path, store: str | None, files: Path) -> dict[str, Any]:
    """Make an expert in a store; return what ingest took, and one that finds nothing new."""
    shutil.rmtree(expert, ignore_errors=True)
    doyen.init(expert, store=store)
    report = doyen.ingest(expert, [files])
    again = doyen.ingest(expert)
    return {
        "documents": len(report.new),
        "chunks": report.chunks,
        "ingest_s": round(report.seconds, 2),
        "again_s": round(again.seconds, 2),
    }


def places(hits: Sequence[Hit]) -> Places:
    return [(hit.chunk.document, hit.chunk.start) for hit in hits]


def overlap(one: Sequence[Places], other: Sequence[Places]) -> float:
    """Return the mean share of the longer list's places that both lists have."""
    shares = [len(set(a) & set(b)) / max(len(a), len(b), 1) if a or b else 1.0 for a, b in zip(one, other, strict=True)]
    return round(statistics.mean(shares), 4)


def timed(work: Callable[[str], Any], questions: Sequence[str]) -> tuple[list[Any], dict[str, float]]:
    """Return the results for questions one by one, and the time that one takes."""
    for question in questions[:20]:
        work(question)
    results, took_ms = [], []
    for question in questions:
        started = time.perf_counter()
        results.append(work(question))
        took_ms.append(1000 * (time.perf_counter() - started))
    cuts = statistics.quantiles(took_ms, n=20)
    return results, {"p50_ms": round(statistics.median(took_ms), 1), "p95_ms": round(cuts[-1], 1)}


def found(retriever: Retriever, questions: Sequence[str]) -> tuple[dict[str, list[Places]], dict[str, Any]]:
    """Return the places found by the search and by its two queries alone, and their times."""
    vectors = dict(zip(questions, retriever.embedder.embed(list(questions), kind="query"), strict=True))
    index = retriever.index

    def rows(found: Sequence[Any]) -> Places:
        return [(row.document, row.start) for row in found]

    work: dict[str, Callable[[str], Places]] = {
        "search": lambda q: places(retriever.search(q, 10)),
        "dense": lambda q: rows(index.nearest_rows(vectors[q], ROWS))[:10],
        "text": lambda q: rows(index.matching_rows(question_terms(q).text, ROWS))[:10],
    }
    done = {name: timed(one, questions) for name, one in work.items()}
    return {name: one[0] for name, one in done.items()}, {name: one[1] for name, one in done.items()}


def measured(asked: QuestionSet, uri: str, arguments: Namespace) -> dict[str, Any]:
    """Compare the stores on one set."""
    work = arguments.work / asked.name
    files = chosen(asked, work / "files", arguments.documents)
    questions = list(dict.fromkeys(q.question for q in asked.questions))[: arguments.questions]
    stores: dict[str, dict[str, Any]] = {}
    hits: dict[str, dict[str, list[Places]]] = {}
    for name, store in (("lancedb", None), ("postgresql", uri)):
        expert = work / name
        stores[name] = filled(expert, store, files)
        hits[name], times = found(open_retriever(expert, load_settings(expert)), questions)
        stores[name] |= times
        print(asked.name, name, stores[name])
    both = hits["lancedb"], hits["postgresql"]
    first = [a[:1] == b[:1] for a, b in zip(both[0]["search"], both[1]["search"], strict=True)]
    return {
        "questions": len(questions),
        "stores": stores,
        "overlap_at_10": {name: overlap(both[0][name], both[1][name]) for name in both[0]},
        "same_first": round(statistics.mean(first), 4),
    }


def main() -> None:
    options = parser(__doc__ or "")
    options.add_argument("--data", type=Path, nargs="+", required=True)
    options.add_argument("--server", default=None, help="a database with pgvector; without it one is started")
    options.add_argument("--documents", type=int, default=0, help="most files of a set; 0: all")
    options.add_argument("--questions", type=int, default=300, help="most questions of a set")
    options.add_argument("--languages", nargs="*", default=None, help="of sets by language, those to take")
    arguments = options.parse_args()
    sets = {asked.name: asked for data in arguments.data for asked in sets_of(data)}
    if arguments.languages:
        sets = {name: asked for name, asked in sets.items() if name.rpartition(".")[2] in arguments.languages}
    with server(arguments.server) as uri:
        results = {name: measured(asked, uri, arguments) for name, asked in sets.items()}
    least = min(row["overlap_at_10"]["search"] for row in results.values())
    bars = {"overlap at 10 (bar: 0.95)": {"value": least, "met": least >= LEAST_OVERLAP}}
    save("stores", {"sets": results, "bars": bars, "server": arguments.server or "pgserver"}, arguments.out)
    print(bars)


if __name__ == "__main__":
    main()
