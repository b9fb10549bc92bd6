"""How vLLM's processes wait for one another on a CPU: asleep, in the place of a loop that yields.

The engine's core waits for its worker, and the worker for the core, over shared memory: for a
second behind each message they ask again and again, `sched_yield` between, because a GPU's next
step is microseconds away. A step on a CPU takes milliseconds, and the loop takes the core that
everybody else needs: on two cores clients, and a trainer, waited up to 1.5 s for their turn with
their answers written (Linux 6.18, whose scheduler lets whoever yields within its group go on before
other groups: sessions, containers).
"""

from __future__ import annotations

import time

NAP_SECONDS = 100e-6


def nap() -> None:
    """Takes the place of vLLM's `sched_yield`."""
    time.sleep(NAP_SECONDS)
