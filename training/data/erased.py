"""Records that a person has asked to be erased: recognised by keyed digests, kept as nothing else.

A term is a run of words; a record that has one of the erased terms in any of its texts is left out
of whatever is trained next, wherever it comes from. Where nothing was erased, this costs nothing.
"""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Iterator

from adapters.domain.erasures import ErasedTerm
from adapters.hashing import sha256_bytes
from training.data.examples import Example
from training.data.pseudonyms import words_of

MAX_WORDS = 12
"""Words of one term."""


def erased_term(text: str, key: bytes) -> ErasedTerm | None:
    """The digest of a term under a unit's key; None for one that has no words, or too many."""
    words = words_of(text)
    if not 0 < len(words) <= MAX_WORDS:
        return None
    return ErasedTerm(digest=_digest(words, key), words=len(words))


class Erased:
    """Terms of one unit, ready to be looked for."""

    def __init__(self, terms: Collection[ErasedTerm], key: bytes) -> None:
        """`key` is the one that the terms' digests were made with."""
        self._key = key
        self._by_words: dict[int, set[bytes]] = {}
        for term in terms:
            self._by_words.setdefault(term.words, set()).add(term.digest)

    @property
    def stamp(self) -> str:
        """Changes with every term."""
        listed = sorted(b"".join(sorted(each)) for each in self._by_words.values())
        return str(sha256_bytes(b"".join(listed)))[:16]

    def hold(self, text: str) -> bool:
        """Whether a text has an erased term."""
        if not self._by_words:
            return False
        words = words_of(text)
        return any(
            _digest(words[at : at + length], self._key) in digests
            for length, digests in self._by_words.items()
            for at in range(len(words) - length + 1)
        )

    def hold_any_of(self, example: Example) -> bool:
        """Whether a text of the example has one."""
        return bool(self._by_words) and any(map(self.hold, texts_of(example)))


def texts_of(example: Example) -> Iterator[str]:
    """Every text that is learnt or shown, and the values of its metadata."""
    found: list[str] = []

    def note(text: str) -> str:
        found.append(text)
        return text

    example.with_texts(note)
    yield from found
    yield from (value for _, value in example.groups)


def _digest(words: tuple[str, ...], key: bytes) -> bytes:
    said = " ".join(words).encode()
    return hashlib.blake2b(said, key=key, digest_size=16, person=b"erased term").digest()
