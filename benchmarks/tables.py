"""Questions over tables: right answers by level, with the table given; and questions over texts that go to a table wrongly.

    python benchmarks/tables.py --data DIR --work DIR [--text DIR…] [--split test] [--limit N]
    python benchmarks/tables.py --data DIR --work DIR --endpoint http://localhost:8000/v1 --model NAME

`--data` is a set in the open form (`docs/*.csv`, `questions.jsonl` with `level` and `named`: name → value). Templates answer;
what they leave is left open without `--endpoint`, because a model of 135M parameters writes no SQL that is right. A number
is right within 1%. `--text` are sets of questions over texts: each is routed with the tables of `--data` present, three of
them (drawn by a seed) as if search had found them. Nothing is embedded: search is not measured here.
"""

from __future__ import annotations

import json
import random
import re
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from measuring import PACKAGES, parser, save

from doyen.config import ModelSettings
from doyen.documents.reading import SUFFIXES, read_document
from doyen.index.filtering import DocumentSet, Visible
from doyen.index.rows import IndexedDocument, may_hold_table
from doyen.models.engine import Engine
from doyen.models.serving import serving_engine
from doyen.records import Chunk, Document, Hit, Page
from doyen.tables.answering import Tables
from doyen.tables.asked import read_question
from doyen.tables.catalogue import list_tables
from doyen.tables.loading import load
from doyen.tables.routing import THRESHOLD, candidates, route

SEED = 7
FOUND = 3
TOLERANCE = 0.01
_NAMED = re.compile(r"@([\w.%-]+)\[([^\]]*)\]")


class Folder:
    """The documents of a folder as an index has them, as far as tables need it."""

    def __init__(self, folder: Path) -> None:
        files = [p for p in sorted(folder.rglob("*")) if p.suffix.lower() in SUFFIXES]
        self._documents = {d.id: d for d in (read_document(p, p.relative_to(folder).as_posix()) for p in files)}

    def iter_documents(self, *, among: Visible | None = None) -> Iterator[IndexedDocument]:
        """Yield all documents."""
        return (_indexed(d) for d in self._documents.values())

    def with_tables(self, *, among: Visible | None = None) -> list[IndexedDocument]:
        """Return those with tables."""
        return [d for d in self.iter_documents() if may_hold_table(d)]

    def text(self, document: str, sha256: str | None = None) -> tuple[str, tuple[Page, ...]]:
        """Return a document's text."""
        return self._documents[document].text, ()


def _indexed(d: Document) -> IndexedDocument:
    names = (
        "id",
        "source",
        "sha256",
        "version",
        "title",
        "media_type",
        "language",
        "labels",
        "modified_at",
        "metadata",
    )
    own = {name: getattr(d, name) for name in names}
    return IndexedDocument(
        **own, root="", item=d.id, item_sha256=d.sha256, stamp="", pages=0, chunks=0, characters=len(d.text)
    )


def main() -> None:
    options = parser(__doc__ or "")
    options.add_argument("--data", type=Path, required=True, help="the set of questions over tables")
    options.add_argument("--text", type=Path, nargs="*", default=[], help="sets of questions over texts")
    options.add_argument("--split", default="", help="only questions of this split")
    options.add_argument("--limit", type=int, default=0, help="the first N questions of each set; 0: all")
    options.add_argument("--endpoint", default="", help="base URL of an OpenAI-style server")
    options.add_argument("--model", default="", help="its model")
    arguments = options.parse_args()
    started = time.perf_counter()
    folder = Folder(arguments.data / "docs")
    print(f"{len(folder.with_tables())} tables read in {time.perf_counter() - started:.0f} s")
    engine = None
    if arguments.endpoint:
        engine = serving_engine(ModelSettings(name=arguments.model, engine="server", endpoint=arguments.endpoint))
    questions = _questions(arguments.data, arguments.split, arguments.limit)
    result: dict[str, Any] = {"seed": SEED, "model": arguments.model or "none: templates", "data": arguments.data.name}
    result |= {"split": arguments.split or "all", "versions_more": _versions(), "threshold": THRESHOLD}
    arguments.work.mkdir(parents=True, exist_ok=True)
    result["levels"] = accuracy(folder, questions, engine, arguments.work / "answers.jsonl")
    result["text_questions_routed_to_a_table"] = {
        path.name: false_routes(folder, _questions(path, "", arguments.limit)) for path in arguments.text
    }
    print(json.dumps(result, indent=1))
    save("tables", result, arguments.out)


def _versions() -> dict[str, str]:
    import importlib.metadata

    return {name: importlib.metadata.version(name) for name in ("duckdb", "pyarrow") if name not in PACKAGES}


def _questions(path: Path, split: str, limit: int) -> list[dict[str, Any]]:
    rows = [json.loads(line) for line in (path / "questions.jsonl").read_text(encoding="utf-8").splitlines()]
    rows = [row for row in rows if not split or row.get("split") == split]
    return rows[:limit] if limit else rows


def accuracy(
    folder: Folder, questions: Sequence[dict[str, Any]], engine: Engine | None, out: Path
) -> dict[str, dict[str, Any]]:
    """Answer each question with its table given; return the figures of each level and of all."""
    counts: dict[str, Counter[str]] = {}
    seconds: list[float] = []
    with out.open("w", encoding="utf-8") as file:
        for row in questions:
            gold = row["gold"][0]["document"]
            where = DocumentSet(frozenset((gold,)))
            listed = list_tables(folder, where=where)  # type: ignore[arg-type]
            started = time.perf_counter()
            answer = Tables(folder, where, engine).answers([row["question"]], [[_hit(gold)]], listed).get(0)  # type: ignore[arg-type]
            seconds.append(time.perf_counter() - started)
            right = _right(answer.text if answer else "", row)
            for level in (row.get("level", "all"), "all"):
                own = counts.setdefault(level, Counter())
                own.update(questions=1, answered=int(answer is not None))
                own.update(all_right=int(all(right)), some_right=int(any(right)))
            line = {"id": row["id"], "answer": answer.text if answer else None, "right": all(right)}
            line |= {"sql": answer.citations[0].sql if answer and answer.citations else None}
            file.write(json.dumps(line, ensure_ascii=False) + "\n")
    shares = {level: _shares(own) for level, own in sorted(counts.items())}
    shares["all"]["seconds_a_question_median"] = round(sorted(seconds)[len(seconds) // 2], 3)
    return shares


def _shares(counts: Counter[str]) -> dict[str, Any]:
    n = counts["questions"]
    accuracy_ = {"accuracy": round(counts["all_right"] / n, 4), "some_value_right": round(counts["some_right"] / n, 4)}
    given = {"right_of_answered": round(counts["all_right"] / counts["answered"], 4) if counts["answered"] else None}
    return dict(counts) | accuracy_ | given


def _right(text: str, row: dict[str, Any]) -> list[bool]:
    """Tell of each wanted value whether the answer has it."""
    if "named" in row:
        given = dict(_NAMED.findall(text))
        return [_same(given.get(name, ""), value) for name, value in row["named"].items()]
    return [any(_same(text, answer) or answer.lower() in text.lower() for answer in row["answers"])]


def _same(given: str, wanted: str) -> bool:
    try:
        a, b = float(given.replace(",", "")), float(str(wanted).replace(",", ""))
    except ValueError:
        return " ".join(re.findall(r"\w+", given.lower())) == " ".join(re.findall(r"\w+", str(wanted).lower())) != ""
    return abs(a - b) <= TOLERANCE * abs(b) + 1e-9


def _hit(document: str) -> Hit:
    return Hit(Chunk(document, 0, 0, ""), 1.0)


def false_routes(folder: Folder, questions: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Route questions over texts with the tables present; return how many go to one."""
    listed = list_tables(folder)  # type: ignore[arg-type]
    draw = random.Random(SEED)
    wrong = []
    for row in questions:
        asked = read_question(row["question"])
        found = [table.document for table in draw.sample(listed, min(FOUND, len(listed)))]
        chosen = [load(folder, table) for table in candidates(asked, listed, found)]  # type: ignore[arg-type]
        if route(asked, chosen) is not None:
            wrong.append(row["id"])
    return {"questions": len(questions), "routed": len(wrong), "share": round(len(wrong) / max(len(questions), 1), 5)}


if __name__ == "__main__":
    main()
