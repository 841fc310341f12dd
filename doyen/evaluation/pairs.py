"""The arms' scores → their paired differences, which arm beats which, and how many questions would tell two apart.

Every two arms are tested; the decision "A beats B" is corrected for the number of pairs. Pairs with an extra arm (oracle,
reference) are corrected among themselves, so that measuring a ceiling changes no choice. Asks no model.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from itertools import combinations
from typing import Any

from doyen.errors import UsageError
from doyen.evaluation.crossed import Array, as_matrix, crossed_difference
from doyen.evaluation.scoring import Score
from doyen.evaluation.statistics import (
    LEVEL,
    Interval,
    detectable_difference,
    holm,
    paired_difference,
    questions_needed,
    spread,
)
from doyen.evaluation.trainings import MeanScore
from doyen.records import EXTRA_ARMS

PAIRED = ("overall", "answer_score", "token_f1")
NO_LEAD = 0.005  # half a point
PAIRS_OF_FOUR = 6
MOST_QUESTIONS = 20_000  # nobody writes more to settle a choice
ASSUMED_SPREAD = 0.5  # as if a quarter of the questions were right in one arm and wrong in the other


def arm_differences(scores: Mapping[str, Sequence[Score | None]], seed: int) -> list[dict[str, Any]]:
    """Return `{a, b, metrics}` for every two of the four arms, and for each extra arm with each of these.

    Metrics are as `pair_rows` has them: paired differences b - a, over the questions that both arms have scores of.
    """
    among = list(combinations([arm for arm in scores if arm not in EXTRA_ARMS], 2))
    beside = [(a, b) for b in scores if b in EXTRA_ARMS for a in scores if a not in EXTRA_ARMS]
    rows: dict[tuple[str, str], dict[str, Any]] = {pair: {} for pair in (*among, *beside)}
    for name in PAIRED:
        values = {arm: [_values(score, name) for score in found] for arm, found in scores.items()}
        for family in (among, beside):
            known = [(a, b) for a, b in family if _common(values[a], values[b])]
            for pair, found in zip(known, pair_rows(values, seed=seed, pairs=known), strict=True):
                rows[pair][name] = found
    return [{"a": a, "b": b, "metrics": metrics} for (a, b), metrics in rows.items()]


def _values(score: Score | None, name: str) -> float | tuple[float, ...] | None:
    """Return a question's value, one a training where there are several."""
    if isinstance(score, MeanScore):
        each = [getattr(one, name) for one in score.of]
        return None if None in each else tuple(each)
    return None if score is None else getattr(score, name)


Values = Sequence[float | tuple[float, ...] | None]


def _common(a: Values, b: Values) -> list[int]:
    return [i for i, (x, y) in enumerate(zip(a, b, strict=True)) if x is not None and y is not None]


def pair_rows(
    values: Mapping[str, Values], *, seed: int, pairs: Sequence[tuple[str, str]] | None = None
) -> list[dict[str, Any]]:
    """Return the difference b - a of pairs of arms (all two, in the order of `itertools.combinations`).

    `values` are by question: a number, one a training where an arm was trained several times, or None where the arm was not
    asked; the questions that both have count. With several trainings the intervals are over these too (crossed.py).

    Each is {value, low, high, n, p_value, p_holm, beats, spread, detectable, more_questions}: `p_holm` is corrected for
    all pairs; `beats` the arm that is surely better (p_holm at most 5%, and an interval without zero) or None; `spread`
    the standard deviation of the differences; `detectable` the true difference that a test of this pair alone finds four
    times in five, None where all differences are equal; `more_questions` about how many more would find the observed one
    so often, corrected for the pairs not told apart yet; 0 where it is, None where it is too near to zero.
    """
    pairs = list(combinations(values, 2)) if pairs is None else pairs
    sides = [_sides(values[a], values[b]) for a, b in pairs]
    found = [_difference(x, y, seed) for x, y in sides]
    corrected = holm([gain.p or 0.0 for gain in found])
    sure = [p <= LEVEL and (gain.low > 0 or gain.high < 0) for gain, p in zip(found, corrected, strict=True)]
    rows = []
    for i, ((a, b), gain) in enumerate(zip(pairs, found, strict=True)):
        row = gain.as_dict()
        row["p_value"] = row.pop("p")
        x, y = sides[i]
        width = spread((y - x).mean(axis=1))
        row |= {"p_holm": round(corrected[i], 5), "beats": (b if gain.value > 0 else a) if sure[i] else None}
        row |= {"spread": round(width, 6), "detectable": round(detectable_difference(width, gain.n), 6) or None}
        row["more_questions"] = 0 if sure[i] else more_questions(gain.value, width, gain.n, tests=sure.count(False))
        rows.append(row)
    return rows


def _sides(a: Values, b: Values) -> tuple[Array, Array]:
    """Return the values of both arms `(questions, trainings)` over the questions that both have."""
    common = _common(a, b)
    return as_matrix([a[i] for i in common]), as_matrix([b[i] for i in common])


def _difference(x: Array, y: Array, seed: int) -> Interval:
    if x.shape[1] == y.shape[1] == 1:
        return paired_difference(x[:, 0], y[:, 0], seed=seed)
    return crossed_difference(x, y, seed=seed)


def more_questions(difference: float, spread: float, n: int, *, tests: int = 1) -> int | None:
    """Return about how many questions beside `n` would tell two arms apart in `tests` tests; None if out of reach."""
    if abs(difference) < NO_LEAD or (needed := questions_needed(difference, spread, tests=tests)) > MOST_QUESTIONS:
        return None
    more = max(1, needed - n)
    digits = max(0, int(math.log10(more)) - 1)  # two figures: the spread is known no better
    step = int(10**digits)
    return math.ceil(more / step) * step


def plan_questions(
    difference: float, comparison: Mapping[str, Any] | None = None, *, spread: float | None = None
) -> dict[str, Any]:
    """Say how many questions find a true difference in the overall score four times in five, two-sided at 5%.

    Args:
        difference: between two arms, as a share: 0.05 is 5 points.
        comparison: a report; its pairs' spreads are used, unless `spread` is given.
        spread: standard deviation of the paired differences; 0.5 is assumed where nothing is known.

    Returns:
        {difference, questions, corrected, asked, assumed, pairs: [{a, b, spread, questions}]}: `questions` are enough for
        every pair compared alone, `corrected` for any one of them among all six; `asked` those of the comparison,
        `assumed` the spread where none was measured, else None.

    Raises:
        UsageError: a figure lies outside of 0 to 1.
    """
    for name, value in (("difference", difference), ("spread", spread if spread is not None else 1.0)):
        if not 0 < value <= 1:
            raise UsageError(f"a {name} lies between 0 and 1, got {value}", hint="write 5 points as 0.05")
    measured = comparison["differences"] if comparison is not None and spread is None else []
    pairs = []
    for row in (row for row in measured if row["b"] not in EXTRA_ARMS):
        if width := row["metrics"].get("overall", {}).get("spread"):  # 0: the pair agreed, which says nothing
            needed = questions_needed(difference, width)
            pairs.append({"a": row["a"], "b": row["b"], "spread": width, "questions": needed})
    assumed = None if pairs else spread or ASSUMED_SPREAD
    widest = assumed or max(pair["spread"] for pair in pairs)
    return {
        "difference": difference,
        "questions": questions_needed(difference, widest),
        "corrected": questions_needed(difference, widest, tests=PAIRS_OF_FOUR),
        "asked": comparison["questions"]["total"] if comparison is not None else None,
        "assumed": assumed,
        "pairs": pairs,
    }


def plan_lines(plan: Mapping[str, Any]) -> list[str]:
    """Return a plan of `plan_questions` for the terminal."""
    points = f"{100 * plan['difference']:g} points"
    lines = [
        f"{plan['questions']:,} questions show a true difference of {points} between two arms four times in five; "
        f"{plan['corrected']:,} do so among four arms"
    ]
    if plan["assumed"]:
        share = f"{plan['assumed'] ** 2:.0%}"
        lines.append(f"  assumed: a spread of {plan['assumed']:g}, as if two arms differed wholly on {share} of them")
    for pair in plan["pairs"]:
        name = f"{pair['b']} minus {pair['a']}"
        lines.append(f"  {name:<30}{pair['questions']:>7} (spread {pair['spread']:.2f})")
    if plan["pairs"]:
        lines.append(f"  spreads: of the newest comparison, {plan['asked']} questions")
    return lines


def resolution(gain: Mapping[str, Any]) -> str:
    """Say in a few words what more questions would tell of a difference as `pair_rows` has it."""
    if gain["beats"]:
        return "told apart"
    if gain["more_questions"] is None:
        return "more questions will not settle it"
    return f"about {gain['more_questions']:,} more questions"
