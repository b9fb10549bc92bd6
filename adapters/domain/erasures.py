"""What is kept of a request to erase a person's records: digests, never the person."""

from __future__ import annotations

from dataclasses import dataclass

MAX_TERMS = 50
"""Terms of one request."""


@dataclass(frozen=True, kw_only=True)
class ErasedTerm:
    """A run of so many words, as a digest under its unit's key. No record that has it is learnt."""

    digest: bytes
    """16 bytes."""
    words: int
