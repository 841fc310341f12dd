"""Rates × what is wanted → storage, ingest, serving, prices: each figure with its origin. Pure arithmetic and simulation."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from doyen.capacity.figures import ASSUMED, GIVEN, MEASURED, RECORDED, Figure, total
from doyen.capacity.rates import STAGES, STORED, Rates, Shape, vector_bytes
from doyen.capacity.serving import Serving, plan_serving
from doyen.capacity.wanted import MORE_CORES, SEARCH_CURVE, SECOND_NODE, Wanted
from doyen.index.vector_matrix import EXACT_ROWS

Figures = dict[str, Figure]
_GB = 1e9
_ROW_BYTES = 20
"""Of each vector beside itself in a snapshot: address, document, start (doyen.index.vector_matrix.PARTS)."""
_TEN_TIMES = 0.1
"""Added to a spread for each ten times that a corpus is larger than what was measured: assumed."""
_MONTH_DAYS = 365.25 / 12


@dataclass(frozen=True, slots=True)
class CapacityPlan:
    """All that is planned. Storage in GB (10⁹ bytes), times in hours, prices for the ingest and for a month."""

    wanted: Wanted
    rates: Rates
    corpus: Figures
    storage_gb: Figures
    ingest: Figures
    serving: Serving | None
    prices: Figures
    remarks: tuple[str, ...]

    def as_dict(self) -> dict[str, Any]:
        """Return the plan as JSON."""
        sections = {"corpus": self.corpus, "storage_gb": self.storage_gb, "ingest": self.ingest, "prices": self.prices}
        row: dict[str, Any] = {name: _rows(figures) for name, figures in sections.items()}
        row["serving"] = self.serving.as_dict() if self.serving else None
        calibration: dict[str, Any] = {
            "measured": self.rates.measured,
            "sample": self.rates.sample,
            "processor": self.rates.processor,
        }
        calibration |= {"cores": self.rates.cores, "embedder": self.rates.embedder}
        calibration["model"] = self.rates.engine.name if self.rates.engine else None
        return row | {"calibration": calibration, "remarks": list(self.remarks)}


def _rows(figures: Mapping[str, Figure]) -> dict[str, Any]:
    return {name: figure.as_dict() for name, figure in figures.items()}


def plan_capacity(wanted: Wanted, rates: Rates, *, shape: Shape | None = None, kept_days: float = 0.0) -> CapacityPlan:
    """Plan for a corpus by this machine's rates.

    Args:
        wanted: the corpus, its questions, the demands.
        rates: what was measured.
        shape: what the documents are like, where it is known from an expert's own; None: like the sample's.
        kept_days: for how long former versions are kept.
    """
    corpus = corpus_of(wanted, rates, shape)
    storage = _storage(corpus, wanted, rates, kept_days)
    ingest = ingest_of(corpus, wanted, rates)
    serving = plan_serving(corpus["chunks"], wanted, rates) if wanted.questions_per_day else None
    prices = _prices(storage, ingest, serving, wanted, rates)
    return CapacityPlan(
        wanted, rates, corpus, storage, ingest, serving, prices, tuple(_remarks(corpus, serving, wanted, rates))
    )


# ---- the corpus


def corpus_of(wanted: Wanted, rates: Rates, shape: Shape | None = None) -> Figures:
    """Return documents, pages, characters, chunks, tokens and bytes of the whole corpus."""
    known = shape or rates.shape
    origin, note = (RECORDED, "the expert's documents") if shape else (MEASURED, rates.sample)
    sampling = 0.3 / math.sqrt(max(1, known.documents) / 10) + 0.03
    pages = Figure(wanted.pages, 0.0, GIVEN) if wanted.pages else Figure(known.pages, sampling, origin, note)
    if wanted.page_characters:
        characters = pages * Figure(wanted.page_characters, 0.0, GIVEN)
    else:
        characters = pages * Figure(known.characters / known.pages, sampling, origin, note)
    chunks = characters * Figure(known.chunks / known.characters, min(sampling, 0.1), origin, note)
    if chunks.value < 1:
        chunks = Figure(1.0, 0.1, origin, note)
    size = Figure(known.bytes / known.characters, sampling, origin, note) * characters
    size = Figure(wanted.document_bytes, 0.0, GIVEN) if wanted.document_bytes else size
    worded = known if known.tokens else rates.shape
    tokens = characters * Figure(worded.tokens / worded.characters, min(sampling, 0.1), origin, note)
    each = {"pages": pages, "characters": characters, "chunks": chunks, "tokens": tokens, "bytes": size}
    return {"documents": Figure(wanted.documents)} | {name: one * float(wanted.documents) for name, one in each.items()}


def _grown(figure: Figure, corpus: Figures, rates: Rates) -> Figure:
    """Widen a figure's spread by how much larger the corpus is than what was measured."""
    times = corpus["documents"].value / max(1, rates.shape.documents)
    more = _TEN_TIMES * max(0.0, math.log10(times) - 1)
    return Figure(figure.value, figure.spread + more, figure.origin, figure.note)


# ---- storage


def _storage(corpus: Figures, wanted: Wanted, rates: Rates, kept_days: float) -> Figures:
    def stored(part: str) -> Figure:
        line, (first, second) = rates.stored[part], STORED[part]
        found = total((corpus[first] * line.base, corpus[second] * line.more))
        return Figure(found.value, found.spread + line.spread, MEASURED, rates.sample)

    chunks, codes = corpus["chunks"], corpus["chunks"].value > EXACT_ROWS
    exact = Figure(1.0)
    parts = {
        "originals": corpus["bytes"] * Figure(rates.shape.paged, 0.0, MEASURED, rates.sample),
        "page texts": stored("page texts"),
        "chunk texts": stored("chunk texts"),
        "vectors": chunks * exact * float(vector_bytes(rates.dim)),
        "full-text index": stored("full-text index"),
        "vector index": chunks * exact * float(vector_bytes(rates.dim) + _ROW_BYTES + (rates.dim / 8 if codes else 0)),
    }
    churn = Figure(wanted.changed * kept_days, 0.0, GIVEN)
    parts["former versions"] = (parts["page texts"] + parts["originals"]) * churn
    found = {name: _grown(figure, corpus, rates) / _GB for name, figure in parts.items()}
    return found | {"total": total(found.values())}


# ---- ingest


def ingest_of(corpus: Figures, wanted: Wanted, rates: Rates) -> Figures:
    """Return core-hours by stage, the hours of one node, the nodes for the wished time and the hours that they take."""
    found: Figures = {}
    for stage, (first, second) in STAGES.items():
        line = rates.stages[stage]
        cost = total((corpus[first] * line.base, corpus[second] * line.more))
        cost = Figure(cost.value, cost.spread + line.spread, MEASURED, rates.sample)
        found[f"{stage}, core-hours"] = _grown(cost, corpus, rates) / 3600
    core_hours = total(found.values())
    cores = wanted.cores or rates.cores
    busy = Figure(
        rates.busy * _kept(cores, rates.cores), 0.1, MEASURED if cores <= rates.cores else ASSUMED, "cores at work"
    )
    start = Figure(rates.start_s / 3600, 0.2, MEASURED, "an ingest of some notes")
    alone = core_hours / (busy * float(cores)) + start
    nodes = 1 if alone.value <= wanted.hours else max(2, math.ceil(alone.value / (wanted.hours * SECOND_NODE.value)))
    together = alone if nodes == 1 else alone / (SECOND_NODE * float(nodes))
    return found | {
        "core-hours": core_hours,
        f"hours on one node of {cores} cores": alone,
        "nodes": Figure(nodes, alone.spread if nodes > 1 else 0.0, together.origin, together.note),
        "hours on these nodes": together,
    }


def _kept(cores: int, measured: int) -> float:
    """Return what a core does on a machine with more of them than the measured one: less at each doubling."""
    return float(MORE_CORES ** max(0.0, math.log2(cores / measured)))


# ---- prices


def _prices(storage: Figures, ingest: Figures, serving: Serving | None, wanted: Wanted, rates: Rates) -> Figures:
    """Return what costs, and US dollars where a price is given."""
    given = wanted.prices
    found = {"ingest, core-hours": ingest["core-hours"], "storage, GB-months a month": storage["total"]}
    dollars = {
        "ingest, US$": (ingest["core-hours"], given.core_hour),
        "storage, US$ a month": (storage["total"], given.gb_month),
    }
    if serving:
        month = _MONTH_DAYS * 24
        cores = float(wanted.cores or rates.cores)
        found["serving, core-hours a month"] = serving.nodes * (cores * month)
        dollars["serving, US$ a month"] = (found["serving, core-hours a month"], given.core_hour)
        for name, tokens, price in (
            ("read", serving.read_tokens, given.million_read),
            ("written", serving.written_tokens, given.million_written),
        ):
            found[f"tokens {name}, millions a month"] = tokens * (wanted.questions_per_day * _MONTH_DAYS / 1e6)
            dollars[f"tokens {name}, US$ a month"] = (found[f"tokens {name}, millions a month"], price)
        if wanted.gpu_tokens_per_s:
            seconds = (serving.read_tokens + serving.written_tokens) * (wanted.questions_per_day * _MONTH_DAYS)
            found["GPU-hours a month"] = seconds / (wanted.gpu_tokens_per_s * 3600)
            dollars["GPUs, US$ a month"] = (found["GPU-hours a month"], given.gpu_hour)
    return found | {name: figure * price for name, (figure, price) in dollars.items() if price is not None}


def _remarks(corpus: Figures, serving: Serving | None, wanted: Wanted, rates: Rates) -> list[str]:
    found = list(rates.notes)
    if serving and serving.parts > 1:
        found.append(
            f"{serving.parts} parts of at most {wanted.chunks_per_node:,} chunks: an expert for each part, and one that joins "
            "them (--store experts:…) on one machine; that it asks them on several machines is arithmetic here"
        )
    if corpus["chunks"].value > SEARCH_CURVE[-1][0]:
        found.append(
            "beyond two million chunks the time of a search is carried on as a straight line, which was not measured"
        )
    if wanted.questions_per_day and serving is None:
        found.append("no engine was measured: doyen plan --measure")
    if "made PDFs" in rates.sample:
        found.append("measured on PDFs that doyen made: --sample FOLDER measures on files like yours")
    return found
