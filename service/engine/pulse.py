"""Tells the supervisor that an API process and its engine live: writes their vital signs.

Two signs, because either can hang alone: the event loop turns, and the engine's core answers. The
core is asked between two of its steps, and as long as it takes: how much silence is too much is the
supervisor's to say.
"""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import Protocol

from adapters.errors import EngineUnavailable
from service.engine.vital_signs import VitalSigns

LOOP_SECONDS = 1.0
CORE_SECONDS = 5.0


class Core(Protocol):
    """What is asked of the engine here."""

    async def ping(self) -> None:
        """Returns once the engine's core has answered. Raises EngineUnavailable."""
        ...


class Pulse:
    """Of one API process, while `run` runs."""

    def __init__(self, signs: VitalSigns, core: Core, *, process: int) -> None:
        self._signs = signs
        self._core = core
        self._process = process

    async def run(self) -> None:
        """Until it is cancelled."""
        asking = asyncio.create_task(self._ask())
        try:
            while True:
                self._signs.note_loop(self._process)
                await asyncio.sleep(LOOP_SECONDS)
        finally:
            asking.cancel()

    async def _ask(self) -> None:
        with suppress(EngineUnavailable):  # dead for good: whoever watches the process ends it
            while True:
                await self._core.ping()
                self._signs.note_core()
                await asyncio.sleep(CORE_SECONDS)
