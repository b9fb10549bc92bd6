"""Variety of wording: which split owns a phrase, and the manners people write in around it.

A phrase (a combination of slot fillings) belongs to exactly one split, so the test split asks with
wordings that training never saw.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum
from random import Random

VALID_SHARE = 0.14
TEST_SHARE = 0.14
LOWERCASE_RATE = 0.12
TYPO_RATE = 0.08
SHORTEST_WORD_WITH_TYPO = 6


class Split(StrEnum):
    """The three files of a unit."""

    TRAIN = "train"
    VALID = "valid"
    TEST = "test"


@dataclass(frozen=True, kw_only=True)
class Phrases:
    """Phrases by the split that owns them; no phrase stands in two splits."""

    train: tuple[str, ...]
    valid: tuple[str, ...]
    test: tuple[str, ...]

    @classmethod
    def divide(cls, phrases: Iterable[str], *, seed: str) -> Phrases:
        """Divide the phrases at random, the same way for the same seed."""
        shuffled = sorted(set(phrases))
        Random(seed).shuffle(shuffled)
        valid = max(1, round(len(shuffled) * VALID_SHARE))
        test = max(1, round(len(shuffled) * TEST_SHARE))
        return cls(
            valid=tuple(shuffled[:valid]),
            test=tuple(shuffled[valid : valid + test]),
            train=tuple(shuffled[valid + test :]),
        )

    def of(self, split: Split) -> tuple[str, ...]:
        return {Split.TRAIN: self.train, Split.VALID: self.valid, Split.TEST: self.test}[split]


@dataclass(frozen=True, kw_only=True)
class Manners:
    """What people put before and after what they want; an empty text is one of the choices."""

    openings: tuple[str, ...]
    closings: tuple[str, ...]

    def around(self, text: str, rng: Random) -> str:
        opening = rng.choice(self.openings)
        if opening.endswith(",") and not text.startswith("I "):
            text = text[:1].lower() + text[1:]
        return " ".join(part for part in (opening, text, rng.choice(self.closings)) if part)


def product(left: Iterable[str], right: Iterable[str]) -> tuple[str, ...]:
    """Every left part with every right part."""
    rights = tuple(right)
    return tuple(f"{first} {second}" for first in left for second in rights)


def capitalised(text: str) -> str:
    return text[:1].upper() + text[1:]


def written_in_haste(text: str, rng: Random) -> str:
    """Now and then all in lower case, now and then with two letters of one word swapped."""
    if rng.random() < LOWERCASE_RATE:
        text = text.lower()
    if rng.random() < TYPO_RATE:
        text = _with_typo(text, rng)
    return text


def _with_typo(text: str, rng: Random) -> str:
    words = text.split(" ")
    long = [i for i, word in enumerate(words) if _may_be_mistyped(word)]
    if not long:
        return text
    chosen = rng.choice(long)
    word = words[chosen]
    at = rng.randrange(1, len(word) - 2)
    words[chosen] = word[:at] + word[at + 1] + word[at] + word[at + 2 :]
    return " ".join(words)


def _may_be_mistyped(word: str) -> bool:
    return word.isalpha() and word.islower() and len(word) >= SHORTEST_WORD_WITH_TYPO
