"""Questions a day → nodes: searches over the parts of the index, answers by the engine, simulated at the day's busiest hour."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from doyen.capacity.engine_rates import node_speed
from doyen.capacity.figures import ASSUMED, MEASURED, Figure
from doyen.capacity.queueing import Demand, LoadRun, NodeSpeed, Questions, most_per_s, nodes_for, run_load
from doyen.capacity.rates import EngineRates, Rates
from doyen.capacity.wanted import MEMORY_OF_CHUNK, MORE_CORES, SEARCH_CURVE, Wanted

MOST_REQUESTS = 64
_LOADS = (0.3, 0.5, 0.7, 0.8, 0.9, 1.1)
_COUNT = 8_000
_MOST_SEARCHING = 0.8
_WORTH = 0.95
"""A search that costs so little less changes no number of nodes."""


@dataclass(frozen=True, slots=True)
class Serving:
    """Nodes that serve. `parts` is into how many the index is divided; `curve` one node under rising load.

    `search_s` is of a search alone, `search_peak_s` of one at the peak, where searches that wait go together.
    """

    parts: int
    peak_per_s: Figure
    search_s: Figure
    search_peak_s: Figure
    per_node_s: Figure
    memory_gib: Figure
    nodes: Figure
    reachable: bool
    run: LoadRun
    curve: tuple[tuple[float, LoadRun], ...]
    read_tokens: Figure
    written_tokens: Figure

    def as_dict(self) -> dict[str, Any]:
        """Return it as JSON."""
        names = ["peak_per_s", "search_s", "search_peak_s", "per_node_s", "memory_gib", "nodes"]
        names += ["read_tokens", "written_tokens"]
        row: dict[str, Any] = {name: getattr(self, name).as_dict() for name in names}
        row |= {"parts": self.parts, "reachable": self.reachable, "at_peak": self.run.as_dict()}
        return row | {"one_node": [{"offered_per_s": round(per_s, 4)} | run.as_dict() for per_s, run in self.curve]}


def search_seconds(chunks: float, rates: Rates) -> Figure:
    """Return the processor seconds of a search among so many chunks: as measured here, times what a measured curve adds.

    The curve says how many times as long a search takes; its machine's own speed does not matter.
    """
    here = float(rates.search_chunks)
    if chunks <= here:
        return Figure(rates.search_cpu_s, 0.15, MEASURED, f"at {rates.search_chunks:,} chunks")
    value = rates.search_cpu_s * _on_curve(chunks) / _on_curve(here)
    last = SEARCH_CURVE[-1][0]
    spread = 0.2 if chunks <= last else min(1.0, 0.3 + 0.2 * math.log10(chunks / last))
    origin = MEASURED if chunks < 10 * here else ASSUMED
    return Figure(value, spread, origin, "by the curve of scale_store_local*.json")


def _on_curve(chunks: float) -> float:
    """Return the curve at so many chunks: straight between its points, level before the first, its last part carried on."""
    sizes, seconds = zip(*SEARCH_CURVE, strict=True)
    beyond = max(0.0, chunks - sizes[-1]) * (seconds[-1] - seconds[-2]) / (sizes[-1] - sizes[-2])
    return float(np.interp(chunks, sizes, seconds)) + beyond


def plan_serving(chunks: Figure, wanted: Wanted, rates: Rates) -> Serving | None:
    """Find the fewest nodes for the busiest hour; None where no engine was measured."""
    engine = rates.engine
    if engine is None:
        return None
    parts = max(1, math.ceil(chunks.value / wanted.chunks_per_node))
    search = search_seconds(chunks.value / parts, rates)
    scale = _scale(wanted.cores or rates.cores, rates.cores)
    peak = wanted.questions_per_day * max(wanted.profile) / sum(wanted.profile) / 3600
    demand = Demand(peak, wanted.whole_s)
    load = _Load(engine, search, rates.search_together_cpu_s / rates.search_cpu_s, rates.cores, parts, scale)
    many, run = load.nodes_for(demand)
    nodes = many or parts
    group_per_s = peak * parts / nodes
    node, questions = load.seen(group_per_s)
    spread = math.hypot(engine.spread, search.spread * load.searching(group_per_s))
    slower = replace(load, engine=_slower(engine, 1 + spread), search=search * (1 + search.spread))
    worse = slower.nodes_for(demand)[0]
    off = worse / nodes - 1 if many and worse else max(spread, 0.3)
    per_s = most_per_s(node, questions)
    origin = ASSUMED if scale != 1.0 or search.origin == ASSUMED else MEASURED
    return Serving(
        parts=parts,
        peak_per_s=Figure(peak, 0.0, ASSUMED, "the profile of a day"),
        search_s=search,
        search_peak_s=replace(search, value=load.search_s(group_per_s), origin=ASSUMED),
        per_node_s=Figure(per_s, spread, origin, engine.name),
        memory_gib=Figure(rates.memory_gib, 0.1, MEASURED, "without documents")
        + MEMORY_OF_CHUNK * (chunks.value / parts / 2**30),
        nodes=Figure(nodes, off, origin, "simulated"),
        reachable=many is not None,
        run=run,
        curve=tuple((per_s * load, run_load(node, 1, questions, per_s * load, count=_COUNT)) for load in _LOADS),
        read_tokens=Figure(float(np.mean(engine.prompt_tokens)), 0.1, MEASURED, rates.sample),
        written_tokens=Figure(float(np.mean(engine.answer_tokens)), 0.15, MEASURED, rates.sample),
    )


@dataclass(frozen=True, slots=True)
class _Load:
    """What questions ask of nodes that hold `parts` parts of an index between them; `cores` are those that were measured.

    `search` is of a search alone, `together` the share of it that one takes where as many go together as may.
    """

    engine: EngineRates
    search: Figure
    together: float
    cores: int
    parts: int = 1
    scale: float = 1.0
    most_requests: int = MOST_REQUESTS

    def search_s(self, per_s: float) -> float:
        """Return the processor seconds of a search, where so many a second come.

        Those that wait go together. How many do is assumed: none where hardly any come, as many as may where searches
        alone would fill the node, and between these the searches of a processor second on a straight line.
        """
        full = min(1.0, per_s * self.search.value / self.cores * self.scale)
        return self.search.value / (1 + full * (1 / min(1.0, self.together) - 1))

    def searching(self, per_s: float) -> float:
        """Return the share of a node's cores that searches take, where so many questions a second reach its group."""
        return per_s * self.search_s(per_s) / self.cores * self.scale

    def seen(self, per_s: float) -> tuple[NodeSpeed, Questions]:
        """Return a node, and the questions as it sees them, where so many a second reach its group.

        Undivided, a question's search holds up the engine as its prompt does. Divided, all of a group's nodes search for
        each question and one answers it: the searches for the others are a load in the background, and slow all else.
        """
        slower = self.scale
        if self.parts > 1:
            slower /= max(0.02, 1 - self.searching(per_s))
        read = np.array(self.engine.prompt_tokens, dtype=np.float64) * self.engine.read_token_s * slower
        read += self.search_s(per_s) / self.cores * slower
        tokens = np.array(self.engine.answer_tokens, dtype=np.float64)
        return node_speed(self.engine, self.most_requests, slower), Questions(read, tokens)

    def nodes_for(self, demand: Demand) -> tuple[int | None, LoadRun]:
        """Return the fewest nodes, in whole groups, that meet a demand, with their run; None where none do."""
        if self.parts == 1:
            many, run = nodes_for(*self.seen(0.0), demand, count=_COUNT)
            if many is None or self.search_s(demand.per_s / many) > _WORTH * self.search.value:
                return many, run
            return nodes_for(*self.seen(demand.per_s / many), demand, count=_COUNT)
        groups = max(1, math.ceil(self.searching(demand.per_s) / _MOST_SEARCHING))
        alone = Demand(0.0, demand.most_s, demand.percent)
        reachable = nodes_for(*self.seen(0.0), alone, count=1)[0] is not None
        while True:
            node, questions = self.seen(demand.per_s / groups)
            run = run_load(node, groups * self.parts, questions, demand.per_s, count=_COUNT)
            if demand.met(run) or not reachable:
                return (groups * self.parts if reachable else None), run
            groups = max(groups + 1, math.ceil(groups * 1.1))


def load_of(engine: EngineRates, search: Figure, rates: Rates) -> tuple[NodeSpeed, Questions]:
    """Return a node like this machine with the whole index, and the questions as it sees them."""
    return _Load(engine, search, 1.0, rates.cores).seen(0.0)


def _slower(engine: EngineRates, times: float) -> EngineRates:
    return replace(
        engine,
        read_token_s=engine.read_token_s * times,
        step_s=engine.step_s * times,
        text_step_s=engine.text_step_s * times,
    )


def _scale(cores: int, measured: int) -> float:
    """Return how long a step takes on so many cores, against the measured machine."""
    return float((measured / cores) * (1 / MORE_CORES) ** max(0.0, math.log2(cores / measured)))
