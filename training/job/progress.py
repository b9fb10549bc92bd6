"""What a run tells the registry while it goes: events, metrics, checkpoints, time left.

Everything here is for people who watch: what the registry cannot take now is not told, and only a
lost lease may end a run from in here. Metrics are written at most once a second, because a tiny
base takes many steps in one.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import structlog

from adapters.domain.jobs import JobEvent
from adapters.domain.names import JobId
from adapters.domain.principals import SYSTEM
from adapters.errors import StorageFull, Unavailable
from adapters.registry.ports import Jobs, Progress
from training.finetune.port import Measures

EVERY = 1.0
"""Seconds between two metrics events that bring nothing but training loss."""
_PAGE = 1000

_log = structlog.get_logger(__name__)


class Reporter:
    """One run's voice."""

    def __init__(
        self,
        jobs: Jobs,
        job_id: JobId,
        fence: int,
        *,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._jobs = jobs
        self._job_id = job_id
        self._fence = fence
        self._clock = clock
        self._told_at = float("-inf")

    def say(self, message: str, *, level: str = "info") -> None:
        """A message event."""
        with _if_possible():
            self._jobs.say(self._job_id, message, level=level)

    def gate_checks(self, message: str, data: dict[str, Any], *, passed: bool) -> None:
        """The verdicts, as an event of their own type; nothing where an earlier attempt told it."""
        level = "info" if passed else "error"
        with _if_possible():
            if all(event.type != "gate_checks" for event in self._all_events()):
                self._jobs.say(self._job_id, message, level=level, type="gate_checks", data=data)

    def step(self, measures: Measures, *, seconds_left: float) -> None:
        """A metrics event, the estimated finish, and a checkpoint where one was evaluated.

        Nothing while the last event is fresh and this one brings only training loss.
        Raises LeaseLost.
        """
        now = self._clock()
        last = measures.step >= measures.total_steps
        if not measures.evaluated and not last and now - self._told_at < EVERY:
            return
        self._told_at = now
        with _if_possible():
            progress = _progress(measures, seconds_left)
            self._jobs.report_progress(self._job_id, progress, fence=self._fence)
            if measures.evaluated:
                self.say(f"Checkpoint created at step {measures.step}")

    def curve(self) -> list[dict[str, Any]]:
        """The data of all metrics events so far, one a step, in the order of steps."""
        by_step: dict[int, dict[str, Any]] = {}
        for event in self._all_events():
            if event.type == "metrics" and event.data:
                by_step.setdefault(int(event.data["step"]), dict(event.data))
        return [by_step[step] for step in sorted(by_step)]

    def _all_events(self) -> list[JobEvent]:
        """Newest first."""
        events: list[JobEvent] = []
        after = None
        while True:
            page = self._jobs.events(self._job_id, SYSTEM, after=after, limit=_PAGE)
            events.extend(page.items)
            if not page.has_more:
                return events
            after = str(page.items[-1].id)


def _progress(measures: Measures, seconds_left: float) -> Progress:
    """A step as the registry takes it; a repeated checkpoint (a resumed run) is kept once."""
    data = measures.as_data()
    numbers = {key: value for key, value in data.items() if key != "total_steps"}
    return Progress(
        seconds_left=seconds_left,
        message=measures.as_text(),
        data=data,
        checkpoint=numbers if measures.evaluated else None,
    )


@contextmanager
def _if_possible() -> Iterator[None]:
    try:
        yield
    except (Unavailable, StorageFull) as error:
        _log.warning("not_told", reason=error.message)
