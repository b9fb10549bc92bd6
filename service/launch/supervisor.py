"""Keeps processes running until a signal says otherwise: the parent in `wardrobe up` and `serve`.

What dies is started again, later each time it dies young (`after_exit`), and so is what hangs as
its guard sees it. On the first signal the processes are stopped in the reverse of their order, each
with the patience it asks for; a second signal ends everything at once. Whatever happens, nothing
they started outlives the supervisor.
"""

from __future__ import annotations

import signal
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from types import FrameType, TracebackType
from typing import Self

from adapters.prctl import adopt_orphans
from service.launch.child_process import (
    Process,
    ProcessSpec,
    end_orphans,
    reap_orphans,
    tail,
)

FIRST_DELAY = 1.0
LONGEST_DELAY = 30.0
STABLE_AFTER = 60.0
"""Seconds: who has no guard to tell and ran for so long has recovered."""
TICK = 0.2
REAP_EVERY = 10.0
HANGS = "has said nothing for too long"
STARTING_AGAIN = "starting it again"
"""Said with the name of a process that has ended by itself."""


def after_exit(failures: int, *, recovered: bool) -> tuple[int, float]:
    """Failures in a row, this one counted, and the seconds to wait before the next start.

    `recovered`: it had worked long enough since the failure before this one.
    """
    failures = 1 if recovered else failures + 1
    return failures, min(LONGEST_DELAY, FIRST_DELAY * 2.0 ** min(failures - 1, 10))


class Signals:
    """Counts SIGINT, SIGTERM and SIGHUP while the body runs, instead of dying of them."""

    def __init__(self) -> None:
        self.count = 0

    def __enter__(self) -> Self:
        wanted = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
        # an ignored SIGHUP is somebody's `nohup`
        self._before = {
            number: signal.signal(number, self._note)
            for number in wanted
            if signal.getsignal(number) is not signal.SIG_IGN
        }
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        at: TracebackType | None,
    ) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _note(self, number: int, frame: FrameType | None) -> None:
        self.count += 1


@dataclass(frozen=True, kw_only=True)
class Slot:
    """One process's place: who is in it, or when the next one starts (monotonic seconds)."""

    spec: ProcessSpec
    process: Process | None = None
    failures: int = 0
    start_at: float = 0.0


class Supervisor:
    """Runs `specs` in their order. `tell` gets one line per event, `watch` is called every tick."""

    def __init__(
        self,
        specs: Sequence[ProcessSpec],
        *,
        tell: Callable[[str], None],
        watch: Callable[[], None] = lambda: None,
    ) -> None:
        self._slots = [Slot(spec=spec) for spec in specs]
        self._tell = tell
        self._watch = watch

    def run(self, signals: Signals) -> int:
        """Until a signal; returns the exit code: 0, or 130 when told twice. Raises OSError."""
        adopt_orphans()
        reaped_at = time.monotonic()
        try:
            while not signals.count:
                self._slots = [self._tend(slot, time.monotonic()) for slot in self._slots]
                self._watch()
                if time.monotonic() - reaped_at > REAP_EVERY:
                    reap_orphans(self._known())
                    reaped_at = time.monotonic()
                time.sleep(TICK)
            return self._stop(signals)
        finally:
            for slot in self._slots:
                if slot.process:
                    slot.process.kill()
            end_orphans(frozenset())

    def _known(self) -> frozenset[int]:
        return frozenset(slot.process.pid for slot in self._slots if slot.process)

    def _tend(self, slot: Slot, now: float) -> Slot:
        if slot.process is None:
            return self._start(slot) if now >= slot.start_at else slot
        code, guard = slot.process.exit_code(), slot.spec.guard
        hung = code is None and guard is not None and guard.hangs()
        if code is None and not hung:
            return slot
        slot.process.kill()
        end_orphans(self._known() - {slot.process.pid})
        recovered = (
            now - slot.process.started_at >= STABLE_AFTER if guard is None else guard.recovered()
        )
        failures, delay = after_exit(slot.failures, recovered=recovered)
        if guard is not None:
            guard.ended(code or 0, hung=hung, delay=delay)
        how = HANGS if hung else _ended(code or 0)
        self._tell(f"{slot.spec.name} {how}; {STARTING_AGAIN} in {delay:.0f} s")
        self._tell_log(slot.spec, quote=failures == 1)
        # killing took its time: the delay begins now
        return Slot(spec=slot.spec, failures=failures, start_at=time.monotonic() + delay)

    def _start(self, slot: Slot) -> Slot:
        if slot.spec.guard is not None:
            slot.spec.guard.starting()
        return replace(slot, process=Process.start(slot.spec))

    def _tell_log(self, spec: ProcessSpec, *, quote: bool) -> None:
        if spec.log is None:
            return
        for line in tail(spec.log, 5) if quote and spec.may_be_quoted else []:
            self._tell(f"  {line}")
        self._tell(f"  see {spec.log}")

    def _stop(self, signals: Signals) -> int:
        guards = [slot.spec.guard for slot in self._slots if slot.spec.guard is not None]
        for guard in guards:
            guard.stopping()
        for slot in reversed(self._slots):
            if slot.process is not None:
                self._stop_one(slot.spec, slot.process, signals)
        for guard in guards:
            guard.stopped()
        return 0 if signals.count < 2 else 130

    def _stop_one(self, spec: ProcessSpec, process: Process, signals: Signals) -> None:
        self._tell(f"stopping the {spec.name} (up to {spec.patience:.0f} s)")
        process.ask_to_stop()
        deadline = time.monotonic() + spec.patience
        while signals.count < 2 and time.monotonic() < deadline and not process.wait(0.1):
            pass
        if process.exit_code() is None:
            self._tell(f"the {spec.name} has not ended by itself: ending it")
        process.kill()


def _ended(code: int) -> str:
    if code < 0:
        return f"was ended by {signal.Signals(-code).name}"
    return f"ended with exit code {code}"
