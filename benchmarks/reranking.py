"""The built-in reranker `maxsim`: nDCG@10 at the gold unit with it and without, in pairs, and its time a question.

    python benchmarks/reranking.py --work DIR --data SET…

SET has `docs/` and `questions.jsonl`. DIR keeps an expert a set, which is ingested if it is not there.
"""

from __future__ import annotations

import statistics
import time
from pathlib import Path
from typing import Any

from measuring import parser, save
from retrieval_sets import QuestionSet, sets_of

import doyen
from doyen.config import load_settings
from doyen.evaluation.retrieval_ablation import differences
from doyen.evaluation.retrieval_scores import means, score_hits
from doyen.expert import open_retriever
from doyen.reranking import load_reranker
from doyen.retrieval.hybrid import Retriever

SHOWN = ("ndcg@10", "hit@1", "hit@10")
DEPTH = 50
SEED = 7


def figures(found: QuestionSet, retriever: Retriever, name: str) -> dict[str, Any]:
    """Return scores without and with the reranker, the paired difference, and milliseconds a question."""
    reranker = load_reranker(name, embedder=retriever.embedder)
    own = Retriever(retriever.index, retriever.embedder, retriever.settings, reranker=reranker)
    rows, times = [], []
    for each in (retriever, own):
        scores, seconds = [], []
        for question in found.questions:
            started = time.perf_counter()
            hits = each.search(question.question, DEPTH)
            seconds.append(time.perf_counter() - started)
            scores.append(score_hits(question, hits))
        rows.append(scores)
        times.append(round(1000 * statistics.median(seconds), 1))
    shown = [{n: v.as_dict() for n, v in means(r, seed=SEED).items() if n in SHOWN} for r in rows]
    gained = differences(*rows, seed=SEED)
    return {
        "questions": len(found.questions),
        "without": shown[0] | {"median_ms": times[0]},
        "with": shown[1] | {"median_ms": times[1]},
        "difference": {n: gained[n] for n in SHOWN},
    }


def main() -> None:
    command = parser(__doc__ or "")
    command.add_argument("--data", type=Path, nargs="+", required=True)
    command.add_argument("--reranker", default="maxsim")
    given = command.parse_args()
    result: dict[str, Any] = {"reranker": given.reranker}
    for data in given.data:
        (found,) = sets_of(data)
        expert = given.work / found.name
        if not (expert / "doyen.toml").exists():
            doyen.init(expert)
            doyen.ingest(expert, [found.folder])
        retriever = open_retriever(expert, load_settings(expert))
        result[found.name] = figures(found, retriever, given.reranker)
        gain = result[found.name]["difference"]["ndcg@10"]
        print(f"{found.name}: nDCG@10 {gain['value']:+.4f} [{gain['low']:+.4f}, {gain['high']:+.4f}]", flush=True)
    save("reranking", result, given.out)


if __name__ == "__main__":
    main()
