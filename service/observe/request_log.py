"""Logs one line for each request, so that an answer's `x-request-id` says how it ended and why.

A request only appends to a list; lines are made and written together, a few times a second. Where
more requests end than can be written, or somebody without a key sends very many, lines are dropped
and counted: no request waits for a log, and no stranger fills a disk.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from typing import Literal

from pydantic_core import to_json

from service.metrics import Metrics
from service.observe.request_record import RequestRecord

FLUSH_SECONDS = 0.25
MOST_WAITING = 20_000
"""Lines kept until they are written; some 10 MB."""
ROUND = 2_000
"""Lines written at once: the event loop does nothing else meanwhile, for some 10 ms."""

STRANGERS = 25
"""Requests without a known key that are logged of each round."""

Wanted = Literal["all", "refused", "off"]


class RequestLog:
    """Keeps lines until they are written; used on the event loop's thread only."""

    def __init__(self, wanted: Wanted, metrics: Metrics, *, write: Callable[[str], None]) -> None:
        """`write` takes whole lines. It may raise OSError: then they are lost, and counted."""
        self._wanted = wanted
        self._metrics = metrics
        self._write = write
        self._waiting: list[RequestRecord] = []
        self._strangers = 0

    def note(self, record: RequestRecord) -> None:
        """The request has ended."""
        if self._wanted == "off" or (self._wanted == "refused" and record.code is None):
            return
        self._strangers += record.actor is None
        too_many = record.actor is None and self._strangers > STRANGERS
        if too_many or len(self._waiting) >= MOST_WAITING:
            self._metrics.log_lines_dropped.inc()
            return
        self._waiting.append(record)

    async def step(self) -> bool:
        """Writes what has ended since; whether more is left."""
        ready, self._waiting = self._waiting[:ROUND], self._waiting[ROUND:]
        self._strangers = 0
        self._tell(ready)
        return bool(self._waiting)

    def flush(self) -> None:
        """Writes all that is left, at the end of the process."""
        left, self._waiting = self._waiting, []
        self._tell(left)

    def _tell(self, records: Sequence[RequestRecord]) -> None:
        if not records:
            return
        try:
            self._write("".join(map(_line, records)))
        except OSError:  # a full disk is no reason to answer nobody
            self._metrics.log_lines_dropped.inc(len(records))


def _line(record: RequestRecord) -> str:
    """What is known of it; what is not is left out."""
    ended = datetime.fromtimestamp(record.began_ns / 1e9 + record.seconds, UTC)
    first_byte = record.first_byte
    facts = {
        "request_id": record.request_id,
        "method": record.method,
        "endpoint": record.endpoint or None,
        "actor": record.actor,
        "unit": record.unit,
        "alias": record.alias,
        "version": record.version,
        "status": record.status,
        "code": record.code,
        "outcome": record.outcome,
        "prompt_tokens": record.prompt_tokens,
        "completion_tokens": record.completion_tokens,
        "seconds": round(record.seconds, 6),
        "first_byte_seconds": None if first_byte is None else round(first_byte, 6),
        "event": "request",
        "level": "info",
        "timestamp": ended.isoformat().replace("+00:00", "Z"),
    }
    known = {name: value for name, value in facts.items() if value is not None}
    return to_json(known).decode() + "\n"
