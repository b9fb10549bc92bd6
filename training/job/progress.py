"""What a run tells the registry while it goes: events, metrics, checkpoints, time left.

Everything here is for people who watch: what the registry cannot take now is not told, and only a
lost lease may end a run from in here. Steps are told by a thread of their own, one write a second:
a training step never waits for the registry.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import structlog

from adapters.domain.jobs import JobEvent
from adapters.domain.names import JobId
from adapters.domain.principals import SYSTEM
from adapters.errors import StorageFull, Unavailable
from adapters.registry.ports import Jobs, Progress
from training.finetune.device_plan import DevicePlan, Estimate
from training.finetune.port import Measures
from training.job.progress_file import forget_progress, write_progress

EVERY = 1.0
"""Seconds between two writes of what steps have measured."""
END_PATIENCE = 60.0
"""Seconds for a write that is under way when training ends."""
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
        every: float = EVERY,
        scratch: Path | None = None,
    ) -> None:
        """`every` is in seconds; into the folder `scratch` go the newest measures, for metrics."""
        self._scratch = scratch
        self._jobs = jobs
        self._job_id = job_id
        self._fence = fence
        self._every = every

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

    @contextmanager
    def steps(self) -> Iterator[Callable[[Measures], None]]:
        """Takes what steps measure, and tells it in a thread; all of it once the body has ended.

        Taking never waits. Once a write was refused, taking raises LeaseLost, and so does the end
        of the body; the same goes for what nobody foresaw. Evaluations that an earlier attempt has
        told are not told again.
        """
        writer = _Writer(self._write, every=self._every, told=self._evaluated_steps())
        writer.start()
        try:
            yield writer.take
        finally:
            writer.finish()
            if self._scratch is not None:
                forget_progress(self._scratch)

    def _evaluated_steps(self) -> set[int]:
        told = set[int]()
        with _if_possible():
            told.update(point["step"] for point in self.curve() if "valid_loss" in point)
        return told

    def _write(self, measures: Measures) -> None:
        if self._scratch is not None:
            with suppress(OSError):
                write_progress(self._scratch, measures)
        with _if_possible():
            progress = _progress(measures)
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


class Pending:
    """What is still to be told. Training loss gives way to newer measures, an evaluation never."""

    def __init__(self) -> None:
        self._queue: deque[Measures] = deque()
        self._lock = threading.Lock()

    def put(self, measures: Measures) -> None:
        with self._lock:
            if self._queue and not self._queue[-1].evaluated:
                self._queue.pop()
            self._queue.append(measures)

    def next(self) -> Measures | None:
        """The oldest, which is told with that."""
        with self._lock:
            return self._queue.popleft() if self._queue else None


class _Writer:
    """The thread that tells; `write` is called by one thread at a time."""

    def __init__(self, write: Callable[[Measures], None], *, every: float, told: set[int]) -> None:
        """`told` are steps whose evaluation needs no telling."""
        self._write, self._every, self._told = write, every, told
        self._pending = Pending()
        self._ending = threading.Event()
        self._failed: BaseException | None = None
        # a daemon: a registry that hangs must not keep the process
        self._thread = threading.Thread(target=self._run, name="progress", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def take(self, measures: Measures) -> None:
        """Raises what a write has raised."""
        if self._failed is not None:
            raise self._failed
        known = measures.evaluated and measures.step in self._told
        if measures.step and not known:  # OpenAI's steps begin at 1
            self._pending.put(measures)

    def finish(self) -> None:
        """Tells the rest. Raises what a write has raised."""
        self._ending.set()
        self._thread.join(END_PATIENCE)
        if self._thread.is_alive():
            _log.warning("not_told", reason="the registry did not take the last steps in time")
        if self._failed is not None:
            raise self._failed

    def _run(self) -> None:
        while not self._ending.wait(self._every):
            self._tell_one()
        while self._tell_one():
            pass

    def _tell_one(self) -> bool:
        """Whether there may be more to tell."""
        measures = None if self._failed else self._pending.next()
        if measures is None:
            return False
        try:
            self._write(measures)
        except BaseException as error:  # raised again in the thread that trains
            self._failed = error
        return True


def _progress(measures: Measures) -> Progress:
    """A step as the registry takes it; a repeated checkpoint (a resumed run) is kept once."""
    data = measures.as_data()
    numbers = {key: value for key, value in data.items() if key != "total_steps"}
    return Progress(
        seconds_left=measures.seconds_left or 0.0,
        message=measures.as_text(),
        data=data | measures.pace(),
        checkpoint=numbers if measures.evaluated else None,
    )


@contextmanager
def _if_possible() -> Iterator[None]:
    try:
        yield
    except (Unavailable, StorageFull) as error:
        _log.warning("not_told", reason=error.message)


def in_advance(plan: DevicePlan, estimate: Estimate | None) -> str:
    """How a run will train and how long it may take; without an estimate, how it goes on."""
    if estimate is None:
        return f"Memory ran out; training goes on by {plan.as_text()}"
    return (
        f"Training for {estimate.steps} steps over {estimate.tokens:,} tokens, by "
        f"{plan.as_text()}: {_duration(estimate.seconds)} at the speed of this moment"
    )


def _duration(seconds: float) -> str:
    if seconds < 100:
        return f"about {max(1, round(seconds))} s"
    if seconds < 100 * 60:
        return f"about {round(seconds / 60)} min"
    return f"about {seconds / 3600:.1f} h"
