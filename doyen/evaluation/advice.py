"""A comparison's report → which arm to use, and why; or, with nothing measured, the rules of thumb.

Works on the report's dictionary (see report.py for its form) and computes no score itself.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from doyen.evaluation.ceiling import what_extras_tell
from doyen.evaluation.constraints import Constraints, RuledOut, not_measured, rule_out, untraced
from doyen.evaluation.freshness_text import fresh_lines
from doyen.evaluation.pairs import more_questions
from doyen.evaluation.report_text import percent, points_with_interval
from doyen.evaluation.statistics import student_t
from doyen.finetuning.forgetting import MOST_RISE
from doyen.records import ARMS, Arm

FEW_QUESTIONS = 30
Figures = Mapping[str, Mapping[str, Any]]  # metric → {value, low, high, n}
Overall = Mapping[Arm, Mapping[str, Any]]

# What each arm asks for in use; the order of ARMS is from the simplest to the most involved.
UPKEEP: dict[Arm, str] = {
    "base": "no index and no training",
    "rag": "an index, which follows the documents as they change",
    "finetuned": "a training run, repeated when the documents or the base model change",
    "rag+finetuned": "an index and a training run, both kept up to date",
}


@dataclass(frozen=True, slots=True)
class Advice:
    """The arm to use, None where none keeps to the constraints.

    `measured` is False where the reasons are rules and not figures of this comparison. `constraints` are those that were
    given, `ruled_out` the arms that break one, with the figure.
    """

    arm: Arm | None
    reasons: list[str]
    runner_up: Arm | None
    measured: bool
    constraints: dict[str, Any] = field(default_factory=dict)
    ruled_out: list[RuledOut] = field(default_factory=list)

    def as_dict(self) -> dict[str, Any]:
        """Return the advice as written into a report."""
        return asdict(self)


def difference(comparison: Mapping[str, Any], a: Arm, b: Arm, metric: str = "overall") -> dict[str, Any] | None:
    """Return the paired difference b - a of a report (docs/reference/report.md), or None where it has none."""
    for row in comparison["differences"]:
        found = row["metrics"].get(metric)
        if found and (row["a"], row["b"]) == (a, b):
            return dict(found)
        if found and (row["a"], row["b"]) == (b, a):
            return {**found, "value": -found["value"], "low": -found["high"], "high": -found["low"]}
    return None


def advise(comparison: Mapping[str, Any], constraints: Constraints | None = None) -> Advice:
    """Choose, of the arms that keep to the constraints, the one with the best overall score; a tie goes to the simpler arm.

    So the choice is the simplest arm that no other of them beats, by the test that is corrected for the number of pairs.
    The overall score is the mean over all questions of the answer's score, where an unanswerable question counts 1
    if it was refused and 0 if not.
    """
    demands = constraints or Constraints()
    arms: dict[Arm, Figures] = {arm: comparison["arms"][arm]["metrics"] for arm in ARMS if arm in comparison["arms"]}
    overall: Overall = {arm: m["overall"] for arm, m in arms.items() if "overall" in m}
    out = rule_out(comparison, demands)
    left: Overall = {arm: overall[arm] for arm in overall if arm not in {o.arm for o in out}}
    about: dict[str, Any] = {"constraints": demands.as_dict(), "ruled_out": out}
    if not overall:
        simplest: Arm = next((arm for arm in arms if arm not in {o.arm for o in out}), "base")
        reason = "No question has a known answer, so nothing was measured: add answers to the questions."
        return Advice(simplest, [reason, *(o.reason for o in out)], None, measured=False, **about)
    if not left:
        reasons = [f"None of the {len(overall)} arms measured keeps to all that is demanded."]
        reasons += [o.reason for o in out] + _loosened(comparison, demands, overall)
        return Advice(None, reasons, None, measured=True, **about)
    chosen, best = _choice(comparison, left)
    others = [arm for arm in left if arm != chosen]
    runner_up = max(others, key=lambda arm: float(left[arm]["value"]), default=None)
    reasons = [_standing(comparison, left, chosen, best)]
    reasons += [f"Ruled out: {o.reason}" for o in out] + not_measured(comparison, demands)
    reasons += untraced(comparison, chosen, demands)
    reasons += _resolution(comparison, chosen, best)
    reasons += _gains(comparison, left, chosen)
    reasons += _evidence(arms, chosen) + _speed(comparison, chosen) + _refusals(arms, chosen)
    reasons += _forgetting(comparison, chosen)
    reasons += what_extras_tell(comparison, chosen)
    reasons += _what_would_change_it(comparison, left, chosen, runner_up)
    reasons += _without_each(comparison, demands, overall, chosen)
    return Advice(chosen, reasons, runner_up, measured=True, **about)


def _choice(comparison: Mapping[str, Any], left: Overall) -> tuple[Arm, Arm]:
    """Return the simplest arm that no other beats, and the one that scores highest."""
    best = max(left, key=lambda arm: float(left[arm]["value"]))  # the first, so the simpler, of equals
    chosen = next(arm for arm in left if arm == best or not any(_beaten(comparison, arm, by) for by in left))
    return chosen, best


def _left_without(comparison: Mapping[str, Any], demands: Constraints, name: str, overall: Overall) -> Overall:
    """Return the arms that keep to all demands but one."""
    out = {o.arm for o in rule_out(comparison, demands.without(name))}
    return {arm: found for arm, found in overall.items() if arm not in out}


def _loosened(comparison: Mapping[str, Any], demands: Constraints, overall: Overall) -> list[str]:
    """Say which single constraint to loosen, the one that leaves the best score first; or that one is not enough."""
    found = []
    for name in demands.given:
        if left := _left_without(comparison, demands, name, overall):
            found.append((name, _choice(comparison, left)[0]))
    if not found:
        return [
            f"No single one of the {len(demands.given)} demands is enough to give up: at least 2 rule out every arm."
        ]
    found.sort(key=lambda pair: -float(overall[pair[1]]["value"]))
    return [
        f"{'Loosen' if i == 0 else 'Or loosen'} {demands.said(name)}: {arm} would be left, which scores "
        f"{percent(overall[arm]['value'])}."
        for i, (name, arm) in enumerate(found)
    ]


def _without_each(comparison: Mapping[str, Any], demands: Constraints, overall: Overall, chosen: Arm) -> list[str]:
    """Say which other arm would be chosen if one of the constraints were given up."""
    found = []
    for name in demands.given:
        other = _choice(comparison, _left_without(comparison, demands, name, overall))[0]
        if other != chosen:
            score = percent(overall[other]["value"])
            found.append(f"Without {demands.said(name)} it would be {other}, which scores {score}.")
    return found


def _beaten(comparison: Mapping[str, Any], arm: Arm, by: Arm) -> bool:
    gain = difference(comparison, arm, by)
    if gain is None:
        return False
    return bool(gain["beats"] == by) if "beats" in gain else gain["low"] > 0  # reports made before had no test


def _standing(comparison: Mapping[str, Any], overall: Overall, chosen: Arm, best: Arm) -> str:
    mine = overall[chosen]
    score = f"{chosen} scores {percent(mine['value'])} over all {mine['n']} questions"
    score += f" (95% interval {100 * mine['low']:.1f} to {100 * mine['high']:.1f}%)"
    if len(overall) == 1:
        return f"{score}; no other arm {'is left' if _measured(comparison) > 1 else 'was measured'}."
    gain = None if chosen == best else difference(comparison, chosen, best)
    if gain is None:
        return f"{score}, the highest of the {len(overall)} arms {'measured' if len(overall) == _measured(comparison) else 'left'}."
    return (
        f"{score}. {best} scores highest with {percent(overall[best]['value'])}, but its lead of {points_with_interval(gain)} "
        f"cannot be told from zero{_corrected(gain)}, and of two equals the simpler is chosen."
    )


def _measured(comparison: Mapping[str, Any]) -> int:
    return sum(arm in ARMS for arm in comparison["arms"])


def _corrected(gain: Mapping[str, Any]) -> str:
    """Say that it is the correction where the interval alone would leave out zero."""
    if gain["low"] <= 0:
        return ""
    return f" once corrected for the number of pairs (p = {gain['p_holm']:.3f})"


def _resolution(comparison: Mapping[str, Any], chosen: Arm, best: Arm) -> list[str]:
    """Say how fine the questions can tell, where a tie decided."""
    gain = None if chosen == best else difference(comparison, chosen, best)
    if not gain or not gain.get("detectable"):
        return []
    seen = f"a true difference of {100 * gain['detectable']:.1f} points between two arms compared alone is seen four times in five"
    return [f"With {gain['n']} questions {seen}, a smaller one less often."]


def _gains(comparison: Mapping[str, Any], overall: Overall, chosen: Arm) -> list[str]:
    simpler = [arm for arm in ARMS[: ARMS.index(chosen)] if arm in overall]
    if not simpler:
        return []
    gain = difference(comparison, simpler[-1], chosen)
    if gain is None:
        return []
    return [
        f"Against the next simpler arm, {simpler[-1]}, it gains {points_with_interval(gain)}; it needs {UPKEEP[chosen]}."
    ]


def _evidence(arms: Mapping[Arm, Figures], chosen: Arm) -> list[str]:
    precision, recall = arms[chosen].get("citation_precision"), arms[chosen].get("citation_recall")
    if precision and recall:
        return [
            f"Its answers can be checked: {percent(precision['value'])} of its citations name a place where the "
            f"answer is known to stand, and {percent(recall['value'])} of those places are cited."
        ]
    if chosen in ("rag", "rag+finetuned"):
        return []
    citing = [arm for arm in arms if "citation_precision" in arms[arm]]
    beside = f" {' and '.join(citing)} did." if citing else ""
    return [f"It gave no citations (0%), so its answers cannot be checked against a document.{beside}"]


def _speed(comparison: Mapping[str, Any], chosen: Arm) -> list[str]:
    """Tell how long one person waits, where that was measured of each arm, else an answer's share of its batch."""
    arms = comparison["arms"]
    costs = (comparison.get("cost") or {}).get("arms") or {}
    seconds = {arm: m["metrics"]["seconds_p50"]["value"] for arm, m in arms.items() if "seconds_p50" in m["metrics"]}
    alone = {arm: costs[arm]["latency_p50"] for arm in seconds if "latency_p50" in costs.get(arm, {})}
    what = "an answer, asked alone (median)" if len(alone) == len(seconds) else "an answer (median)"
    seconds = alone if len(alone) == len(seconds) else seconds
    if chosen not in seconds:
        return []
    fastest = min(seconds, key=lambda arm: float(seconds[arm]))
    if fastest == chosen:
        return [f"It takes {seconds[chosen]:.2f} s {what}, the least of the arms measured."]
    return [f"It takes {seconds[chosen]:.2f} s {what}; {fastest} takes {seconds[fastest]:.2f} s."]


def _refusals(arms: Mapping[Arm, Figures], chosen: Arm) -> list[str]:
    right, wrong = (arms[chosen].get(name) for name in ("unanswerable_refused", "false_refusal_rate"))
    refused_wrongly = f"{percent(wrong['value'])} of the {wrong['n']} that can be answered" if wrong else ""
    if right:
        also = f", and also {refused_wrongly}" if wrong else ""
        return [f"It refuses {percent(right['value'])} of the {right['n']} questions without an answer{also}."]
    return [f"It refuses {refused_wrongly}; no question without an answer was asked."] if wrong else []


def _forgetting(comparison: Mapping[str, Any], chosen: Arm) -> list[str]:
    """Say what the training of a chosen adapter cost on general texts, where that was measured."""
    found = ((comparison.get("manifest") or {}).get("adapter") or {}).get("forgetting")
    if not found or "finetuned" not in chosen:
        return []
    change = f"{percent(abs(found['rise']))} {'more' if found['rise'] > 0 else 'fewer'}"
    said = f"On general texts the trained model takes {change} bits a byte than the base model"
    if found["rise"] > MOST_RISE:
        return [f"{said}: more than {MOST_RISE:.0%}, so it has lost some of what the base can do."]
    return [f"{said}, so little of what the base can do was lost."]


def _what_would_change_it(
    comparison: Mapping[str, Any], overall: Overall, chosen: Arm, runner_up: Arm | None
) -> list[str]:
    found = []
    gain = difference(comparison, chosen, runner_up) if runner_up else None
    if runner_up and gain:
        found.append(_turning_point(chosen, runner_up, gain))
    if overall[chosen]["n"] < FEW_QUESTIONS:
        found.append(f"{overall[chosen]['n']} questions are few: with {FEW_QUESTIONS} or more the choice may change.")
    if chosen in ("finetuned", "rag+finetuned"):
        found += _after_training(comparison, overall, chosen)
    return found


def _after_training(comparison: Mapping[str, Any], overall: Overall, chosen: Arm) -> list[str]:
    """Say what becomes of a trained arm when documents change, or that it was not measured."""
    said = fresh_lines(comparison, chosen)
    if not said:
        said.append(
            f"All {overall[chosen]['n']} questions are about the documents as they are now: what is lost when documents change "
            "after the training is not measured; the trained part stays as it was until it is trained again."
        )
    return said


def _turning_point(chosen: Arm, runner_up: Arm, gain: Mapping[str, Any]) -> str:
    """Say how far the runner-up (at `gain` above the chosen arm) is from being chosen."""
    lead, half_width = 100 * gain["value"], 100 * (gain["value"] - gain["low"])
    behind = f"What would change it: {runner_up} is {abs(lead):.1f} points "
    if lead > 0:
        more = _more(gain)
        if more is None:
            return f"{behind}ahead: too little to be settled by a larger set of questions."
        return (
            f"{behind}ahead; you need about {more:,} more questions to tell these two apart, if the lead is as large "
            "as it seems."
        )
    if ARMS.index(runner_up) < ARMS.index(chosen):
        interval = f"{-100 * gain['high']:.1f} to {-100 * gain['low']:.1f}"
        return (
            f"{behind}behind and simpler; it would be chosen if the 95% interval of that difference ({interval}) "
            "reached zero."
        )
    return (
        f"{behind}behind and asks for more; it would have to gain about {half_width - lead:.1f} points on "
        f"{gain['n']} questions like these to be chosen."
    )


def _more(gain: Mapping[str, Any]) -> int | None:
    """Return about how many more questions would settle it; from the interval in reports that do not hold the number."""
    if "more_questions" in gain:
        return gain["more_questions"]  # type: ignore[no-any-return]
    n = int(gain["n"])
    return more_questions(gain["value"], (gain["value"] - gain["low"]) / student_t(max(1, n - 1)) * n**0.5, n)
