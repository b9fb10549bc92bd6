"""How leads say their size, their budget and their start: label → all its phrases."""

from __future__ import annotations

from collections.abc import Mapping

from examples.generator.wording import product

_COMPANIES = ("we are", "our office has", "our firm has", "a team of", "a school with")
_BUDGET = ("the budget", "the money", "our budget", "the funding")
_START = ("we start", "we buy", "we order", "we need it")


def _people(*counts: int) -> tuple[str, ...]:
    return product(_COMPANIES, product(map(str, counts), ("people", "staff")))


# The number of digits is the size: 1, 2 or 3 of them.
SIZES: Mapping[str, tuple[str, ...]] = {
    "small": _people(4, 5, 6, 7, 8, 9),
    "medium": _people(20, 30, 40, 60, 70, 80),
    "large": _people(200, 300, 400, 500, 600, 800),
}

BUDGETS: Mapping[str, tuple[str, ...]] = {
    "yes": product(
        _BUDGET,
        ("is approved", "is signed off", "is confirmed", "is there", "is ready", "got a yes"),
    ),
    "open": product(
        _BUDGET,
        (
            "is planned",
            "is under review",
            "is requested",
            "waits for a decision",
            "is with the board",
            "is still open",
        ),
    ),
    "no": product(
        _BUDGET,
        ("does not exist", "was refused", "was cut", "is gone", "got a no", "is spent"),
    ),
}

STARTS: Mapping[str, tuple[str, ...]] = {
    "soon": product(
        _START,
        ("right away", "now", "next week", "next month", "very soon", "in two weeks"),
    ),
    "year": product(
        _START,
        (
            "this year",
            "before the year ends",
            "in six months",
            "after the summer",
            "this winter",
            "by December",
        ),
    ),
    "later": product(
        _START,
        ("next year", "some day", "much later", "in two years", "one day", "at a later date"),
    ),
}
