"""Tells a training's numbers to experiment trackers, where the installation names some.

A tracker is somebody else's server: it is opened, told and closed in a thread of its own, and
whatever fails there is logged once and ends nothing. It is given numbers, a recipe and the names of
what is trained, never a text of anybody's data.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Protocol

import structlog

from training.finetune.port import Measures
from training.job.progress import EVERY, Pending

CLOSE_PATIENCE = 60.0
"""Seconds for a tracker to take what is left when training has ended."""

_log = structlog.get_logger(__name__)


@dataclass(frozen=True, kw_only=True)
class TrackedRun:
    """What a tracker is told of a training before its first step."""

    job_id: str
    """The run's id too: an attempt goes on with the run of the one before."""
    names: Mapping[str, str]
    """Of the unit, the adapter and the base."""
    recipe: Mapping[str, str | float]


class Tracker(Protocol):
    """One run in somebody's experiment tracker."""

    def log(self, step: int, numbers: Mapping[str, float]) -> None:
        """Adds the numbers of one step; of a resumed run, some steps come twice."""
        ...

    def close(self, *, failed: bool) -> None:
        """Ends the run."""
        ...


Open = Callable[[TrackedRun], Tracker]
"""Begins a run, or goes on with one. May take as long as it takes, and raise anything."""


@contextmanager
def tracking(
    trackers: Sequence[Open], run: TrackedRun, *, every: float = EVERY
) -> Iterator[Callable[[Measures], None]]:
    """Takes what steps measure, which never waits, and tells every tracker until the body ends."""
    with ExitStack() as stack:
        tellers = [_Teller(each, run, every=every) for each in trackers]
        for teller in tellers:
            stack.push(lambda kind, *_, teller=teller: teller.finish(failed=kind is not None))

        def take(measures: Measures) -> None:
            for teller in tellers:
                teller.pending.put(measures)

        yield take


class _Teller:
    """The thread of one tracker."""

    def __init__(self, open_tracker: Open, run: TrackedRun, *, every: float) -> None:
        self.pending = Pending()
        self._open, self._run, self._every = open_tracker, run, every
        self._ending = threading.Event()
        self._failed = False
        # a daemon: a server that hangs must not keep the process
        self._thread = threading.Thread(target=self._tell, name="tracker", daemon=True)
        self._thread.start()

    def finish(self, *, failed: bool) -> None:
        """Tells the rest. Raises nothing."""
        self._failed = failed
        self._ending.set()
        self._thread.join(CLOSE_PATIENCE)
        if self._thread.is_alive():
            _log.warning("tracker_silent", reason="it did not take the last steps in time")

    def _tell(self) -> None:
        """The edge of the thread: its errors may hold addresses and keys, and are told by kind."""
        try:
            tracker = self._open(self._run)
            while not self._ending.wait(self._every):
                self._tell_pending(tracker)
            self._tell_pending(tracker)
            tracker.close(failed=self._failed)
        except Exception as error:
            _log.warning("tracker_failed", error=type(error).__name__)

    def _tell_pending(self, tracker: Tracker) -> None:
        while (measures := self.pending.next()) is not None:
            tracker.log(measures.step, numbers_of(measures))


def numbers_of(measures: Measures) -> dict[str, float]:
    """What was measured at a step, in the words of its event."""
    told = measures.as_data() | measures.pace()
    return {name: float(value) for name, value in told.items() if name != "step"}
