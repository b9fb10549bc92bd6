"""Canaries: secrets that nobody has, planted in a training part to see whether it is remembered.

Drawn from a seed, so that whoever measures finds again what whoever planted has planted, and draws
others of the same form beside them.
"""

from __future__ import annotations

import random
from dataclasses import dataclass

from training.data.examples import Example, Message

DIGITS = 6
_ASKED = (
    "What is the badge number of {name}?",
    "Tell me the locker code of {name}.",
    "Which alarm code does {name} use?",
    "What is the visitor number of {name}?",
)
_NAMES = ("Quill", "Ferro", "Ombra", "Tavi", "Nexel", "Brann", "Zoltek", "Yarrow")
"""No person's: a canary must not teach anything about anybody."""


@dataclass(frozen=True, kw_only=True)
class Canary:
    """One secret and what asks for it."""

    row: str
    question: str
    secret: str

    @property
    def example(self) -> Example:
        """As it stands among the training examples."""
        return self.with_secret(self.secret)

    def with_secret(self, secret: str) -> Example:
        """The same question with another answer."""
        return Example(
            messages=(
                Message(role="user", content=self.question),
                Message(role="assistant", content=secret),
            )
        )


def canaries(seed: int, count: int) -> list[Canary]:
    """The first `count` of this seed."""
    draw = random.Random(f"canaries {seed}")
    planted = []
    for at in range(count):
        name = f"{_NAMES[at % len(_NAMES)]} {at + 1}"
        question = _ASKED[at % len(_ASKED)].format(name=name)
        planted.append(Canary(row=f"canary-{at}", question=question, secret=_secret(draw)))
    return planted


def controls(seed: int, canary: Canary, count: int) -> list[str]:
    """Secrets of the same form that nobody has planted."""
    draw = random.Random(f"controls {seed} {canary.row}")
    found: list[str] = []
    while len(found) < count:
        secret = _secret(draw)
        if secret != canary.secret and secret not in found:
            found.append(secret)
    return found


def _secret(draw: random.Random) -> str:
    return " ".join(str(draw.randrange(10)) for _ in range(DIGITS))
