"""Summaries: what they cost, what they change for pointed questions, and how well broad questions find their document.

    python benchmarks/summaries.py --work DIR --data SET… [--broad NAME…]

SET has `docs/` and `questions.jsonl`. DIR keeps an expert a set, which is ingested if it is not there. Pointed questions
are those of the set, scored by nDCG@10 at the gold unit with and without the summaries' term, in pairs. Broad questions are
made here, by seed, of 100 documents of 5 chunks or more:

    title     "What is said about <title>?", with the weight of names and titles at 0, so that the title alone decides nothing
    keywords  "What do we have on <a>, <b>, <c> and <d>?": the words that stand in most of a document's chunks and in at most a
              twentieth of all documents, none of them in its title or name

They are scored by the rank of the document that they were made of, in three rankings: of the passages found (the document of
each), of `doyen search --documents`, and of the summaries alone.
"""

from __future__ import annotations

import dataclasses
import math
import random
import statistics
import time
from collections import Counter, defaultdict
from pathlib import Path
from typing import Any

import numpy as np
from measuring import parser, save
from retrieval_sets import sets_of

import doyen
from doyen.chunking import chunk_document
from doyen.config import load_settings
from doyen.documents.reading import read_documents
from doyen.embedding import load_counter
from doyen.evaluation.retrieval_ablation import differences
from doyen.evaluation.retrieval_scores import means, score_hits
from doyen.expert import open_retriever
from doyen.records import Chunk
from doyen.retrieval.hybrid import Retriever
from doyen.summarising import summarise
from doyen.words import name_words, telling_words, words

SEED = 7
BROAD = 100
DEPTH = 30
_LEAST_CHUNKS = 5
_COMMONEST = 20
_SAMPLE = 200
SHOWN = ("ndcg@10", "hit@10", "mrr")


def broad_questions(retriever: Retriever) -> list[tuple[str, str, str]]:
    """Return (document, question by title, question by keywords) of up to BROAD documents."""
    index = retriever.index
    titles = {d.id: d.title for d in index.documents()}
    chunks: dict[str, list[Chunk]] = defaultdict(list)
    for chunk in index.chunks_of(sorted(titles)):
        chunks[chunk.document].append(chunk)
    held = {d: Counter(w for c in own for w in set(telling_words(c.text)) if w.isalpha()) for d, own in chunks.items()}
    spread = Counter(word for counts in held.values() for word in counts)
    pool = sorted(d for d in chunks if len(chunks[d]) >= _LEAST_CHUNKS)
    random.Random(SEED).shuffle(pool)
    made: list[tuple[str, str, str]] = []
    for document in pool:
        named = {*words(titles[document]), *(w.casefold() for w in name_words(document))}
        counts = held[document]
        known = [w for w, n in counts.items() if n >= 3 and w not in named and spread[w] <= len(chunks) / _COMMONEST]
        best = sorted(known, key=lambda w: (-counts[w] * math.log(len(chunks) / spread[w]), w))[:4]
        if len(best) == 4:
            by_title = f"What is said about {titles[document]}?"
            made.append((document, by_title, f"What do we have on {', '.join(best[:3])} and {best[3]}?"))
    return made[:BROAD]


def rank_figures(ranks: list[int | None]) -> dict[str, float]:
    """Return hit rate at 1 and 10 and the mean reciprocal rank of ranks from 0 on."""
    kept = [math.inf if rank is None else rank for rank in ranks]
    mrr = statistics.fmean(1 / (rank + 1) for rank in kept)
    hits = {f"hit_rate@{k}": round(statistics.fmean(rank < k for rank in kept), 4) for k in (1, 10)}
    return hits | {"mrr": round(mrr, 4), "questions": len(kept)}


def broad_figures(retriever: Retriever) -> dict[str, Any]:
    """Return the figures of both kinds of broad questions, by ranking."""
    made, settings = broad_questions(retriever), retriever.settings
    found: dict[str, Any] = {}
    for kind, column, weight in (("title", 1, 0.0), ("keywords", 2, settings.document_weight)):
        gold, asked = [row[0] for row in made], [row[column] for row in made]
        given = dataclasses.replace(settings, document_weight=weight)
        without = Retriever(retriever.index, retriever.embedder, dataclasses.replace(given, summary_weight=0.0))
        within = Retriever(retriever.index, retriever.embedder, given)
        vectors = retriever.embedder.embed(asked, kind="query")
        rankings = {
            "passages, without summaries": [_documents(hits) for hits in without.search_many(asked, DEPTH)],
            "passages": [_documents(hits) for hits in within.search_many(asked, DEPTH)],
            "documents, without summaries": [[d.document for d in without.documents(q, DEPTH)] for q in asked],
            "documents": [[d.document for d in within.documents(q, DEPTH)] for q in asked],
            "summaries alone": [list(retriever.index.nearest_summaries(v, DEPTH)) for v in vectors],
        }
        found[kind] = {
            name: rank_figures([own.index(d) if d in own else None for d, own in zip(gold, rows, strict=True)])
            for name, rows in rankings.items()
        }
    return found


def _documents(hits: Any) -> list[str]:
    return list(dict.fromkeys(name for h in hits for name in (h.chunk.document, *h.also)))


def pointed_figures(retriever: Retriever, questions: Any) -> dict[str, Any]:
    """Return nDCG@10 with and without the summaries' term, and the paired difference."""
    rows = []
    for weight in (0.0, retriever.settings.summary_weight):
        settings = dataclasses.replace(retriever.settings, summary_weight=weight)
        own = Retriever(retriever.index, retriever.embedder, settings)
        hits = own.search_many([q.question for q in questions], DEPTH)
        rows.append([score_hits(q, found) for q, found in zip(questions, hits, strict=True)])
    before, after = (
        {name: value.as_dict() for name, value in means(r, seed=SEED).items() if name in SHOWN} for r in rows
    )
    gained = differences(*rows, seed=SEED)
    return {"without": before, "with": after, "difference": {name: gained[name] for name in SHOWN}}


def cost_figures(data: Path, retriever: Retriever, counter: Any) -> dict[str, Any]:
    """Return milliseconds a document for summarising, of a sample, and how many summaries have a vector of their own."""
    index = retriever.index
    documents = index.documents()
    sample = random.Random(SEED).sample(documents, min(_SAMPLE, len(documents)))
    times = []
    for row in sample:
        path = data / "docs" / row.id
        for document in read_documents(path.read_bytes(), path.name, row.id, source=str(path)).documents:
            chunks = chunk_document(document, counter)
            start = time.perf_counter()
            summarise(document, chunks)
            times.append(1000 * (time.perf_counter() - start))
    vectors = retriever.embedder.embed(["what is said about it"], kind="query")
    names = [d.id for d in documents][:200]
    index.summary_nearness(vectors[0], names)
    start = time.perf_counter()
    for _ in range(100):
        index.summary_nearness(vectors[0], names)
    searching = 10 * (time.perf_counter() - start)
    return {
        "documents": len(documents),
        "chunks": index.chunk_count(),
        "summaries": index.summary_count(),
        "own_vectors": sum(d.chunks >= 4 for d in documents),
        "summarise_ms_a_document": round(float(np.mean(times)), 2),
        "nearness_of_200_ms": round(searching, 3),
    }


def main() -> None:
    command = parser(__doc__ or "")
    command.add_argument("--data", type=Path, nargs="+", required=True)
    command.add_argument("--broad", nargs="*", default=[], help="sets whose documents broad questions are made of")
    given = command.parse_args()
    result: dict[str, Any] = {}
    for data in given.data:
        (found,) = sets_of(data)
        expert = given.work / found.name
        if not (expert / "doyen.toml").exists():
            doyen.init(expert)
            doyen.ingest(expert, [found.folder])
        settings = load_settings(expert)
        retriever = open_retriever(expert, settings)
        result[found.name] = {
            "cost": cost_figures(data, retriever, load_counter(settings.embedder, expert=expert)),
            "pointed": pointed_figures(retriever, found.questions),
        }
        if found.name in given.broad:
            result[found.name]["broad"] = broad_figures(retriever)
    save("summaries", result, given.out)


if __name__ == "__main__":
    main()
