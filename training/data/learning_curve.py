"""What more examples would buy, told from scores after training on three sizes of the same data.

Scores of a task follow a power law of the number of examples: 1 - score = a · n^-b (Hestness et
al. 2017, arXiv 1712.00409). Three sizes fix it well enough to say what twice as many would do, as
surely as the validation rows allow, and no further. How small an error can be is told by what the
score counts; how sure it is by the rows, because the tokens of one answer depend on each other.
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
WORTH = 0.01
"""Gain of twice the data that is worth saying."""
LEAST_ERROR = 0.5
"""Of one answer, preference or token that the score counts: less cannot be measured on them."""
DRAWS = 2000
"""For an interval."""


@dataclass(frozen=True, kw_only=True)
class Curve:
    """Score as a function of the number of training examples."""

    examples: int
    """Those at hand."""
    score: float
    """As measured with them."""
    rows: int
    """Validation rows that each score was measured on."""
    tokens: int | None
    """Learnt tokens of these rows, where the score is the share of them that is right; None where
    it is the share of the rows: of answers or of preferences."""
    twice: float
    """The score to expect of twice as many examples."""
    low: float
    high: float
    """90 % of what the law says of twice as many, where each score is as unsure as so many rows
    make it, whatever it counts."""
    surely: float
    """What twice as many gain at least, in 95 % of the same."""

    @property
    def is_at_ceiling(self) -> bool:
        """Whether nothing that the score counts is wrong: no better one could be measured."""
        return 1.0 - self.score < _least_error(self.rows, self.tokens)

    def as_text(self) -> str:
        """A sentence for the data's owner."""
        now = f"With {self.examples} examples the score is {self.score:.2f}"
        if self.is_at_ceiling:
            counted = "" if self.tokens is None else f"{self.tokens} tokens of "
            return (
                f"{now}, the most there is: more examples of this kind would buy nothing that "
                f"{counted}{self.rows} validation rows can measure"
            )
        unsure = f"90% interval {self.low:.2f} to {self.high:.2f} on {self.rows} validation rows"
        if self.tokens is not None:
            unsure += f", not on their {self.tokens} tokens, which depend on each other"
        if self.twice - self.score < WORTH:
            return (
                f"{now}; more examples of this kind would hardly change it (twice as many: "
                f"{unsure}): look at which ones it gets wrong"
            )
        doubt = "" if self.surely >= WORTH else ", so it may be no gain"
        return (
            f"{now}; twice as many ({2 * self.examples} examples) would bring it to about "
            f"{self.twice:.2f} ({unsure}{doubt})"
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


def curve_of(
    points: Sequence[tuple[int, float]], *, rows: int, tokens: int | None = None
) -> Curve | None:
    """The law through (examples, score between 0 and 1) of three sizes or more, each measured on
    the same `rows`, or on so many `tokens` of them; None with fewer sizes.

    The interval draws the error of each size from what its rows leave open (Jeffreys: a beta
    distribution of wrong + ½ and right + ½) and fits the law again. The sizes are drawn apart
    although their rows are the same, and a row counts once however many tokens of it are counted,
    because those of one answer depend on each other: it is too wide rather than too narrow. That
    the law holds is taken for granted, and the spread between seeds of training is not in it.
    """
    if len({size for size, _ in points}) < len(SHARES):
        return None
    ordered = sorted(points)
    sizes = [size for size, _ in ordered]
    size, score = ordered[-1]
    least = _least_error(rows, tokens)
    draw = random.Random(0)  # the same scores are told the same way
    drawn = [
        _fitted(sizes, [_possible(1.0 - each, rows, draw) for _, each in ordered], least)
        for _ in range(DRAWS)
    ]
    law = _fitted(sizes, [1.0 - each for _, each in ordered], least)
    twice = law.at(2 * size)
    scores = sorted(each.at(2 * size) for each in drawn)
    gains = sorted(each.at(2 * size) - each.at(size) for each in drawn)
    tail = DRAWS // 20
    return Curve(
        examples=size,
        score=score,
        rows=rows,
        tokens=tokens,
        twice=max(score, twice),
        low=min(scores[tail], twice),
        high=max(scores[-tail - 1], twice),
        surely=gains[tail],
    )


@dataclass(frozen=True)
class _Law:
    scale: float
    exponent: float
    """Not negative; 0 is a flat curve."""

    def at(self, examples: int) -> float:
        return 1.0 - self.scale * math.pow(examples, -self.exponent)


def _least_error(rows: int, tokens: int | None) -> float:
    return LEAST_ERROR / (rows if tokens is None else tokens)


def _possible(error: float, rows: int, draw: random.Random) -> float:
    wrong = error * rows
    return draw.betavariate(wrong + 0.5, rows - wrong + 0.5)


def _fitted(sizes: Sequence[int], errors: Sequence[float], least: float) -> _Law:
    """By least squares on the logarithms of size and error; the latter is at least `least`."""
    xs = [math.log(size) for size in sizes]
    ys = [math.log(max(error, least)) for error in errors]
    mean_x, mean_y = sum(xs) / len(xs), sum(ys) / len(ys)
    spread = sum((x - mean_x) ** 2 for x in xs)
    slope = sum((x - mean_x) * (y - mean_y) for x, y in zip(xs, ys, strict=True)) / spread
    exponent = max(0.0, -slope)
    return _Law(math.exp(mean_y + exponent * mean_x), exponent)
