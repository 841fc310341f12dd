"""Logistic regression of two classes with a ridge: numbers in, weights out. Knows nothing of what the columns mean."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
_STEPS = 100
_LARGEST_STEP = 2.0


def logistic_weights(design: Array, target: Array, ridge: Array, weight: Array | float = 1.0) -> Array:
    """Return the weights (columns,) of a design (rows, columns) that make the target (rows,), of zeros and ones, likeliest (Newton).

    `ridge` (columns,) is the penalty on each weight's square, halved; `weight` what each row counts.
    """
    beta = np.zeros(design.shape[1])
    for _ in range(_STEPS):
        fitted = 1 / (1 + np.exp(-np.clip(design @ beta, -30, 30)))
        gradient = design.T @ (weight * (fitted - target)) + ridge * beta
        curvature = design.T @ (design * (weight * fitted * (1 - fitted))[:, None]) + np.diag(ridge + 1e-9)
        step = np.linalg.solve(curvature, gradient)
        beta -= np.clip(step, -_LARGEST_STEP, _LARGEST_STEP)
        if np.abs(step).max() < 1e-9:
            break
    return beta
