"""How leads say their size, their budget and their start: label → all its phrases.

Every label has words of its own: a small model learns a field from words that no other field and
no other label uses, long before it learns to tell "in two weeks" from "in two years".
"""

from __future__ import annotations

from collections.abc import Mapping

from examples.generator.wording import product

_BUDGET = ("the budget", "our budget", "the team budget", "the whole budget", "the project budget")
_START = ("we start", "we can start", "we hope to start", "we would start", "the team starts")


def _people(companies: tuple[str, ...], counts: tuple[str, ...]) -> tuple[str, ...]:
    return product(companies, (f"of {count}" for count in counts))


SIZES: Mapping[str, tuple[str, ...]] = {
    "small": _people(
        ("we are a shop", "we are a studio", "we are a family firm", "we are a bakery"),
        ("4 people", "5 people", "6 people", "7 people", "8 people", "9 people"),
    ),
    "medium": _people(
        ("we are a school", "we are a hotel", "we are a clinic", "we are a theatre"),
        ("20 people", "30 people", "40 people", "60 people", "70 people", "80 people"),
    ),
    "large": _people(
        ("we are a factory", "we are an airport", "we are a bank", "we are a university"),
        ("200 people", "300 people", "400 people", "500 people", "600 people", "800 people"),
    ),
}

BUDGETS: Mapping[str, tuple[str, ...]] = {
    "yes": product(_BUDGET, ("is approved", "is signed", "is confirmed", "is granted")),
    "open": product(_BUDGET, ("is planned", "is pending", "is requested", "is undecided")),
    "no": product(_BUDGET, ("was refused", "was cut", "is gone", "was cancelled")),
}

STARTS: Mapping[str, tuple[str, ...]] = {
    "soon": product(_START, ("now", "tomorrow", "right away", "next week")),
    "year": product(_START, ("this summer", "this winter", "in autumn", "by December")),
    "later": product(_START, ("some day", "much later", "in the far future", "years from today")),
}
