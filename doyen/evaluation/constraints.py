"""What the user demands × a comparison's report → the arms that break a demand, each with the figure that says so.

Chooses nothing (see advice.py) and measures nothing: an arm is ruled out by what the report holds of it, or by what it is
made of; where the report is silent, it stays.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, fields, replace
from typing import Any
from urllib.parse import parse_qsl, urlsplit

import numpy as np

from doyen.errors import UsageError
from doyen.evaluation.report_text import percent
from doyen.evaluation.statistics import paired_difference
from doyen.evaluation.trained_on import CHANGED
from doyen.models.endpoint import is_loopback
from doyen.records import ARMS

CHANGES: dict[str, float] = {
    "hourly": 3600.0,
    "daily": 86_400.0,
    "weekly": 7 * 86_400.0,
    "monthly": 30 * 86_400.0,
    "rarely": float("inf"),
}
"""How often documents change → seconds between two changes."""
TRACED = 0.5  # share of the answers that cite something, from which on an arm's answers are traceable
STALE = 0.05  # share of stale answers that the interval must leave below it
ANSWERS = 1000  # what a budget is for
TUNED, INDEXED = ("finetuned", "rag+finetuned"), ("rag", "rag+finetuned")
_OPTIONS = {
    "changes": "--changes",
    "traceable": "--traceable",
    "seconds": "--max-seconds",
    "memory_gib": "--max-memory",
    "offline": "--offline",
    "budget_usd": "--budget",
    "form": "--form",
}


@dataclass(frozen=True, slots=True)
class Constraints:
    """What the arm must fulfil; a value that is left out demands nothing.

    `changes` is how often documents change (a key of CHANGES). `traceable`: answers must cite their source. `seconds` is
    the most for an answer, by the 95th percentile; `memory_gib` the most while serving; `budget_usd` the most US dollars for
    1,000 answers; `offline`: nothing may be sent over a network. `form`: answers keep a house form or terms; it counts for
    the advice without a comparison only, as a comparison measures it if the known answers are in that form.

    Raises:
        UsageError: an unknown frequency, or a bound that is not above zero.
    """

    changes: str | None = None
    traceable: bool = False
    seconds: float | None = None
    memory_gib: float | None = None
    offline: bool = False
    budget_usd: float | None = None
    form: bool = False

    def __post_init__(self) -> None:
        if self.changes is not None and self.changes not in CHANGES:
            raise UsageError(f"documents cannot change '{self.changes}'", hint=f"one of {', '.join(CHANGES)}")
        for name in ("seconds", "memory_gib", "budget_usd"):
            value = getattr(self, name)
            if value is not None and not value > 0:
                raise UsageError(
                    f"{_OPTIONS[name]} must be above zero, got {value:g}", hint="leave it out for no bound"
                )

    @property
    def given(self) -> list[str]:
        """The names of what is demanded."""
        return [f.name for f in fields(self) if getattr(self, f.name) not in (None, False)]

    def without(self, name: str) -> Constraints:
        """Return the same without one demand."""
        none: Any = getattr(_NOTHING, name)
        return replace(self, **{name: none})

    def said(self, name: str) -> str:
        """Return a demand as its option: `--max-seconds 1.5`."""
        value = getattr(self, name)
        return _OPTIONS[name] if value is True else f"{_OPTIONS[name]} {value}"

    def as_dict(self) -> dict[str, Any]:
        """Return what is demanded, by name."""
        return {name: value for name, value in asdict(self).items() if name in self.given}


_NOTHING = Constraints()


@dataclass(frozen=True, slots=True)
class RuledOut:
    """An arm, the demand that it breaks, and the sentence that says by which figure."""

    arm: str
    constraint: str
    reason: str


def rule_out(report: Mapping[str, Any], constraints: Constraints) -> list[RuledOut]:
    """Return every breach of a demand by a measured arm, arms from the simplest on."""
    found = []
    for arm in (arm for arm in ARMS if arm in report["arms"]):
        for name in constraints.given:
            if (check := _CHECKS.get(name)) and (reason := check(report, arm, getattr(constraints, name))):
                found.append(RuledOut(arm, name, reason))
    return found


def untraced(report: Mapping[str, Any], arm: str, constraints: Constraints) -> list[str]:
    """Say how many answers of the chosen arm would have to be held back, where all must be traceable."""
    share = cited_share(report, arm) if constraints.traceable else None
    if share is None or share[0] == share[1]:
        return []
    return [
        f"{share[1] - share[0]} of its {share[1]} answers cite nothing and cannot be traced: they have to be held back."
    ]


def not_measured(report: Mapping[str, Any], constraints: Constraints) -> list[str]:
    """Return a sentence for each demand that the report has no figures for: no arm is ruled out by it."""
    arms = [arm for arm in ARMS if arm in report["arms"]]
    found = []
    for name in ("seconds", "memory_gib", "budget_usd"):
        without = [arm for arm in arms if name in constraints.given and _FIGURES[name](report, arm) is None]
        if without:
            found.append(f"{constraints.said(name)} was not checked for {_listed(without)}: {_UNKNOWN[name]}.")
    if constraints.changes not in (None, "rarely") and not any(_stale(report, arm) for arm in arms):
        found.append(
            f"{constraints.said('changes')}: 0 questions name a former answer (`former_answers`), so how far answers go "
            "stale is not measured."
        )
    return found


_UNKNOWN = {
    "seconds": "0 of its answers have a time",
    "memory_gib": "0 measurements of its memory are in the report",
    "budget_usd": "0 prices are set ([cost] usd_per_hour or watts and usd_per_kwh, or a server's prices)",
}


# ------------------------------------------------------------------ figures
def seconds_p95(report: Mapping[str, Any], arm: str) -> float | None:
    """Return the 95th percentile of the seconds that one person waits for an arm's answer.

    Of a report where nothing was asked alone: of an answer's share of its batch; of one without rows, the median of these.
    """
    for name in ("latency_p95", "seconds_p95"):
        if (known := _cost(report, arm).get(name)) is not None:
            return float(known)
    seconds = [row["arms"][arm]["seconds"] for row in report.get("rows", ()) if arm in row["arms"]]
    if seconds:
        return float(np.quantile(seconds, 0.95))
    median = report["arms"][arm]["metrics"].get("seconds_p50")
    return float(median["value"]) if median else None


def cited_share(report: Mapping[str, Any], arm: str) -> tuple[int, int] | None:
    """Return how many of an arm's answers cite something, and how many there are; None without rows or answers."""
    answered = [row["arms"][arm] for row in report.get("rows", ()) if row["arms"].get(arm, {}).get("answered")]
    return (sum(bool(a["citations"]) for a in answered), len(answered)) if answered else None


def dollars(report: Mapping[str, Any], arm: str) -> float | None:
    """Return what 1,000 answers of an arm cost, in US dollars, or None."""
    if (known := _cost(report, arm).get("usd_per_1000")) is not None:
        return float(known)
    paid = ((report.get("manifest") or {}).get("cost_usd") or {}).get(arm)
    total = report.get("questions", {}).get("total")
    return ANSWERS * float(paid) / total if paid is not None and total else None


def _cost(report: Mapping[str, Any], arm: str) -> Mapping[str, Any]:
    found: Mapping[str, Any] = ((report.get("cost") or {}).get("arms") or {}).get(arm) or {}
    return found


def _memory(report: Mapping[str, Any], arm: str) -> float | None:
    return _cost(report, arm).get("memory_gib")


def _stale(report: Mapping[str, Any], arm: str) -> Mapping[str, Any] | None:
    """Return the share of stale answers, with its interval, where any question names a former answer."""
    return report["arms"][arm]["metrics"].get("stale")  # type: ignore[no-any-return]


def retraining_seconds(report: Mapping[str, Any]) -> float | None:
    """Return how long the adapter of the comparison was trained, or None."""
    seconds = ((report.get("manifest") or {}).get("adapter") or {}).get("seconds")
    return float(seconds) if seconds else None


# ------------------------------------------------------------------ checks: a sentence where the arm breaks the demand
def _too_slow(report: Mapping[str, Any], arm: str, most: float) -> str | None:
    seconds = seconds_p95(report, arm)
    if seconds is None or seconds <= most:
        return None
    return f"{arm} takes {seconds:.2f} s an answer (95th percentile), more than {most:g} s."


def _too_large(report: Mapping[str, Any], arm: str, most: float) -> str | None:
    memory = _memory(report, arm)
    return (
        f"{arm} held up to {memory:.2f} GiB in the comparison, more than {most:g} GiB."
        if memory and memory > most
        else None
    )


def _too_dear(report: Mapping[str, Any], arm: str, most: float) -> str | None:
    cost = dollars(report, arm)
    if cost is None or cost <= most:
        return None
    return f"{arm} costs US$ {cost:.2f} for {ANSWERS:,} answers, more than {most:g}."


def _untraceable(report: Mapping[str, Any], arm: str, _: bool) -> str | None:
    share = cited_share(report, arm)
    if arm not in INDEXED:
        cited = f"0 of its {share[1]} answers cite a source" if share and not share[0] else "it reads 0 documents"
        return f"{arm} answers from the model alone and cannot be traced: {cited}."
    if share is None or share[0] >= TRACED * share[1]:
        return None
    return (
        f"{arm} cites a source in {share[0]} of {share[1]} answers, fewer than {TRACED:.0%}, so most cannot be traced."
    )


def _on_a_network(report: Mapping[str, Any], arm: str, _: bool) -> str | None:
    manifest = report.get("manifest") or {}
    server = str(manifest.get("server") or ("a server" if manifest.get("engine") == "server" else ""))
    asked = [server] if server and not _here(server.rpartition(" at ")[2]) else []
    if arm in INDEXED:
        asked += [name for name in ("embedder", "rerank") if _over_api(manifest, name)]
        asked += ["index"] if _stored_away(manifest) else []
    return (
        f"{arm} sends each question to {len(asked)} service(s) over a network: {', '.join(asked)}." if asked else None
    )


def _here(address: str) -> bool:
    """Whether an address, with or without a scheme, is this machine."""
    return is_loopback(address if "//" in address else f"//{address}")


def _stored_away(manifest: Mapping[str, Any]) -> bool:
    """Whether the index is in a database on another machine."""
    uri = urlsplit(str(((manifest.get("settings") or {}).get("store") or {}).get("uri", "")))
    if uri.scheme not in ("postgresql", "postgres"):
        return False
    named = dict(parse_qsl(uri.query)).get("host")  # a host or the folder of a socket, which counts before the other
    host = named or uri.hostname or "localhost"
    return not host.startswith("/") and not _here(f"[{host}]" if ":" in host else host)


def _over_api(manifest: Mapping[str, Any], role: str) -> bool:
    settings = (manifest.get("settings") or {}).get(role) or {}
    api = role == "embedder" and str(manifest.get("embedder") or "").endswith("/api")
    if not api and not str(settings.get("name", "")).startswith(("jina:", "cohere:")):
        return False
    return not _here(str(settings.get("endpoint", "")))


def _goes_stale(report: Mapping[str, Any], arm: str, changes: str) -> str | None:
    if changes == "rarely":
        return None
    stale, retraining = _stale(report, arm), retraining_seconds(report)
    if stale and stale["low"] > STALE:
        again = f", until it is trained again ({_time(retraining)})" if arm in TUNED and retraining else ""
        return (
            f"{arm} gives the former answer to {percent(stale['value'])} of {stale['n']} questions whose facts changed "
            f"(95% interval {percent(stale['low'])} to {percent(stale['high'])}){again}; yours change {changes}."
        )
    if (worse := _worse_on_changed(report, arm)) is not None:
        return f"{worse}; yours change {changes}."
    if arm == "finetuned" and retraining and retraining > CHANGES[changes]:
        return (
            f"{arm} takes {_time(retraining)} to train again, longer than documents that change {changes} stand still."
        )
    return None


def _worse_on_changed(report: Mapping[str, Any], arm: str) -> str | None:
    """Say by how much a trained arm is surely behind reading alone where facts have changed."""
    if arm not in TUNED or "rag" not in report["arms"]:
        return None
    rows = [
        row
        for row in report.get("rows", ())
        if row.get("former_answers") or row.get("strata", {}).get("freshness") == CHANGED
    ]
    pairs = [[row["arms"][a]["scores"].get("overall") for a in ("rag", arm)] for row in rows if arm in row["arms"]]
    known = [pair for pair in pairs if None not in pair]
    if len(known) < LEAST_CHANGED:
        return None
    gain = paired_difference(*zip(*known, strict=True))
    if gain.high >= 0 or (gain.p or 0) > 0.05:
        return None
    return (
        f"{arm} scores {-100 * gain.value:.1f} points less than rag on {gain.n} questions whose facts changed (95% interval "
        f"{-100 * gain.high:.1f} to {-100 * gain.low:.1f})"
    )


LEAST_CHANGED = 10

_CHECKS: dict[str, Callable[[Mapping[str, Any], str, Any], str | None]] = {
    "changes": _goes_stale,
    "traceable": _untraceable,
    "seconds": _too_slow,
    "memory_gib": _too_large,
    "offline": _on_a_network,
    "budget_usd": _too_dear,
}
_FIGURES = {"seconds": seconds_p95, "memory_gib": _memory, "budget_usd": dollars}


def _time(seconds: float) -> str:
    return f"{seconds / 3600:.1f} hours" if seconds >= 5400 else f"{seconds / 60:.1f} minutes"


def _listed(names: Sequence[str]) -> str:
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"
