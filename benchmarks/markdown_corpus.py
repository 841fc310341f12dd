"""Ingest and search a Markdown corpus that you bring: rate, memory, a second ingest, hit@k, citations checked.

    python benchmarks/markdown_corpus.py --data DIR --work DIR       # dev-it-aws: docs/ and questions.jsonl

Bars: hit@5 at document level ≥ 0.88 (BM25 on whole files: 0.887); every citation's quote verbatim at its offsets; a
second ingest writes nothing and takes under 10 s; peak memory of ingest under 2 GiB.
"""

from __future__ import annotations

import json
import resource
from pathlib import Path
from typing import Any

from measuring import parser, save

import doyen
from doyen.answering import answer_file
from doyen.cli.output import Bar
from doyen.evaluation.retrieval_scores import summarise_hits
from doyen.examples.importing import read_questions
from doyen.records import Hit, Question


def files_state(folder: Path) -> dict[str, tuple[int, int]]:
    """Return size and time of every file below a folder."""
    return {
        str(p.relative_to(folder)): (p.stat().st_size, p.stat().st_mtime_ns)
        for p in sorted(folder.rglob("*"))
        if p.is_file()
    }


def one_hit_a_document(hits: list[Hit]) -> list[Hit]:
    """Keep each document's best hit."""
    best: dict[str, Hit] = {}
    for hit in hits:
        best.setdefault(hit.chunk.document, hit)
    return list(best.values())


def document_hits(questions: list[Question], found: list[list[Hit]]) -> dict[str, Any]:
    """hit@k over documents, with intervals."""
    return {k: v.as_dict() for k, v in summarise_hits(questions, [one_hit_a_document(h) for h in found]).items()}


def check_citations(expert: doyen.Expert, answers: Path) -> dict[str, int]:
    """Count citations, and those whose quote is verbatim at its offsets in the indexed text."""
    assert expert.retriever is not None
    counts = {"answers": 0, "answered": 0, "citations": 0, "verbatim": 0}
    for row in map(json.loads, answers.read_text(encoding="utf-8").strip().split("\n")):
        counts["answers"] += 1
        counts["answered"] += row["answered"]
        for c in row["citations"]:
            text, _ = expert.retriever.index.text(c["document"])
            counts["citations"] += 1
            counts["verbatim"] += text[c["start"] : c["end"]] == c["quote"] and len(c["quote"]) <= 300
    return counts


def main() -> None:
    made = parser(__doc__ or "")
    made.add_argument("--data", type=Path, required=True)
    arguments = made.parse_args()
    expert = arguments.work
    if not (expert / "doyen.toml").exists():
        doyen.init(expert)
    with Bar("documents") as bar:
        first = doyen.ingest(expert, [arguments.data / "docs"], progress=bar)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    before = files_state(expert)
    second = doyen.ingest(expert, [arguments.data / "docs"])
    written = sum(before.get(k) != v for k, v in files_state(expert).items())
    questions = read_questions(arguments.data / "questions.jsonl")
    one = doyen.Expert.open(expert, arm="rag")
    assert one.retriever is not None
    found = one.retriever.search_many([q.question for q in questions], 50)
    hits = document_hits(questions, found)
    print({k: round(v["value"], 3) for k, v in hits.items()})
    with Bar("questions") as bar:
        answer_file(one, questions, expert / "answers.jsonl", bar)
    result = {
        "ingest": {
            "new": len(first.new),
            "unchanged": len(first.unchanged),
            "failed": len(first.failed),
            "chunks": first.chunks,
            "seconds": round(first.seconds, 1),
            "peak_memory_gib": round(peak, 2),
        },
        "second_ingest": {
            "unchanged": len(second.unchanged),
            "seconds": round(second.seconds, 2),
            "files_written": written,
        },
        "document_hits": hits,
        "citations": check_citations(one, expert / "answers.jsonl"),
    }
    if first.new:
        result["ingest"]["documents_per_s"] = round(len(first.new) / first.seconds, 2)
        result["ingest"]["chunks_per_s"] = round(first.chunks / first.seconds, 1)
    print(json.dumps(result["ingest"]), json.dumps(result["second_ingest"]), json.dumps(result["citations"]))
    save("markdown_corpus", result, arguments.out)


if __name__ == "__main__":
    main()
