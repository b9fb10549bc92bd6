"""Records that a person has asked to be erased: recognised by keyed digests, kept as nothing else.

A term is a run of words; a record that has one of the erased terms in any of its texts is left out
of whatever is trained next, wherever it comes from. Where nothing was erased, this costs nothing.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator

from adapters.domain.erasures import ErasedTerm
from adapters.hashing import sha256_bytes
from training.data.examples import Example
from training.data.pseudonyms import words_of
from training.data.word_runs import MAX_WORDS, WordRuns, digest_of

_PURPOSE = b"erased term"


def erased_term(text: str, key: bytes) -> ErasedTerm | None:
    """The digest of a term under a unit's key; None for one that has no words, or too many."""
    words = words_of(text)
    if not 0 < len(words) <= MAX_WORDS:
        return None
    digest = digest_of(words, key, purpose=_PURPOSE)
    return ErasedTerm(digest=digest, words=len(words))


class Erased:
    """Terms of one unit, ready to be looked for."""

    def __init__(self, terms: Collection[ErasedTerm], key: bytes) -> None:
        """`key` is the one that the terms' digests were made with."""
        runs = ((term.words, term.digest) for term in terms)
        self._runs = WordRuns(runs, key, purpose=_PURPOSE)

    @property
    def stamp(self) -> str:
        """Changes with every term."""
        return str(sha256_bytes(b"".join(self._runs.digests)))[:16]

    def hold(self, text: str) -> bool:
        """Whether a text has an erased term."""
        return self._runs.count_in(text) > 0

    def hold_any_of(self, example: Example) -> bool:
        """Whether a text of the example has one."""
        return bool(self._runs) and any(map(self.hold, texts_of(example)))


def texts_of(example: Example) -> Iterator[str]:
    """Every text that is learnt or shown, and the values of its metadata."""
    found: list[str] = []

    def note(text: str) -> str:
        found.append(text)
        return text

    example.with_texts(note)
    yield from found
