"""Medians, ratios and their bootstrap intervals: the arithmetic of a comparison."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
Statistic = Callable[[Floats], float]

RESAMPLES = 1000
CONFIDENCE = 0.95


@dataclass(frozen=True, kw_only=True)
class Ratio:
    """One quantity with Wardrobe over the same without, and how sure that is."""

    value: float
    low: float
    high: float
    """The bounds of the 95 % bootstrap interval over pairs of blocks."""
    bare: float
    wardrobe: float


def median(values: Floats) -> float:
    return float(np.median(values))


def p99(values: Floats) -> float:
    return float(np.quantile(values, 0.99))


def mean(values: Floats) -> float:
    return float(np.mean(values))


def compare(
    of: Statistic, bare: Sequence[Floats], wardrobe: Sequence[Floats], *, seed: int = 0
) -> Ratio:
    """`of` over all samples of one side against the other.

    Arguments are samples by block, the n-th of each side measured next to each other; whole pairs
    are drawn again for the interval, since samples of one block share its noise. Raises ValueError
    for no blocks or unequal numbers of them.
    """
    if not bare or len(bare) != len(wardrobe):
        raise ValueError("both sides need the same number of blocks, and at least one")
    draw = np.random.default_rng(seed)
    picks = draw.integers(0, len(bare), size=(RESAMPLES, len(bare)))
    resampled = [
        of(np.concatenate([wardrobe[i] for i in pick]))
        / of(np.concatenate([bare[i] for i in pick]))
        for pick in picks
    ]
    tail = (1.0 - CONFIDENCE) / 2.0
    low, high = np.quantile(resampled, [tail, 1.0 - tail])
    without, with_ours = of(np.concatenate(bare)), of(np.concatenate(wardrobe))
    return Ratio(
        value=with_ours / without,
        low=float(low),
        high=float(high),
        bare=without,
        wardrobe=with_ours,
    )
