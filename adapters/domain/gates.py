"""Gates: the checks a candidate must pass before it may go live.

What is measured is the trainer's business; what the numbers mean is decided here, by pure
functions of numbers and a unit's thresholds.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

MIN_EXAMPLES = 8
"""Fewest held-out examples that can prove a gain: the bootstrap draws from what was measured, and
where that is a handful, a few lucky answers look like certainty."""


class GatePolicy(BaseModel):
    """A unit's thresholds, and what happens when all gates are passed."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    promote: Literal["automatic", "manual"] = Field(
        default="automatic", description="Put a version live when it has passed its gates."
    )
    min_effect: float = Field(
        default=0.05, ge=0.0, le=1.0, description="Share of answers that must differ from the base."
    )
    min_fidelity: float = Field(
        default=0.9,
        ge=0.0,
        le=1.0,
        description="Share of answers that must equal the trainer's own forward pass.",
    )
    min_gain: float = Field(
        default=0.02,
        ge=0.0,
        le=1.0,
        description="Held-out score (token F1) by which the adapter must beat the base.",
    )
    evaluation_examples: int = Field(
        default=64, ge=MIN_EXAMPLES, le=2000, description="Held-out examples asked of the service."
    )


@dataclass(frozen=True, kw_only=True)
class GateResult:
    """One gate's verdict, with the number behind it."""

    gate: str
    passed: bool
    measured: float
    threshold: float
    detail: str


def all_passed(results: Sequence[GateResult]) -> bool:
    """No gate said no. An empty sequence proves nothing, so it does not pass."""
    return bool(results) and all(result.passed for result in results)


def at_least(gate: str, measured: float, threshold: float, detail: str) -> GateResult:
    """A gate that asks for a minimum."""
    return GateResult(
        gate=gate,
        passed=measured >= threshold,
        measured=round(measured, 4),
        threshold=threshold,
        detail=detail,
    )


def held_out_gain(
    base: Sequence[float], adapter: Sequence[float], *, min_gain: float, resamples: int = 1000
) -> GateResult:
    """Does the adapter beat the base on the same held-out examples, and not by luck?

    `base` and `adapter` are scores in [0, 1] of the same examples in the same order. Passes when
    there are `MIN_EXAMPLES`, the mean gain reaches `min_gain` and the lower end of its 95 % paired
    bootstrap interval (Efron & Tibshirani 1993, ch. 13) is above zero. Raises ValueError when the
    lengths differ.
    """
    gains = [after - before for before, after in zip(base, adapter, strict=True)]
    mean = sum(gains) / len(gains) if gains else 0.0
    detail = f"gain over the base on {len(gains)} held-out examples"
    if len(gains) < MIN_EXAMPLES:
        sure = False
        detail += f"; fewer than {MIN_EXAMPLES} prove nothing"
    else:
        low = _lower_end(gains, resamples)
        sure = low > 0.0
        detail += f", 95 % sure of {low:.3f}"
        if mean >= min_gain and not sure:
            detail += ", which is not above zero: it may be luck"
    return GateResult(
        gate="held_out",
        passed=sure and mean >= min_gain,
        measured=round(mean, 4),
        threshold=min_gain,
        detail=detail,
    )


def _lower_end(gains: Sequence[float], resamples: int) -> float:
    """Of the 95 % bootstrap interval of the mean; the draws are the same every time."""
    draw = random.Random(17)
    means = sorted(sum(draw.choices(gains, k=len(gains))) / len(gains) for _ in range(resamples))
    return means[int(0.025 * len(means))]
