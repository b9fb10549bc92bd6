"""Runs of words as keyed digests: who has the key recognises them in a text, and nobody reads them.

Words are compared without case, width and signs.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable

from training.data.pseudonyms import words_of

MAX_WORDS = 12
"""Words of one run."""


def digest_of(words: tuple[str, ...], key: bytes, *, purpose: bytes) -> bytes:
    """16 bytes; digests made for one purpose say nothing about those made for another."""
    said = " ".join(words).encode()
    return hashlib.blake2b(said, key=key, digest_size=16, person=purpose).digest()


class WordRuns:
    """Runs of words of one purpose, ready to be looked for."""

    def __init__(self, runs: Iterable[tuple[int, bytes]], key: bytes, *, purpose: bytes) -> None:
        """`runs` are (words, digest), made with `key`."""
        self._key, self._purpose = key, purpose
        self._by_words: dict[int, set[bytes]] = {}
        for words, digest in runs:
            self._by_words.setdefault(words, set()).add(digest)

    def __bool__(self) -> bool:
        return bool(self._by_words)

    @property
    def digests(self) -> list[bytes]:
        """Those of each length in order, joined; the lengths in no order that says anything."""
        return sorted(b"".join(sorted(each)) for each in self._by_words.values())

    def count_in(self, text: str) -> int:
        """How many runs of a text are one of them."""
        if not self._by_words:
            return 0
        words = words_of(text)
        return sum(
            digest_of(words[at : at + length], self._key, purpose=self._purpose) in digests
            for length, digests in self._by_words.items()
            for at in range(len(words) - length + 1)
        )
