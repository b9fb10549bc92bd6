"""The vital signs of one engine: what its processes and whoever watches them tell each other.

One small file in the state folder that every process maps:

    0        a lock (one byte) that each API process shares while it accepts connections
    16       the supervisor's words: a start's time and forecast, failures in a row, the way out
    64       restarts by reason
    128      how long the last starts took
    256      when the engine's core answered last, and when each API process turned its loop

The supervisor writes the first half, the API processes the second, and the fallback server reads
both. Times are monotonic seconds, which all processes of a machine share. The file outlives an
engine: that is how the next one learns how often and why those before it ended.
"""

from __future__ import annotations

import math
import mmap
import os
import struct
import time
from collections.abc import Callable, Mapping
from enum import StrEnum
from pathlib import Path
from statistics import median

from service.engine.byte_locks import SHARED, is_free, try_lock, unlock
from service.engine.shared_file import open_shared
from service.engine.shared_residency import MAX_PROCESSES

FIRST_ESTIMATE = 60.0
"""Seconds that a start is taken to need where none was measured yet."""
LEAST_WAIT, LONGEST_WAIT = 2, 120
"""Seconds of a `Retry-After`. OpenAI's clients do not repeat at all what asks for more."""
MAX_FAILED_STARTS = 5
"""As many starts in a row that never became ready mean that starting again does not help."""

_TURN, _EXPECTED, _FAILED, _LEAVING = 16, 24, 32, 40
_RESTARTS, _STARTS, _HEARD = 64, 128, 256
_KEPT_STARTS = 5
_CORE = 0
_NUMBER, _TIME = struct.Struct("q"), struct.Struct("d")
_SIZE = _HEARD + (1 + MAX_PROCESSES) * _TIME.size


class RestartReason(StrEnum):
    """Why an engine was started again: a closed set, safe as a label."""

    EXIT = "exit"
    """It ended by itself, with whatever code: also when its core has died."""
    SIGNAL = "signal"
    """A signal ended it that was not ours."""
    OUT_OF_MEMORY = "out_of_memory"
    """The kernel ended it to free memory."""
    UNRESPONSIVE = "unresponsive"
    """Its core or an API process was silent for too long, and was ended."""


_REASONS = tuple(RestartReason)


class VitalSigns:
    """One process's view of the file. Each field has one writer."""

    def __init__(self, path: Path, *, clock: Callable[[], float] = time.monotonic) -> None:
        """Makes the file where needed. `clock`: one that all processes share. Raises OSError."""
        self._file = open_shared(path, _SIZE)
        self._map = mmap.mmap(self._file, _SIZE)
        self._clock = clock

    def close(self) -> None:
        """Lets go of the lock; further calls are undefined."""
        self._map.close()
        os.close(self._file)

    # -- the supervisor's words

    def begin(self) -> None:
        """A supervisor begins: of what an earlier one wrote, only the starts' lengths still hold.

        Times of before a reboot mean nothing, and a counter may begin again with its process.
        """
        starts = self._map[_STARTS:_HEARD]
        self._map[16:_SIZE] = bytes(_SIZE - 16)
        self._map[_STARTS:_HEARD] = starts
        self._write(_EXPECTED, self._clock() + self.estimate())

    def note_start(self) -> None:
        """An engine is started now: nobody of it was heard yet."""
        self._map[_HEARD:_SIZE] = bytes(_SIZE - _HEARD)
        self._write(_TURN, self._clock())
        self._write(_EXPECTED, self._clock() + self.estimate())

    def note_ready(self) -> None:
        """The engine that was started last is ready; its start's length is remembered."""
        taken = self._clock() - self._read(_TURN)
        kept = [taken, *self._starts()][:_KEPT_STARTS]
        for place, seconds in enumerate(kept):
            self._write(_STARTS + place * _TIME.size, seconds)
        self._count(_FAILED, 0)

    def note_end(self, reason: RestartReason, *, was_ready: bool, delay: float) -> None:
        """It has ended, and the next one is started in `delay` seconds."""
        place = _RESTARTS + _REASONS.index(reason) * _NUMBER.size
        self._count(place, self._counted(place) + 1)
        self._count(_FAILED, 0 if was_ready else self._counted(_FAILED) + 1)
        self._write(_EXPECTED, self._clock() + delay + self.estimate())

    def note_leaving(self) -> None:
        """The supervisor is told to end: no engine is started any more."""
        self._count(_LEAVING, 1)

    # -- an API process's words

    def accept(self) -> None:
        """From now on this process takes connections from the listening socket."""
        try_lock(self._file, SHARED, 0)

    def cease(self) -> None:
        """It takes no more: whoever still comes is the fallback server's."""
        unlock(self._file, 0)

    def note_loop(self, process: int) -> None:
        """This API process's event loop turns."""
        self._write(_HEARD + (1 + process) * _TIME.size, self._clock())

    def note_core(self) -> None:
        """The engine's core has answered."""
        self._write(_HEARD + _CORE, self._clock())

    # -- what everybody may know

    @property
    def accepting(self) -> bool:
        """Whether another process than this one takes connections. The kernel knows: whoever died
        does not.
        """
        return not is_free(self._file, 0)

    @property
    def leaving(self) -> bool:
        """Whether the supervisor is on its way out."""
        return bool(self._counted(_LEAVING))

    @property
    def failed_starts(self) -> int:
        """Starts in a row, up to now, that ended before the engine was ready."""
        return self._counted(_FAILED)

    @property
    def restarts(self) -> Mapping[str, int]:
        """How often an engine of this supervisor was started again, by `RestartReason`."""
        return {
            reason.value: self._counted(_RESTARTS + place * _NUMBER.size)
            for place, reason in enumerate(_REASONS)
        }

    @property
    def silence(self) -> float:
        """Seconds since whoever is silent longest was heard; 0 where nobody has spoken yet."""
        heard = _TIME.iter_unpack(self._map[_HEARD:_SIZE])
        return self._clock() - min((at for (at,) in heard if at), default=self._clock())

    def estimate(self) -> float:
        """Seconds that a start takes, from those before it."""
        starts = self._starts()
        return median(starts) if starts else FIRST_ESTIMATE

    def seconds_left(self) -> int:
        """Until an engine is expected to be ready. One that is late is given as much again as it
        is late: the longer it takes, the longer it is likely to take.
        """
        left = self._read(_EXPECTED) - self._clock()
        return min(LONGEST_WAIT, max(LEAST_WAIT, math.ceil(abs(left))))

    def _starts(self) -> list[float]:
        end = _STARTS + _KEPT_STARTS * _TIME.size
        return [taken for (taken,) in _TIME.iter_unpack(self._map[_STARTS:end]) if taken > 0]

    def _read(self, place: int) -> float:
        return float(_TIME.unpack_from(self._map, place)[0])

    def _write(self, place: int, value: float) -> None:
        _TIME.pack_into(self._map, place, value)

    def _counted(self, place: int) -> int:
        return int(_NUMBER.unpack_from(self._map, place)[0])

    def _count(self, place: int, value: int) -> None:
        _NUMBER.pack_into(self._map, place, value)
