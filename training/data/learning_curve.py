"""What more examples would buy, told from scores after training on three sizes of the same data.

Scores of a task follow a power law of the number of examples: 1 - score = a · n^-b (Hestness et
al. 2017, arXiv 1712.00409). Three sizes fix it well enough to say what twice as many would do, and
no further than four times.
"""

from __future__ import annotations

import math
import random
from collections.abc import Sequence
from dataclasses import dataclass

SHARES = (0.25, 0.5, 1.0)
FEWEST = 40
"""Training examples below which a quarter of them is no size to learn from."""
CHEAP = 400
"""Training examples up to which three trainings instead of one are worth what they tell."""
FURTHEST = 4
"""Times the data at hand; beyond that the law is a guess."""
WORTH = 0.01
"""Gain of twice the data that is worth saying."""


@dataclass(frozen=True, kw_only=True)
class Curve:
    """Score as a function of the number of training examples."""

    examples: int
    """Those at hand."""
    score: float
    """As measured with them."""
    scale: float
    exponent: float
    """Not negative; 0 is a flat curve."""

    def at(self, examples: int) -> float:
        """The score to expect of so many examples, no further than the law reaches."""
        reached = min(examples, FURTHEST * self.examples)
        return 1.0 - self.scale * math.pow(reached, -self.exponent)

    def needed_for(self, score: float) -> int | None:
        """How many examples to expect it of; None where that is out of reach."""
        if self.exponent <= 0 or not 0 < score < 1:
            return None
        needed = math.ceil((self.scale / (1.0 - score)) ** (1.0 / self.exponent))
        return needed if needed <= FURTHEST * self.examples else None

    def as_text(self) -> str:
        """A sentence for the data's owner."""
        twice = 2 * self.examples
        gain = self.at(twice) - self.at(self.examples)
        if gain < WORTH:
            return (
                f"With {self.examples} examples the score is {self.score:.2f}; more examples of "
                "this kind would hardly change it: look at which ones it gets wrong"
            )
        return (
            f"With {self.examples} examples the score is {self.score:.2f}; twice as many "
            f"({twice} examples) would bring it to about {self.at(twice):.2f}, "
            f"{FURTHEST * self.examples} to about {self.at(FURTHEST * self.examples):.2f}"
        )


def nested(examples: int, *, seed: int) -> tuple[tuple[int, ...], ...]:
    """Places of three training sets, each inside the next; none for data that is too small."""
    if examples < FEWEST:
        return ()
    order = list(range(examples))
    random.Random(seed).shuffle(order)
    return tuple(tuple(sorted(order[: round(examples * share)])) for share in SHARES)


def is_cheap(examples: int) -> bool:
    """Whether a curve is worth its trainings: for small data, which it is for."""
    return FEWEST <= examples <= CHEAP


def notes_of_curve(examples: int, *, wanted: bool) -> list[tuple[str, str]]:
    """(level, message) for the owner of small data."""
    if examples < FEWEST:
        return [("info", f"Only {examples} training examples: too few to estimate what more buys")]
    if not is_cheap(examples):
        return []
    if wanted:
        told = "a job trains on a quarter and a half of them as well and tells what more would buy"
        return [("info", f"Few examples: {told}, in up to three times the steps")]
    ask = "`data.learning_curve: true` in the unit's file has a job estimate what more would buy"
    return [("info", f"Few examples: {ask}")]


def curve_of(points: Sequence[tuple[int, float]]) -> Curve | None:
    """The law through (examples, score between 0 and 1) of three sizes or more; None with fewer.

    By least squares on the logarithms of size and error.
    """
    if len({size for size, _ in points}) < len(SHARES):
        return None
    ordered = sorted(points)
    xs = [math.log(size) for size, _ in ordered]
    ys = [math.log(max(1.0 - score, 1e-3)) for _, score in ordered]
    mean_x, mean_y = sum(xs) / len(xs), sum(ys) / len(ys)
    spread = sum((x - mean_x) ** 2 for x in xs)
    slope = sum((x - mean_x) * (y - mean_y) for x, y in zip(xs, ys, strict=True)) / spread
    exponent = max(0.0, -slope)
    size, score = ordered[-1]
    return Curve(
        examples=size,
        score=score,
        scale=math.exp(mean_y + exponent * mean_x),
        exponent=exponent,
    )
