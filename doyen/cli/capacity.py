"""The capacity part of `doyen plan`: its lines."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from doyen.capacity.figures import Figure
    from doyen.capacity.plan import CapacityPlan
    from doyen.capacity.rates import Rates
    from doyen.capacity.serving import Serving


def plan_lines(made: CapacityPlan) -> list[str]:
    """Return a plan as lines for people."""
    rates = made.rates
    lines = [f"by {rates.sample}, {rates.processor}, {rates.cores} cores, {rates.measured}", "", "corpus"]
    lines += _lines(made.corpus)
    lines += ["", "storage, GB", *_lines(made.storage_gb), "", "ingest", *_lines(made.ingest)]
    if made.serving:
        lines += ["", *_serving(made.serving, made.wanted.whole_s)]
    lines += ["", "what costs", *_lines(made.prices)]
    return [*lines, *([""] if made.remarks else []), *(f"remark: {remark}" for remark in made.remarks)]


def rates_lines(rates: Rates) -> list[str]:
    """Return measured rates as lines for people."""
    from doyen.capacity.rates import STAGES

    shape = rates.shape
    lines = [f"measured on {rates.sample}, {rates.processor}, {rates.cores} cores"]
    lines.append(
        f"a document has {shape.characters:,.0f} characters, {shape.pages:.1f} pages, {shape.chunks:.1f} passages"
    )
    counts = {"documents": 1.0} | {name: getattr(shape, name) for name in ("characters", "chunks", "tokens")}
    for stage, line in rates.stages.items():
        first, second = STAGES[stage]
        lines.append(f"  {line(counts[first], counts[second]) * 1000:10.2f} ms of processor time a document  {stage}")
    lines.append(
        f"  {rates.busy:10.0%} of the cores are at work in an ingest, which takes {rates.start_s:.1f} s besides"
    )
    lines.append(f"  {rates.search_s * 1000:10.1f} ms a search among {rates.search_chunks:,} passages")
    alone, together = rates.search_cpu_s * 1000, rates.search_together_cpu_s * 1000
    lines.append(f"  {alone:10.1f} ms of processor time a search alone, {together:.1f} where several go together")
    if engine := rates.engine:
        lines.append(f"  {1 / engine.read_token_s:10,.0f} tokens/s read by {engine.name}")
        lines.append(f"  {1 / (engine.step_s + engine.text_step_s):10,.0f} tokens/s written alone")
        many = 8 / (engine.step_s + 8 * engine.text_step_s)
        lines.append(f"  {many:10,.0f} tokens/s written of eight answers together")
    lines.append(f"  {rates.memory_gib:10.2f} GiB of memory")
    return lines


def _lines(figures: Mapping[str, Figure]) -> list[str]:
    return [_line(name, figure) for name, figure in figures.items() if figure.value]


def _line(name: str, figure: Figure) -> str:
    between = f"{_number(figure.low)} to {_number(figure.high)}" if figure.spread >= 0.005 else ""
    return f"  {_number(figure.value):>10}  {name:<34} {between:<24} {figure.source}".rstrip()


def _number(value: float) -> str:
    if value >= 1e6:
        size, unit = (1e9, "bn") if value >= 1e9 else (1e6, "m")
        return f"{value / size:.3g} {unit}"
    if value >= 999.5:
        return f"{value:,.0f}"
    return f"{value:.3g}"


def _serving(serving: Serving, whole_s: float) -> list[str]:
    named = {
        "questions a second at the peak": serving.peak_per_s,
        "seconds of processor time a search": serving.search_s,
        "of it at the peak": serving.search_peak_s,
        "answers a second, at most, a node": serving.per_node_s,
        "GiB of memory of a node": serving.memory_gib,
        "nodes": serving.nodes,
    }
    lines = ["serving", *_lines(named)]
    if not serving.reachable:
        lines.append(f"  an answer alone takes longer than {whole_s:g} s: no number of nodes mends that")
    run = serving.run
    row = run.as_dict()
    lines.append(
        f"  at the peak: whole time {row['whole_p50_s']:.2f} s (median), {row['whole_p95_s']:.2f} (p95), "
        f"{row['whole_p99_s']:.2f} (p99); waiting {row['wait_p95_s']:.2f} (p95); refused {row['refused_share']:.2%}"
    )
    lines.append(
        "  one node, simulated: offered/s  answers/s  wait p50 / p95 / p99 s    whole p50 / p95 / p99 s    refused"
    )
    for per_s, one in serving.curve:
        row = one.as_dict()
        wait, whole = (" / ".join(f"{row[f'{kind}_p{p}_s']:6.2f}" for p in (50, 95, 99)) for kind in ("wait", "whole"))
        lines.append(f"  {per_s:28.3f} {row['answers_per_s']:10.3f}  {wait}  {whole}  {row['refused_share']:8.1%}")
    return lines
