"""Erasures: what a person asked to have erased, and the key under which it is kept."""

from __future__ import annotations

from collections.abc import Collection
from typing import Protocol

from adapters.domain.erasures import ErasedTerm
from adapters.domain.names import Unit
from adapters.domain.principals import Principal


class Erasures(Protocol):
    """Keeps digests of terms, so that no record that has one of them is ever learnt again."""

    def key(self, unit: Unit) -> bytes:
        """The unit's 32 random bytes, made at the first call and the same ever after.

        Whoever has them can test a guess against a pseudonym or a digest: they never leave the
        registry's processes and the trainer's.
        """
        ...

    def of_unit(self, unit: Unit) -> frozenset[ErasedTerm]:
        """Everything that was erased."""
        ...

    def add(
        self, unit: Unit, terms: Collection[ErasedTerm], by: Principal, *, reason: str | None
    ) -> int:
        """Erases terms for ever; how many of them were new. Once is enough."""
        ...
