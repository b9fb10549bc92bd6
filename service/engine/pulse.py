"""Tells the supervisor that an API process and its engine live: writes their vital signs.

Two signs, because either can hang alone: the event loop turns, and the engine's core answers. The
core is asked between two of its steps, and as long as it takes: how much silence is too much is the
supervisor's to say. A core whose worker hangs waits for it in its next step, and is silent then;
for the idle ones, the workers are asked as well now and then.
"""

from __future__ import annotations

import asyncio
from contextlib import suppress
from itertools import count
from typing import Protocol

from adapters.errors import EngineUnavailable
from service.engine.vital_signs import VitalSigns

LOOP_SECONDS = 1.0
CORE_SECONDS = 5.0
WORKERS_EVERY = 12
"""Of so many questions to the core one goes on to its workers. Whoever reads vLLM's message queue
looks out for the next one for a second, with all of a processor (`SpinCondition`): asked every 5
seconds, an idle worker took a fifth of it, and a training beside it as much longer again.
"""


class Core(Protocol):
    """What is asked of the engine here."""

    async def ping(self, *, workers: bool) -> None:
        """See `service.engine.port.Engine.ping`. Raises EngineUnavailable."""
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
            for asked in count():
                await self._core.ping(workers=asked % WORKERS_EVERY == 0)
                self._signs.note_core()
                await asyncio.sleep(CORE_SECONDS)
