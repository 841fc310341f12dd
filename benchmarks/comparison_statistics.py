"""Do the intervals of paired differences hold, and is "A beats B" rarely false? Simulated comparisons, known truth.

Scores of four arms are drawn from a generator whose means are known exactly: shares of 0, of 1 and of F1 values between
differ by arm; a question's difficulty is shared by all arms, and a part of the answers is the same in all. Measured: how
often the 95% interval covers the planted difference, how often any arm falsely beats another where none differs in its
mean, how often a difference as large as `detectable` is found. Sets, as in the issue, at 50, 150 and 500 questions.

    python benchmarks/comparison_statistics.py
"""

from __future__ import annotations

import argparse
import time
from itertools import combinations
from pathlib import Path
from statistics import NormalDist
from typing import Any

import measuring
import numpy as np
from numpy.typing import NDArray

from doyen.evaluation.pairs import pair_rows
from doyen.evaluation.statistics import FLIPS, LEVEL, RESAMPLES, detectable_difference, holm, sign_flip_p, student_t

Array = NDArray[np.float64]
SEED = 7
SIZES = (50, 150, 500)
COVERAGE, FALSE = (0.93, 0.97), 0.064  # the bars
CHECKED = 30  # comparisons given to doyen's own functions one by one, too
PAIRS = tuple(combinations(range(4), 2))
LEVELS = np.array([0, 0.1, 0.18, 0.25, 0.33, 0.4, 0.5, 0.57, 0.67, 0.8, 0.89, 1.0])  # token F1s of short answers
# Shares of the answers that score 0 and 1: small models without documents, between, and good ones.
KINDS = {
    "weak": ((0.60, 0.93), (0.02, 0.10)),
    "middle": ((0.20, 0.50), (0.20, 0.45)),
    "strong": ((0.03, 0.15), (0.55, 0.90)),
}
NULLS = ("same distribution", "same mean, other shape", "two pairs of equals")
_cut = np.vectorize(NormalDist().inv_cdf)


def shares(rng: np.random.Generator, kind: str, count: int) -> Array:
    """Return random distributions over LEVELS, (count, 12)."""
    zero, one = (rng.uniform(*limits, count) for limits in KINDS[kind])
    one = np.minimum(one, 0.98 - zero)
    between = rng.dirichlet(np.ones(len(LEVELS) - 2), count) * (1 - zero - one)[:, None]
    return np.concatenate([zero[:, None], between, one[:, None]], axis=1)


def four_arms(rng: np.random.Generator, kind: str, count: int, null: str = "") -> Array:
    """Return each arm's distribution over LEVELS, (count, 4, 12); with `null`, arms whose means are equal."""
    arms = np.stack([shares(rng, kind, count) for _ in range(4)], axis=1)
    if not null:  # in half of the comparisons the arms are near to each other
        weight = np.where(rng.random(count) < 0.5, 0.15, 1.0)[:, None, None]
        return (1 - weight) * arms[:, :1] + weight * arms
    if null == "two pairs of equals":
        return arms[:, [0, 0, 1, 1]]
    arms = np.repeat(arms[:, :1], 4, axis=1)
    if null == "same mean, other shape":  # partly all or nothing at the same mean
        mean = arms[:, :1] @ LEVELS
        all_or_nothing = np.zeros((count, 1, len(LEVELS)))
        all_or_nothing[:, :, -1], all_or_nothing[:, :, 0] = mean, 1 - mean
        weight = rng.uniform(0, 1, (count, 4, 1)) * np.array([0, 1, 1, 1])[None, :, None]
        arms = (1 - weight) * arms + weight * all_or_nothing
    return arms


def draw(rng: np.random.Generator, arms: Array, n: int) -> Array:
    """Return scores of n questions, (comparisons, 4, n), heavily correlated between arms."""
    count = len(arms)
    cuts = _cut(np.clip(np.cumsum(arms, axis=2)[:, :, :-1], 1e-12, 1 - 1e-12))
    shared = rng.uniform(0.3, 0.95, count)[:, None, None]  # of the variance: the question's difficulty
    same = rng.uniform(0, 0.5, count)[:, None, None]  # of the questions: answered the same way
    hard, own = rng.standard_normal((count, 1, n)), rng.standard_normal((count, 4, n))
    own = np.where(rng.random((count, 1, n)) < same, own[:, :1], own)
    z = np.sqrt(shared) * hard + np.sqrt(1 - shared) * own
    places = np.zeros(z.shape, dtype=np.int8)
    for k in range(len(LEVELS) - 1):
        places += z > cuts[:, :, k, None]
    return LEVELS[places]


def comparisons(n: int, count: int, null: str = "") -> tuple[Array, Array]:
    """Return scores (count, 4, n) and true means (count, 4), a third of each kind."""
    scores, means = [], []
    for i, kind in enumerate(KINDS):
        rng = np.random.default_rng((SEED, n, i, NULLS.index(null) + 1 if null else 0))
        arms = four_arms(rng, kind, count // 3 + (i < count % 3), null)
        scores.append(draw(rng, arms, n))
        means.append(arms @ LEVELS)
    return np.concatenate(scores), np.concatenate(means)


def by_pair(values: Array) -> Array:
    """Return b - a of each pair of arms: (comparisons, 4, …) → (comparisons, 6, …)."""
    return np.stack([values[:, b] - values[:, a] for a, b in PAIRS], axis=1)


def p_values(d: Array) -> Array:
    """Return the sign-flip test of each row, (rows, n), with the same flips for all of them."""
    rng, sums = np.random.default_rng(SEED), d.sum(axis=1)
    limits = np.abs(sums) * (1 - 1e-9) - 1e-12
    further = np.zeros(len(d))
    for _ in range(FLIPS // 200):
        signs = 2.0 * rng.integers(0, 2, (200, d.shape[1])) - 1
        further += (np.abs(signs @ d.T) >= limits).sum(axis=0)
    p = (1 + further) / (1 + FLIPS)
    for i in np.flatnonzero(2.0 ** (d != 0).sum(axis=1) <= FLIPS):
        p[i] = sign_flip_p(d[i])  # exact
    return p


def intervals(d: Array) -> dict[str, tuple[Array, Array]]:
    """Return low and high of each row's mean: as doyen computes them, and by the percentile bootstrap."""
    n = d.shape[1]
    mean, half = d.mean(axis=1), student_t(n - 1) * d.std(axis=1, ddof=1) / n**0.5
    drawn = np.random.default_rng(SEED).multinomial(n, np.full(n, 1 / n), RESAMPLES).astype(float)
    low, high = np.quantile(drawn @ d.T / n, (0.025, 0.975), axis=0)
    return {"student_t": (mean - half, mean + half), "percentile": (low, high)}


def covered(d: Array, truth: Array) -> dict[str, Any]:
    """Return the share of intervals that hold the truth: all, by kind of arms, and by the other method."""
    found: dict[str, Any] = {}
    for name, (low, high) in intervals(d.reshape(-1, d.shape[-1])).items():
        t = truth.ravel()
        hit = ((low <= t + 1e-12) & (t <= high + 1e-12)).reshape(truth.shape)
        found[name] = {"all": _share(hit)}
        kinds = zip(KINDS, np.array_split(hit, len(KINDS)), strict=True)
        found[name] |= {kind: _share(part) for kind, part in kinds}
        found[name] |= {"truth_above": _share(t > high + 1e-12), "truth_below": _share(t < low - 1e-12)}
    return found


def decided(d: Array, p: Array) -> tuple[Array, Array]:
    """Return whether one arm beats the other of each pair: corrected, and by the interval alone; (comparisons, 6)."""
    low, high = (side.reshape(p.shape) for side in intervals(d.reshape(-1, d.shape[-1]))["student_t"])
    clear = (low > 0) | (high < 0)
    return clear & (np.apply_along_axis(lambda row: holm(list(row)), 1, p) <= LEVEL), clear


def agreement(scores: Array, beats: Array) -> dict[str, int]:
    """Return how many decisions of doyen's own functions, one by one, are others than those computed here at once.

    The flips are others, so a p-value near to the limit may fall on either side.
    """
    other, step, arms = 0, max(1, len(scores) // CHECKED), ("base", "rag", "finetuned", "rag+finetuned")
    for found, mine in zip(scores[::step], beats[::step], strict=True):
        rows = pair_rows(dict(zip(arms, found.tolist(), strict=True)), seed=SEED)
        other += sum((row["beats"] is not None) != bool(b) for row, b in zip(rows, mine, strict=True))
    return {"other": other, "of": beats[::step].size}


def measure(n: int, count: int) -> dict[str, Any]:
    """Return the figures at n questions."""
    began = time.perf_counter()
    scores, means = comparisons(n, count)
    d, truth = by_pair(scores), by_pair(means)
    p = p_values(d.reshape(-1, n)).reshape(truth.shape)
    beats, _ = decided(d, p)
    seen = detectable_difference(1, n) * d.std(axis=-1, ddof=1)
    near = (np.abs(truth) > 0.9 * seen) & (np.abs(truth) < 1.1 * seen)
    result: dict[str, Any] = {
        "questions": n,
        "comparisons": count,
        "coverage": covered(d, truth),
        "coverage_of_scores": covered(scores, means)["percentile"],
        "found_at_detectable": {"share": _share(p[near] <= LEVEL), "pairs": int(near.sum())},
        "beats": {
            "share": _share(beats),
            "wrong_way": int((beats & (np.sign(d.mean(axis=-1)) != np.sign(truth))).sum()),
        },
        "decisions_one_by_one": agreement(scores, beats),
        "false_beats": {},
    }
    for null in NULLS:
        scores, means = comparisons(n, count, null)
        d, equal = by_pair(scores), np.abs(by_pair(means)) < 1e-9
        beats, clear = decided(d, p_values(d.reshape(-1, n)).reshape(equal.shape))
        result["false_beats"][null] = {
            "family_wise": _share((beats & equal).any(axis=1)),
            "uncorrected": _share((clear & equal).any(axis=1)),
        }
    return result | {"seconds": round(time.perf_counter() - began, 1)}


def _share(hits: Array) -> float:
    return round(float(np.mean(hits)), 4)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--comparisons", type=int, default=1000)
    parser.add_argument(
        "--out", type=Path, default=None, help="result file (default: benchmarks/results/statistics.json)"
    )
    given = parser.parse_args()
    sizes = []
    for n in SIZES:
        sizes.append(measure(n, given.comparisons))
        print(sizes[-1], flush=True)
    within = all(COVERAGE[0] <= s["coverage"]["student_t"]["all"] <= COVERAGE[1] for s in sizes)
    worst = max(f["family_wise"] for s in sizes for f in s["false_beats"].values())
    bars = {"coverage": COVERAGE, "covered": within, "false_beats_at_most": FALSE, "worst_false_beats": worst}
    bars["held"] = within and worst <= FALSE
    measuring.save("statistics", {"seed": SEED, "bars": bars, "sizes": sizes}, given.out)


if __name__ == "__main__":
    main()
