"""Do the intervals over questions and trainings (doyen/evaluation/crossed.py) hold? Simulated scores, known mean.

A score is the mean plus a question's, a training's and a remaining part, drawn from normal distributions with standard
deviations of 0.3, that given, and 0.2. Measured: how often the 95% interval covers the mean, by trainings and questions.

    python benchmarks/training_intervals.py
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import measuring
import numpy as np

from doyen.evaluation.crossed import crossed_interval

SEED = 7
MEAN, OF_QUESTIONS, REST = 0.5, 0.3, 0.2
TRAININGS = (2, 3, 5)
SPREADS = (0.0, 0.02, 0.1, 0.2)
QUESTIONS = (50, 200)


def covered(rng: np.random.Generator, questions: int, trainings: int, spread: float, draws: int) -> float:
    """Return the share of drawn comparisons whose interval covers the mean."""
    hits = 0
    for _ in range(draws):
        values = MEAN + rng.normal(0, OF_QUESTIONS, (questions, 1)) + rng.normal(0, spread, (1, trainings))
        interval = crossed_interval(values + rng.normal(0, REST, (questions, trainings)))
        hits += interval.low <= MEAN <= interval.high
    return round(hits / draws, 4)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--draws", type=int, default=4000)
    parser.add_argument(
        "--out", type=Path, default=None, help="result file (default: benchmarks/results/training_intervals.json)"
    )
    given = parser.parse_args()
    rng, rows = np.random.default_rng(SEED), list[dict[str, Any]]()
    for k in TRAININGS:
        for spread in SPREADS:
            by_questions = {str(n): covered(rng, n, k, spread, given.draws) for n in QUESTIONS}
            rows.append({"trainings": k, "spread": spread, "coverage": by_questions})
            print(rows[-1], flush=True)
    measuring.save("training_intervals", {"seed": SEED, "draws": given.draws, "rows": rows}, given.out)


if __name__ == "__main__":
    main()
