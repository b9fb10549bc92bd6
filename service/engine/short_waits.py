"""How vLLM's processes wait for one another on a CPU: now and then asleep.

The engine's core waits for its worker, and the worker for the core, over shared memory: for a
second behind each message they ask again and again, `sched_yield` between. That is quick, and takes
the core that everybody else needs. On two cores clients, and a trainer, waited 1.0 to 1.5 s for
their turn with their answers written: Linux 6.18 lets whoever yields go on before those of another
session or container. A nap of 50 µs gives way to them. To sleep each time would be slower by 7 to
16 % on a quiet machine: a processor without work takes its time to wake.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable

YIELDING_SECONDS = 300e-6
"""Between two naps."""
NAP_SECONDS = 50e-6
"""As asked for: Linux makes 130 µs of it."""


class ShortWaits:
    """Takes the place of vLLM's `sched_yield`; one for each process."""

    def __init__(
        self,
        *,
        clock: Callable[[], float] = time.monotonic,
        give_way: Callable[[], None] = os.sched_yield,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self._clock = clock
        self._give_way = give_way
        self._sleep = sleep
        self._slept = clock()

    def __call__(self) -> None:
        """Waits for a moment."""
        if self._clock() - self._slept < YIELDING_SECONDS:
            self._give_way()
        else:
            self._sleep(NAP_SECONDS)
            self._slept = self._clock()
