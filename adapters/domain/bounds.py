"""One-sided confidence bounds for the mean of paired differences, in plain Python.

A difference is what one example scored under one model less what it scored under another. Both
methods draw the same numbers every time, so that a verdict can be recomputed.
"""

from __future__ import annotations

import random
from bisect import bisect_left, bisect_right
from collections.abc import Sequence
from math import fsum
from statistics import NormalDist

FEW = 48
"""Below so many differences the bootstrap is too sure of itself: where a twentieth of the bounds
should lie above the true mean, a tenth of them do at 16 (`benchmarks/gates.py`)."""
DRAWS = 4000
_SEED = 17
_NORMAL = NormalDist()


def lower_bound(differences: Sequence[float], *, confidence: float) -> float:
    """What the true mean is not below, with this confidence (0.95 errs once in twenty).

    The BCa bootstrap; by subsets where there are few, or all of them are equal: then the bootstrap
    has nothing to draw from, and the bound is their value. Raises ValueError without differences.
    """
    if not differences:
        raise ValueError("a mean of nothing has no bound")
    if len(differences) < FEW or min(differences) == max(differences):
        return by_subsets(differences, confidence=confidence)
    return by_bootstrap(differences, confidence=confidence)


def by_subsets(differences: Sequence[float], *, confidence: float) -> float:
    """Exact, whatever the number of differences, where they lie symmetrically about their mean.

    The mean of a random subset is a typical value (Hartigan 1969, JASA 64): the true mean lies with
    equal probability between any two neighbours of several. This is the sign-flip test turned
    round: flipping the signs of a subset leaves a sum as large exactly when the subset's mean is
    not above the tested one.
    """
    draw = random.Random(_SEED)
    means = sorted(mean(_subset(differences, draw)) for _ in range(DRAWS - 1))
    return means[max(0, int((1.0 - confidence) * DRAWS) - 1)]


def by_bootstrap(differences: Sequence[float], *, confidence: float) -> float:
    """BCa: the bootstrap's quantile, corrected for bias and for skewness.

    Efron 1987, JASA 82 (formulae 2.3, 6.6 as in Efron & Tibshirani 1993, section 14.3).
    """
    number, middle = len(differences), mean(differences)
    draw = random.Random(_SEED)
    means = sorted(mean(draw.choices(differences, k=number)) for _ in range(DRAWS))
    below = (bisect_left(means, middle) + bisect_right(means, middle)) / 2
    bias = _NORMAL.inv_cdf(min(max(below, 0.5), DRAWS - 0.5) / DRAWS)
    off = [value - middle for value in differences]
    skewness = fsum(each**3 for each in off) / (6.0 * fsum(each**2 for each in off) ** 1.5)
    at = bias + _NORMAL.inv_cdf(1.0 - confidence)
    share = _NORMAL.cdf(bias + at / (1.0 - skewness * at))
    return means[min(int(share * DRAWS), DRAWS - 1)]


def mean(values: Sequence[float]) -> float:
    """To the last digit, whatever the order. Raises ZeroDivisionError without values."""
    return fsum(values) / len(values)


def _subset(values: Sequence[float], draw: random.Random) -> list[float]:
    """Not empty: each value is in it or not with equal probability."""
    while True:
        chosen = draw.getrandbits(len(values))
        if chosen:
            return [value for at, value in enumerate(values) if chosen >> at & 1]
