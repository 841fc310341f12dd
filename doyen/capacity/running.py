"""One capacity plan as a whole: kept rates or new ones, what the expert recorded, the plan."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from doyen.capacity.measuring import measure
from doyen.capacity.plan import CapacityPlan, plan_capacity
from doyen.capacity.rates import FILE_NAME, Rates, load_rates
from doyen.capacity.recorded import largest_ingest, recorded_shape, with_recorded_answers, with_recorded_store
from doyen.capacity.wanted import Prices, Wanted
from doyen.config import ModelSettings, Settings, load_settings
from doyen.models.fetching import cache_folder

Say = Callable[[str], None]


def rates_file(expert: Path | None) -> Path:
    """Return where rates are kept: in the expert's folder, without one in doyen's cache."""
    return (expert or cache_folder()) / FILE_NAME


def measure_capacity(
    expert: Path | None = None, *, sample: Path | None = None, answers: bool = True, say: Say = lambda _: None
) -> Rates:
    """Measure this machine with the expert's embedder and model (without an expert the default ones), and keep the rates.

    Without a `sample`, a folder that the expert ingested is taken; without that, PDFs that are made. Takes about a minute.

    Raises: UsageError, ModelError as `doyen.capacity.measuring.measure`.
    """
    settings = load_settings(expert) if expert else Settings()
    found = measure(settings, sample=sample or _own_folder(expert), answers=answers, expert=expert, say=say)
    found.save(rates_file(expert))
    return found


def plan_for(
    wanted: Wanted, expert: Path | None = None, *, rates: Rates | None = None, say: Say = lambda _: None
) -> CapacityPlan:
    """Plan for a corpus by kept rates, else by new ones, and by what the expert's documents and answers are like."""
    rates = rates or load_rates(rates_file(expert))
    if rates is None:
        say("no rates are kept: measuring (doyen plan --measure --sample FOLDER measures on your files)")
        rates = measure_capacity(expert, say=say)
    if expert is None:
        return plan_capacity(wanted, rates)
    settings = load_settings(expert)
    wanted = replace(wanted, prices=_with_prices_of(settings.model, wanted.prices))
    shape = recorded_shape(expert, settings, rates)
    remark = largest_ingest(expert, settings, rates, shape)
    if shape:
        rates = with_recorded_store(rates, expert, settings, shape)
    rates = with_recorded_answers(rates, expert, settings.answer.arm)
    rates = replace(rates, notes=[*rates.notes, *([remark] if remark else [])])
    return plan_capacity(wanted, rates, shape=shape, kept_days=settings.documents.keep_versions_days)


def _with_prices_of(model: ModelSettings, prices: Prices) -> Prices:
    """Add what the model's tokens cost where nothing else was given (in the settings -1: not known)."""
    read = model.input_price if prices.million_read is None else prices.million_read
    written = model.output_price if prices.million_written is None else prices.million_written
    return replace(prices, million_read=read if read >= 0 else None, million_written=written if written >= 0 else None)


def _own_folder(expert: Path | None) -> Path | None:
    """Return the first folder that the expert ingested and that is still there."""
    if expert is None:
        return None
    from doyen.ingesting.known_sources import load_sources

    return next((Path(source.spec) for source in load_sources(expert) if Path(source.spec).is_dir()), None)
