"""Retrieval beside five other systems with the same MiniLM weights: nDCG, hit rate and MRR at the gold unit, in pairs.

    python -m venv PEERS && PEERS/bin/pip install -r benchmarks/requirements-peers.txt
    python benchmarks/retrieval.py --work DIR --data SET… --peers PEERS/bin/python [--native] [--fresh] [--experts DIR]

SET has `docs/` and `questions.jsonl`; a set with one folder a language is one run a language. doyen ingests with its own
readers and searches with the settings of `doyen init`, none touched. The peers cut and rank as each ships it, from texts
that are read alike for all of them (pypdf, BeautifulSoup), with 30 chunks each so that rank 10 can be measured:

    bm25s        its defaults (Lucene BM25, English stop words) on whole files, pages where the format has pages
    minilm-200w  windows of 200 words, cosine
    rrf          reciprocal rank fusion (k = 60) of the two, on files or pages
    llamaindex   SentenceSplitter(1024, 200), VectorStoreIndex; file path and page label in the embedded text
    haystack     DocumentSplitter() (200 words), in-memory BM25 and embedding retrievers, rank fusion
    txtai        Segmentation(paragraphs=True), Embeddings(hybrid=True)

The peers embed with doyen's MiniLM in bf16 (cosine to sentence-transformers' fp32 above .9999, see embedding.py), 256 tokens
read, so that all sets are feasible on two cores; --native lets each embed by its own stack. Their hits are kept in --work and
computed anew where a version, a question or a file changed, or with --fresh; doyen's are computed in every run. --experts
names a folder of experts already ingested, one a set.

Bars: mean gain in nDCG@10 over each set's best peer >= 0.06 on the open sets below; on the others, no set below its best peer
by more than 0.005, judged by the paired interval.
"""

from __future__ import annotations

import time
from argparse import Namespace
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from measuring import parser, save
from retrieval_sets import PEERS, QuestionSet, peer_hits, peer_versions, sets_of

import doyen
from doyen.cli.output import Bar
from doyen.config import Settings, load_settings
from doyen.evaluation.retrieval_ablation import differences
from doyen.evaluation.retrieval_scores import has_gold_pages, means, score_hits
from doyen.evaluation.statistics import RESAMPLES
from doyen.expert import open_retriever
from doyen.models.fetching import require_model
from doyen.records import Chunk, Hit

MODEL = "all-minilm-l6-v2"
CHUNKS = 30
SEED = 7
METRIC = "ndcg@10"
OPEN_FIELD = ("dev-it-aws", "dev-finance-pdf", "dev-medical-xml")  # the sets that no peer comes near to solving
Scores = list[dict[str, float]]


def prepared_expert(asked: QuestionSet, arguments: Namespace) -> tuple[Path, dict[str, Any]]:
    """Return an expert with default settings over a set's files, and how it came about."""
    given = arguments.experts / asked.name if arguments.experts else None
    if given is not None and (given / "doyen.toml").exists():
        if load_settings(given) != Settings():
            raise SystemExit(f"{given} has other settings than the defaults")
        return given, {"prepared": True}
    expert = arguments.work / "doyen" / asked.name
    if not (expert / "doyen.toml").exists():
        doyen.init(expert)
    started = time.perf_counter()
    name = asked.folder.relative_to(asked.root).as_posix()
    with Bar("files") as bar:
        report = doyen.ingest(expert, [asked.folder], name=None if name == "." else name, progress=bar)
    failed = [document for document, _ in report.failed]
    return expert, {"failed": failed, "ingest_s": round(time.perf_counter() - started, 1)}


def doyen_hits(asked: QuestionSet, arguments: Namespace) -> tuple[list[list[Hit]], dict[str, Any]]:
    """Return doyen's hits for a set's questions, and counts."""
    expert, about = prepared_expert(asked, arguments)
    retriever = open_retriever(expert, load_settings(expert))
    started = time.perf_counter()
    hits = retriever.search_many([q.question for q in asked.questions], CHUNKS)
    about["search_s"] = round(time.perf_counter() - started, 1)
    index = retriever.index
    return hits, {"documents": len(index.documents()), "chunks": index.chunk_count(), **about}


def hit_of(row: dict[str, Any], rank: int) -> Hit:
    """Return a peer's unit as a hit."""
    return Hit(Chunk(row["document"], 0, 0, "", pages=(row["page"],) if row["page"] else ()), -float(rank))


def scored(asked: QuestionSet, hits: Sequence[Sequence[Hit]]) -> tuple[Scores, dict[str, Any]]:
    """Return each question's scores at the gold unit, and the figures (of documents too, where the gold has pages)."""
    rows = [score_hits(q, h) for q, h in zip(asked.questions, hits, strict=True)]
    figures = {name: interval.as_dict() for name, interval in means(rows, seed=SEED).items()}
    if any(map(has_gold_pages, asked.questions)):
        coarse = [score_hits(q, h, level="document") for q, h in zip(asked.questions, hits, strict=True)]
        figures["documents"] = {name: interval.as_dict() for name, interval in means(coarse, seed=SEED).items()}
    return rows, figures


def compare(asked: QuestionSet, arguments: Namespace) -> tuple[dict[str, Any], list[float]]:
    """Run doyen and the peers over one set; return its figures and the differences in nDCG to the best peer."""
    hits, about = doyen_hits(asked, arguments)
    ours, figures = scored(asked, hits)
    systems: dict[str, dict[str, Any]] = {"doyen": about | figures}
    theirs: dict[str, Scores] = {}
    options = {"model": str(require_model(MODEL)), "native": arguments.native, "fresh": arguments.fresh}
    for peer in arguments.only or PEERS:
        found = peer_hits(asked, peer, arguments.peers, arguments.work, **options)
        rows = [[hit_of(row, rank) for rank, row in enumerate(ranked)] for ranked in found["hits"]]
        theirs[peer], figures = scored(asked, rows)
        systems[peer] = {name: found[name] for name in ("documents", "chunks")} | figures
    best = max(theirs, key=lambda peer: systems[peer][METRIC]["value"])
    unit = "page" if any(map(has_gold_pages, asked.questions)) else "document"
    gains = differences(theirs[best], ours, seed=SEED)
    row = {"questions": len(asked.questions), "unit": unit, "systems": systems, "best_peer": best}
    show(asked.name, row, gains[METRIC])
    return row | {"doyen_minus_best_peer": gains}, [
        a[METRIC] - b[METRIC] for a, b in zip(ours, theirs[best], strict=True)
    ]


def show(name: str, row: dict[str, Any], gain: dict[str, Any]) -> None:
    """Print a set's table."""
    print(f"\n{name}: {row['questions']} questions, unit {row['unit']}")
    for system, figures in row["systems"].items():
        cells = (
            f"{metric} {figures[metric]['value']:.3f} [{figures[metric]['low']:.3f}, {figures[metric]['high']:.3f}]"
            for metric in (METRIC, "hit@1", "hit@5", "hit@10", "mrr")
        )
        print(f"{system:12s} {figures['chunks']:6d} chunks  {'  '.join(cells)}")
    print(f"doyen - {row['best_peer']}: {gain['value']:+.3f} [{gain['low']:+.3f}, {gain['high']:+.3f}]", flush=True)


def mean_gain(gains: dict[str, list[float]]) -> dict[str, Any]:
    """Return the mean over sets of the mean difference, each set weighing the same, with a bootstrap interval."""
    rng = np.random.default_rng(SEED)
    draws = [np.asarray(d)[rng.integers(0, len(d), (RESAMPLES, len(d)))].mean(axis=1) for d in gains.values()]
    low, high = np.quantile(np.mean(draws, axis=0), (0.025, 0.975))
    value = float(np.mean([np.mean(d) for d in gains.values()]))
    return {"sets": list(gains), "value": round(value, 4), "low": round(float(low), 4), "high": round(float(high), 4)}


def bars(sets: dict[str, dict[str, Any]], gains: dict[str, list[float]]) -> dict[str, Any]:
    """Return the mean gain on the open sets, and the saturated sets that are certainly below their best peer."""
    open_field = {name: found for name, found in gains.items() if name in OPEN_FIELD}
    lost = [
        name
        for name, row in sets.items()
        if name not in OPEN_FIELD and row["doyen_minus_best_peer"][METRIC]["high"] < -0.005
    ]
    found: dict[str, Any] = {"mean gain (all sets)": mean_gain(gains), "below the best peer by over 0.005": lost}
    return found | ({"mean gain (bar: 0.06)": mean_gain(open_field)} if open_field else {})


def main() -> None:
    made = parser(__doc__ or "")
    made.add_argument("--data", type=Path, nargs="+", required=True)
    made.add_argument("--peers", required=True, help="the Python of the peers' environment")
    made.add_argument("--only", nargs="+", choices=PEERS, default=None, help="these peers alone")
    made.add_argument("--native", action="store_true", help="let the peers embed by their own stack (slow)")
    made.add_argument("--fresh", action="store_true", help="compute the peers' hits anew")
    made.add_argument("--experts", type=Path, default=None, help="folder with an ingested expert a set")
    arguments = made.parse_args()
    arguments.work.mkdir(parents=True, exist_ok=True)
    sets: dict[str, dict[str, Any]] = {}
    gains: dict[str, list[float]] = {}
    for data in arguments.data:
        for asked in sets_of(data):
            sets[asked.name], gains[asked.name] = compare(asked, arguments)
    reached = bars(sets, gains)
    print(reached)
    shared = f"{MODEL}, doyen's embedder in bf16 (cosine to fp32 > .9999), 256 tokens"
    result = {
        "embedding_of_the_peers": "each peer's own stack" if arguments.native else shared,
        "versions_of_the_peers": peer_versions(arguments.peers, arguments.native),
        "sets": sets,
        "bars": reached,
    }
    save("retrieval", result, arguments.out)


if __name__ == "__main__":
    main()
