"""One page of a list, as OpenAI's cursor pages want it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

T = TypeVar("T")


@dataclass(frozen=True, kw_only=True)
class Page(Generic[T]):
    """`limit` items after the cursor, and whether there are more."""

    items: Sequence[T]
    has_more: bool
