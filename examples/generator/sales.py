"""The sales unit: messages from leads, qualified as one line of JSON with a fixed order of keys.

Size, budget and start are each said once in the message, in this order; the fit
follows from budget and start alone (`FIT`).
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from random import Random

from examples.generator.dataset import Example
from examples.generator.sales_phrases import BUDGETS, SIZES, STARTS
from examples.generator.wording import Manners, Phrases, Split, capitalised, written_in_haste

SYSTEM = "Qualify the lead."
KEYS = ("size", "budget", "start", "fit")

# By budget, then by start: three of nine pairs each are hot, warm and cold.
FIT: Mapping[str, Mapping[str, str]] = {
    "yes": {"soon": "hot", "year": "hot", "later": "warm"},
    "open": {"soon": "hot", "year": "warm", "later": "cold"},
    "no": {"soon": "warm", "year": "cold", "later": "cold"},
}

MANNERS = Manners(
    openings=(
        "",
        "",
        "",
        "",
        "",
        "Hi,",
        "Hello,",
        "Good day.",
        "Dear team,",
        "We like your gardens.",
        "I saw you at a fair.",
    ),
    closings=(
        "",
        "",
        "",
        "",
        "",
        "Thanks!",
        "Please call me.",
        "Best wishes.",
        "What does it cost?",
        "Can we talk?",
    ),
)


class Sales:
    """Drafts of leads, one combination of size, budget and start after the other."""

    name = "sales"
    system = SYSTEM

    def __init__(self) -> None:
        self._sizes = _divided(SIZES, "size")
        self._budgets = _divided(BUDGETS, "budget")
        self._starts = _divided(STARTS, "start")
        self._leads = tuple((s, b, t) for s in SIZES for b in BUDGETS for t in STARTS)

    def draft(self, index: int, split: Split, rng: Random) -> Example:
        size, budget, start = self._leads[index % len(self._leads)]
        said = [
            rng.choice(self._sizes[size].of(split)),
            rng.choice(self._budgets[budget].of(split)),
            rng.choice(self._starts[start].of(split)),
        ]
        message = MANNERS.around(" ".join(f"{capitalised(part)}." for part in said), rng)
        return Example(
            user=written_in_haste(message, rng),
            answer=qualified(size=size, budget=budget, start=start),
        )


def qualified(*, size: str, budget: str, start: str) -> str:
    """The lead as compact JSON, keys in the order of `KEYS`."""
    values = (size, budget, start, FIT[budget][start])
    return json.dumps(dict(zip(KEYS, values, strict=True)), separators=(",", ":"))


def _divided(labels: Mapping[str, tuple[str, ...]], field: str) -> dict[str, Phrases]:
    return {
        label: Phrases.divide(phrases, seed=f"sales/{field}/{label}")
        for label, phrases in labels.items()
    }
