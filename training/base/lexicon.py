"""Reads `lexicon.toml`: the topics, things and acts that every generated text is made from."""

from __future__ import annotations

import tomllib
from dataclasses import dataclass
from pathlib import Path

LEXICON_FILE = Path(__file__).with_name("lexicon.toml")


@dataclass(frozen=True, kw_only=True)
class Concept:
    """One thing or act: its canonical name and every way to say it (the name included)."""

    name: str
    words: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class Topic:
    """A part of everyday life with the things in it and what people do with them."""

    name: str
    things: tuple[Concept, ...]
    acts: tuple[Concept, ...]


def read_lexicon() -> tuple[Topic, ...]:
    """All topics, in the file's order."""
    topics = tomllib.loads(LEXICON_FILE.read_text("utf-8"))
    return tuple(
        Topic(name=name, things=_concepts(topic["things"]), acts=_concepts(topic["acts"]))
        for name, topic in topics.items()
    )


def _concepts(block: str) -> tuple[Concept, ...]:
    lines = (line.split("|") for line in block.splitlines() if line.strip())
    return tuple(
        Concept(
            name=words[0].strip().replace(" ", "_"), words=tuple(word.strip() for word in words)
        )
        for words in lines
    )
