"""Watches the engine for the supervisor: what its deaths are called, whether it hangs, and since
when it is well.
"""

from __future__ import annotations

import time
from collections.abc import Callable

from service.engine.quarantine_record import QuarantineRecord
from service.engine.vital_signs import RestartReason, VitalSigns
from service.launch.out_of_memory import OomKills, oom_kills

LONGEST_LOOK_AWAY = 30.0
"""Seconds between two looks: longer than whatever else the supervisor does."""
RECOVERED_AFTER = 10.0
"""Seconds of being ready. A start takes longer by itself, so that even an engine that dies at once
after this is not started all the time; to wait more would only add to its callers' outage.
"""


class EngineGuard:
    """Implements the supervisor's guard for the service process, over one state folder."""

    def __init__(
        self,
        signs: VitalSigns,
        record: QuarantineRecord,
        *,
        longest_silence: float,
        kills: Callable[[], OomKills] = oom_kills,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """`longest_silence`: seconds; who says nothing for so long hangs."""
        self._signs = signs
        self._record = record
        self._longest_silence = longest_silence
        self._kills = kills
        self._clock = clock
        self._ready_at: float | None = None
        self._watched_at = self._watching_since = clock()
        self._kills_before = kills()
        signs.begin()

    def starting(self) -> None:
        """A process is about to be started; none of the one before is left."""
        self._record.settle()
        self._ready_at = None
        self._kills_before = self._kills()
        self._signs.note_start()

    def note_ready(self) -> None:
        """The service has just become ready."""
        if self._ready_at is None:
            self._ready_at = self._clock()
            self._signs.note_ready()

    def hangs(self) -> bool:
        """Whether the engine or a process before it has been silent for too long.

        Silence counts while we watch: after a pause of the whole machine or container, whose clock
        has gone on, everybody is given time to be heard again.
        """
        now = self._clock()
        if now - self._watched_at > LONGEST_LOOK_AWAY:
            self._watching_since = now
        self._watched_at = now
        return min(self._signs.silence, now - self._watching_since) > self._longest_silence

    def recovered(self) -> bool:
        """Whether it has been ready for long enough: what it took to start is no good run."""
        return self._ready_at is not None and self._clock() - self._ready_at >= RECOVERED_AFTER

    def ended(self, code: int, *, hung: bool, delay: float) -> None:
        """It has ended, and is started again in `delay` seconds."""
        reason = self._why(code, hung=hung)
        self._signs.note_end(reason, was_ready=self._ready_at is not None, delay=delay)

    def stopping(self) -> None:
        """The supervisor is told to end, and asks the process to."""
        self._signs.note_leaving()

    def stopped(self) -> None:
        """It is gone, on purpose: what it was answering has killed nobody."""
        self._record.forgive()

    def _why(self, code: int, *, hung: bool) -> RestartReason:
        if hung:
            return RestartReason.UNRESPONSIVE
        if self._kills().explain(self._kills_before, code=code):
            return RestartReason.OUT_OF_MEMORY
        return RestartReason.SIGNAL if code < 0 else RestartReason.EXIT
