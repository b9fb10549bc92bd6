"""From a unit's drafts to its three files: counts, no duplicates, a fixed order of lines.

Pure: the same code makes the same bytes on every machine. `examples.generate` writes them.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from random import Random
from typing import Protocol

from examples.generator.wording import Split

COUNTS: Mapping[Split, int] = {Split.TRAIN: 900, Split.VALID: 120, Split.TEST: 120}
ATTEMPTS = 500
# Data pipelines drop near-duplicates; lines that share this much of their word triples are drawn
# again, so that what is counted here is what gets trained on.
TOO_SIMILAR = 0.7


class WordingsExhaustedError(RuntimeError):
    """The unit's phrases are too few for this many different examples."""


@dataclass(frozen=True, kw_only=True)
class Example:
    """One exchange: what the user writes and the only right answer."""

    user: str
    answer: str


class Unit(Protocol):
    """A business unit that can draft examples of its kind of work."""

    name: str
    system: str

    def draft(self, index: int, split: Split, rng: Random) -> Example:
        """One example in the split's own wordings; the index decides what it is about."""


@dataclass(frozen=True, kw_only=True)
class Seen:
    """What was written so far, in all splits."""

    texts: set[str] = field(default_factory=set)
    triples: list[frozenset[tuple[str, ...]]] = field(default_factory=list)

    def admit(self, user: str) -> bool:
        """Take the text in unless it, or one very like it, is there."""
        text = normalised(user)
        triples = word_triples(text)
        if text in self.texts or any(_overlap(triples, other) for other in self.triples):
            return False
        self.texts.add(text)
        self.triples.append(triples)
        return True


def build(unit: Unit) -> dict[Split, tuple[Example, ...]]:
    """All examples of a unit, by split. Raises WordingsExhaustedError."""
    seen = Seen()
    return {split: _build_split(unit, split, seen) for split in Split}


def rendered(unit: Unit, examples: tuple[Example, ...]) -> str:
    """The examples as OpenAI chat JSONL."""
    return "".join(_line(unit.system, example) for example in examples)


def normalised(text: str) -> str:
    """Lower case, letters and digits only, single spaces: what makes two texts the same."""
    return " ".join(re.findall(r"[a-z0-9]+", text.lower()))


def word_triples(text: str) -> frozenset[tuple[str, ...]]:
    words = text.split()
    return frozenset(tuple(words[i : i + 3]) for i in range(max(1, len(words) - 2)))


def _build_split(unit: Unit, split: Split, seen: Seen) -> tuple[Example, ...]:
    rng = Random(f"{unit.name}/{split}")
    examples = [
        _fresh(unit, index, split=split, rng=rng, seen=seen) for index in range(COUNTS[split])
    ]
    rng.shuffle(examples)
    return tuple(examples)


def _fresh(unit: Unit, index: int, *, split: Split, rng: Random, seen: Seen) -> Example:
    for _ in range(ATTEMPTS):
        example = unit.draft(index, split, rng)
        if seen.admit(example.user):
            return example
    raise WordingsExhaustedError(f"{unit.name}/{split}: nothing new for example {index}")


def _overlap(one: frozenset[tuple[str, ...]], other: frozenset[tuple[str, ...]]) -> bool:
    shared = len(one & other)
    return shared >= TOO_SIMILAR * (len(one) + len(other) - shared)


def _line(system: str, example: Example) -> str:
    messages = (("system", system), ("user", example.user), ("assistant", example.answer))
    record = {"messages": [{"role": role, "content": content} for role, content in messages]}
    return json.dumps(record, ensure_ascii=False, separators=(",", ":")) + "\n"
