"""Where a base model comes from and under which licence, as far as its folder says so.

By the path that a hub's snapshot lies under, by the metadata of its card, and by the text of its
licence. What nobody says is not known; nothing is guessed.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

MAX_FILE = 1 << 20
"""Bytes of a card or a licence that are read."""
_SNAPSHOT = re.compile(r"models--(?P<id>[\w.-]+?)/snapshots/(?P<commit>[0-9a-f]{40})$")
_WORD = re.compile(r"[a-z0-9][a-z0-9.+-]{0,39}")
_LICENCES = {
    "apache-2.0": re.compile(r"Apache License\s+Version 2\.0"),
    "mit": re.compile(r"MIT License|Permission is hereby granted, free of charge"),
}


@dataclass(frozen=True, kw_only=True)
class Pedigree:
    """What is known; None and empty where nothing is."""

    hub_id: str | None = None
    revision: str | None = None
    """The commit of a hub base."""
    license: str | None = None
    """Hugging Face's word for it."""
    language: tuple[str, ...] = ()


def read_pedigree(base: Path) -> Pedigree:
    """Of the base in a folder."""
    found = _SNAPSHOT.search(base.absolute().as_posix())
    card = _metadata(base / "README.md")
    return Pedigree(
        hub_id=found["id"].replace("--", "/") if found else None,
        revision=found["commit"] if found else None,
        license=_word(card.get("license")) or _by_text(base),
        language=_languages(card.get("language")),
    )


def _metadata(card: Path) -> dict[str, Any]:
    """The YAML before a card's text; empty where there is none that can be read."""
    text = _text(card)
    if not text.startswith("---\n"):
        return {}
    try:
        values = yaml.safe_load(text[4:].partition("\n---")[0])
    except yaml.YAMLError:
        return {}
    return values if isinstance(values, dict) else {}


def _by_text(base: Path) -> str | None:
    texts = [_text(base / name) for name in ("LICENSE", "LICENSE.txt", "LICENSE.md")]
    for word, pattern in _LICENCES.items():
        if any(pattern.search(text) for text in texts):
            return word
    return None


def _languages(said: Any) -> tuple[str, ...]:
    listed = said if isinstance(said, list) else [said]
    return tuple(word for each in listed if (word := _word(each)))[:16]


def _word(said: Any) -> str | None:
    return said if isinstance(said, str) and _WORD.fullmatch(said) else None


def _text(path: Path) -> str:
    """Its beginning; empty where it cannot be read."""
    try:
        with path.open("rb") as file:
            return file.read(MAX_FILE).decode("utf-8", "replace")
    except OSError:
        return ""
