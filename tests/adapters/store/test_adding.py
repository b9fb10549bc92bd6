"""Adding a row beside a collector: in the end row and bytes are there."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from adapters.errors import NotFound, Unavailable
from adapters.store.adding import put_and_add


class Shelf:
    """Stored bytes and their rows, with a collector that condemns, deletes and lets go."""

    def __init__(self, *, condemned_for: int = 0) -> None:
        self.bytes: list[str] = []
        self.rows: list[str] = []
        self.condemned_for = condemned_for

    def put(self) -> str:
        self.bytes.append("digest")
        return "digest"

    def add(self, digest: str) -> str:
        if self.condemned_for:
            self.condemned_for -= 1
            self.bytes.clear()
            raise Unavailable("these bytes are being collected", code="artifact_condemned")
        self.rows.append(digest)
        return f"row of {digest}"

    def look(self, digest: str) -> None:
        if digest not in self.bytes:
            raise NotFound("no such content")


def adding(shelf: Shelf, *, patience: float = 10.0, sleep: Callable[[float], None] | None) -> str:
    return put_and_add(
        shelf.put, shelf.add, shelf.look, patience=patience, sleep=sleep or (lambda _seconds: None)
    )


def test_bytes_that_nobody_collects_are_put_once() -> None:
    shelf = Shelf()
    assert adding(shelf, sleep=None) == "row of digest"
    assert (shelf.bytes, shelf.rows) == (["digest"], ["digest"])


def test_condemned_bytes_are_waited_for_and_put_again() -> None:
    shelf, waits = Shelf(condemned_for=3), list[float]()
    assert adding(shelf, sleep=waits.append) == "row of digest"
    assert (shelf.bytes, shelf.rows, len(waits)) == (["digest"], ["digest"], 3)


def test_a_collector_that_never_lets_go_is_waited_for_with_a_bound() -> None:
    shelf = Shelf(condemned_for=1000)
    with pytest.raises(Unavailable) as refused:
        adding(shelf, patience=0.0, sleep=None)
    assert refused.value.reason == "artifact_condemned"
    assert shelf.rows == []


def test_other_trouble_is_not_waited_for() -> None:
    def away(_digest: str) -> str:
        raise Unavailable("the registry is away", code="registry_unavailable")

    waits: list[float] = []
    with pytest.raises(Unavailable, match="away"):
        put_and_add(lambda: "digest", away, lambda _digest: None, sleep=waits.append)
    assert waits == []
