"""Starting a job's process: a fresh one, or one that has done its slow imports in advance.

Importing torch and its family takes ten seconds of a core. A spare process does that while
nothing else is going on, waits for its order on standard input, and dies with the trainer.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import structlog

from training.job.order import Order
from training.worker.child_process import Child, start

_log = structlog.get_logger(__name__)


class Starter:
    """Starts processes for orders. Used by one thread, with which its processes die."""

    def __init__(
        self,
        command: Callable[[Order], Sequence[str]],
        environment: Mapping[str, str],
        *,
        waiting: Sequence[str] | None = None,
    ) -> None:
        """`waiting` is the command of a process that reads its order; without it, no spares."""
        self._command = command
        self._environment = environment
        self._waiting = waiting
        self._spare: Child | None = None

    def prepare(self) -> None:
        """Sees to it that a spare is there or on its way."""
        if self._waiting is None or (self._spare and self._spare.ended(within=0.0) is None):
            return
        self.close()
        self._spare = start(self._waiting, self._environment, ordered=True)

    def begin(self, order: Order) -> Child:
        """The process that carries `order` out: the spare, where there is one that takes it."""
        spare, self._spare = self._spare, None
        if spare is not None:
            if spare.order(order.line()):
                return spare
            _kill(spare)
        return start(self._command(order), self._environment)

    def close(self) -> None:
        """Ends the spare."""
        if self._spare is not None:
            _kill(self._spare)
            self._spare = None


def _kill(spare: Child) -> None:
    if not spare.kill():
        _log.error("child_hangs", pid=spare.pid)
