"""Repeats an owner's step until it is stopped.

Every step is guarded on its own: one that fails is logged, counted and repeated, and nobody else
waits for it.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

import structlog

from adapters.errors import StorageFull, Unavailable
from service.metrics import Metrics

log = structlog.get_logger("wardrobe.swap")


def reason_or_traceback(error: Exception) -> Mapping[str, Any]:
    """What a log line says of a failure. An outage that was foreseen is one line for each step, not
    a page: steps are repeated several times a second.
    """
    if isinstance(error, StorageFull | Unavailable):
        return {"reason": error.reason}
    if isinstance(error, TimeoutError):
        return {"reason": "timeout"}
    return {"exc_info": error}


class Repeat:
    """Repeats `step` every `every` seconds, and at once after a `kick`, until stopped.

    A step that says True is followed by the next without a pause.
    """

    def __init__(
        self,
        owner: str,
        step: Callable[[], Awaitable[bool | None]],
        *,
        every: float,
        metrics: Metrics,
    ) -> None:
        self.owner = owner
        self._step = step
        self._every = every
        self._metrics = metrics
        self._wake = asyncio.Event()
        self._stopping = False

    def kick(self) -> None:
        """Something has changed: the next step comes at once."""
        self._wake.set()

    def stop(self) -> None:
        """The present step is the last."""
        self._stopping = True
        self._wake.set()

    async def run(self) -> None:
        """Until stopped or cancelled. Steps begin at fixed times, however long each takes."""
        while not self._stopping:
            began = time.monotonic()
            self._wake.clear()  # before the step: what comes during it is for the next one
            if await self.attempt():
                await asyncio.sleep(0)
                continue
            pause = self._every - (time.monotonic() - began)
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._wake.wait(), max(0.0, pause))

    async def attempt(self) -> bool:
        """One step that never raises; whether another should follow at once."""
        try:
            return bool(await self._step())
        except Exception as error:  # the edge of a background process
            self._metrics.swap_errors.labels(owner=self.owner).inc()
            log.error("step_failed", owner=self.owner, **reason_or_traceback(error))
            return False
