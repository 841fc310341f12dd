"""What `doyen finetune --target embedder` on a set's documents alone gives its own questions: dense nDCG@10, before, after.

    python benchmarks/retriever_training.py SET=EXPERT=QUESTIONS… --work DIR

Each SET is an expert whose index is there (it is copied below --work and left as it is) and a questions file with gold
documents. No question is trained on. Search is dense only, over documents, each ranked by its nearest chunk; gains of
graded gold are 2^grade - 1. The gain has a paired 95% bootstrap interval over questions. Training happens once a set and
is kept below --work; where doyen itself found no sure gain on held-out documents, the expert stays as it is: gain 0.

Bars: >= +0.04 on dev-it-aws and dev-medical-xml; no interval wholly below 0 elsewhere.
"""

from __future__ import annotations

import dataclasses
import json
import math
import shutil
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from measuring import parser, save

import doyen
from doyen.cli.output import Bar
from doyen.config import load_settings
from doyen.embedding import load_embedder
from doyen.evaluation.statistics import paired_difference
from doyen.finetuning.retriever.measuring import rank_documents
from doyen.index.lance import LanceIndex
from doyen.index.rows import matrix
from doyen.index.tables import rows_of

CUTOFF = 10
KEPT = ("pairs", "held_out", "steps", "seconds", "before", "after", "gain", "by_kind", "settings", "share", "used")


def ndcg(found: Sequence[str], gold: dict[str, int], most: int = CUTOFF) -> float:
    """Return nDCG of ranked documents against graded gold."""
    gains = [2 ** gold.get(document, 0) - 1 for document in found[:most]]
    ideal = sorted((2**grade - 1 for grade in gold.values()), reverse=True)[:most]
    return _discounted(gains) / _discounted(ideal)


def _discounted(gains: Sequence[float]) -> float:
    return sum(gain / math.log2(place + 2) for place, gain in enumerate(gains))


def questions_with_gold(path: Path, language: str | None) -> list[tuple[str, dict[str, int]]]:
    """Read questions that name gold documents, with their grades."""
    rows = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines() if line.strip()]
    rows = [row for row in rows if row.get("gold") and language in (None, row.get("lang", "en"))]
    return [(row["question"], {g["document"]: g.get("grade") or 1 for g in row["gold"]}) for row in rows]


def dense_scores(expert: Path, questions: Sequence[tuple[str, dict[str, int]]]) -> list[float]:
    """Return nDCG@10 of each question by the vectors in the expert's index alone."""
    settings = load_settings(expert)
    index = LanceIndex.open(expert / settings.store.uri)
    documents: list[str] = []
    parts = []
    for batch in rows_of(index.tables.chunks, ("document", "vector")):
        documents += batch["document"].to_pylist()
        parts.append(matrix(batch["vector"], index.manifest.dim))
    embedder = load_embedder(settings.embedder, recorded=index.manifest.fingerprint)
    vectors = embedder.embed([question for question, _ in questions], kind="query")
    found = rank_documents(vectors, np.concatenate(parts), documents)
    return [ndcg(row, gold) for row, (_, gold) in zip(found, questions, strict=True)]


def run_set(name: str, source: Path, path: Path, work: Path, language: str | None) -> dict[str, Any]:
    """Train on a copy of an expert, once, and score its questions before and after."""
    expert, record = work / name, work / f"{name}.json"
    questions = questions_with_gold(path, language)
    before = dense_scores(source, questions)
    if not record.exists():
        shutil.rmtree(expert, ignore_errors=True)
        shutil.copytree(source, expert, ignore=shutil.ignore_patterns("examples", "adapters", "comparisons"))
        begun = time.perf_counter()
        with Bar("chunks") as bar:
            made = doyen.finetune_retriever(expert, "embedder", progress=bar, say=print)
        row = {k: v for k, v in dataclasses.asdict(made).items() if k in KEPT}
        record.write_text(json.dumps(row | {"whole_run_s": round(time.perf_counter() - begun, 1)}), encoding="utf-8")
    after = dense_scores(expert, questions)
    gain = paired_difference(before, after)
    print(f"{name}: {np.mean(before):.4f} → {np.mean(after):.4f} ({gain.low:+.4f} to {gain.high:+.4f})")
    return {
        "questions": len(questions),
        "dense_ndcg@10": {"before": round(float(np.mean(before)), 4), "after": round(float(np.mean(after)), 4)},
        "gain": gain.as_dict(),
        "training": json.loads(record.read_text(encoding="utf-8")),
    }


def main() -> None:
    made = parser(__doc__ or "")
    made.add_argument("sets", nargs="+", metavar="SET=EXPERT=QUESTIONS")
    made.add_argument("--language", default=None, help="only questions in this language (`lang`)")
    arguments = made.parse_args()
    arguments.work.mkdir(parents=True, exist_ok=True)
    result = {}
    for given in arguments.sets:
        name, expert, questions = given.split("=")
        result[name] = run_set(name, Path(expert), Path(questions), arguments.work, arguments.language)
        save("retriever_training", {"sets": result}, arguments.out)


if __name__ == "__main__":
    main()
