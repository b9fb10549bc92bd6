"""Adding a row that names stored bytes, beside a collector that deletes what no row names."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar

from adapters.errors import NotFound, Unavailable

P = TypeVar("P")
R = TypeVar("R")

PATIENCE = 10.0
"""Seconds to wait for a collector, which needs milliseconds to delete what it has condemned."""
PAUSE = 0.1


def put_and_add(
    put: Callable[[], P],
    add: Callable[[P], R],
    look: Callable[[P], object],
    *,
    patience: float = PATIENCE,
    sleep: Callable[[float], None] = time.sleep,
) -> R:
    """Stores bytes with `put` and their row with `add`, so that in the end both are there.

    Equal bytes may have been condemned before they were put here, and be deleted before the row
    names them: `add` is refused as long as they are condemned, and where `look` finds them gone
    (NotFound) once the row is there, they are put again. From the row on nobody deletes them.
    Raises Unavailable (`artifact_condemned`) after `patience` seconds, and what the three raise.
    """
    placed = put()
    until = time.monotonic() + patience
    while (row := _added(add, placed, last=time.monotonic() >= until)) is None:
        sleep(PAUSE)
    try:
        look(placed)
    except NotFound:
        put()
    return row


def _added(add: Callable[[P], R], placed: P, *, last: bool) -> R | None:
    """The row; None while the bytes are condemned and this is not the last try."""
    try:
        return add(placed)
    except Unavailable as error:
        if error.reason != "artifact_condemned" or last:
            raise
        return None
