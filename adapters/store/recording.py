"""Makes a row name an artifact while a collector deletes what no row names.

The rule: put the bytes, add the row (which the registry refuses while they are condemned), then
look whether the bytes are still there, and put them again if not. Once the row is there they can
no longer be condemned, so putting them once more is enough.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar

from adapters.domain.names import Digest
from adapters.errors import Condemned
from adapters.store.port import ArtifactKind, ArtifactStore
from adapters.waiting import retry

PATIENCE_S = 20.0
"""A collector's deletion of one batch takes seconds."""
_ASK_EVERY_S = 0.2
_Row = TypeVar("_Row")


def record_artifact(
    store: ArtifactStore,
    digest: Digest,
    kind: ArtifactKind,
    *,
    add_row: Callable[[], _Row],
    put_again: Callable[[], object],
    sleep: Callable[[float], None] = time.sleep,
    monotonic: Callable[[], float] = time.monotonic,
) -> _Row:
    """Makes a row name an artifact that was put just now; the answer is what `add_row` answers.

    Blocks for up to `PATIENCE_S` while the digest is condemned, then raises Condemned; nothing is
    recorded then. Raises what `add_row`, `has` and `put_again` raise; where one of the last two
    does, the row is there, its bytes may not be, and the caller takes the row back.
    """
    row = retry(
        add_row,
        Condemned,
        seconds=PATIENCE_S,
        every=_ASK_EVERY_S,
        sleep=sleep,
        monotonic=monotonic,
    )
    if not store.has(digest, kind):
        put_again()
    return row
