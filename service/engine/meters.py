"""Measures what accounts use, over all API processes in front of one engine.

One small file that every process maps, made anew for each life of an engine: a row an account, with
the digest of its name, its shares of what is limited for all replicas together, and a column for
each process. A process writes its own column and adds up all of them, so a request costs neither a
lock nor a system call; only the first of an account looks for its row, under a lock. It counts
before it looks: two that want the last place at once may both be refused, but never both have it.
When one process of an engine has died, vLLM ends them all: no count outlives its process.

All of one process's calls come from its event loop's thread. Rates go by the monotonic clock,
which is one for all processes of a machine; days and months by the registry's, as it was told last.
"""

from __future__ import annotations

import hashlib
import os
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from adapters.domain.limits import Quota, entry_share
from adapters.errors import EngineUnavailable
from adapters.file_locks import open_locked
from service.engine import minute_window
from service.engine.minute_window import CELLS, SLOT_SECONDS, SLOTS, Cells, MinuteWindow
from service.engine.shared_file import map_shared

MAX_ACCOUNTS = 4096
"""Names in one life of an engine, deleted ones included."""
SHARE_SECONDS = 30.0
"""How long a share holds that the registry has not confirmed; one of a budget holds as long as its
day or month."""

_QUOTAS = len(Quota)
_CLOCK, _REPLICAS, _HEADER = 0, 1, 8
"""Microseconds from the monotonic clock to the registry's, and how many replicas report."""
_NAME, _NAME_BYTES = 2, 16
_SHARE, _ELSEWHERE, _CONFIRMED = _NAME, _NAME + _QUOTAS, _NAME + 2 * _QUOTAS
_SHARED = _NAME + 3 * _QUOTAS
_REQUESTS, _SEQUENCES, _WANTED = 0, 1, 2
_WINDOWS = _WANTED + _QUOTAS
_PERIODS = _WINDOWS + 2 * CELLS
_COLUMN = _PERIODS + 4
"""A day's or month's number and what is used of it, twice."""
_CELL = 8
_DAY = 86_400


@dataclass(frozen=True, slots=True)
class Moment:
    """A time, as the meters see it."""

    slot: int
    day: int
    """Days since 1970, in UTC, as `month` months."""
    month: int

    def period(self, quota: Quota) -> int:
        """The number of the quota's window; 0 for one that slides."""
        if quota is Quota.TOKENS_PER_DAY:
            return self.day
        return self.month if quota is Quota.TOKENS_PER_MONTH else 0


class Meter:
    """What one account uses. Amounts are by quota: requests, and three times tokens."""

    def __init__(self, cells: Cells, row: int, *, process: int, processes: int) -> None:
        self._cells = cells
        self._row = row
        columns = [row + _SHARED + number * _COLUMN for number in range(processes)]
        self._own = columns.pop(process)
        self._others = columns
        self._windows = (
            MinuteWindow(cells, self._own + _WINDOWS),
            MinuteWindow(cells, self._own + _WINDOWS + CELLS),
        )
        self._moved: Moment | None = None

    # -- what is in flight

    @property
    def requests(self) -> int:
        """Requests in flight, those included that wait for something."""
        return self._sum(_REQUESTS)

    @property
    def sequences(self) -> int:
        """Answers that they ask for."""
        return self._sum(_SEQUENCES)

    @property
    def is_shared(self) -> bool:
        """Whether other replicas report: then what may be in flight here is a share."""
        return self._cells[_REPLICAS] > 1

    def hold_requests(self, more: int) -> None:
        """So many more, or fewer, are in flight in this process."""
        self._cells[self._own + _REQUESTS] += more

    def hold_sequences(self, more: int) -> None:
        """The same of their answers."""
        self._cells[self._own + _SEQUENCES] += more

    # -- quotas

    def charge(self, moment: Moment, *, requests: int = 0, tokens: int = 0) -> None:
        """Counts for every quota; both amounts may be negative, as what is given back is.

        A minute's go where they were counted at `moment`, or nowhere when that has left it.
        """
        if requests:
            self._windows[0].add(requests, moment.slot)
        if not tokens:
            return
        self._windows[1].add(tokens, moment.slot)
        cells, at = self._cells, self._own + _PERIODS
        if cells[at] == moment.day:
            cells[at + 1] += tokens
        if cells[at + 2] == moment.month:
            cells[at + 3] += tokens

    def move(self, now: Moment) -> None:
        """The time is `now`: what has left a quota's window counts no longer."""
        if now is self._moved:
            return
        for window in self._windows:
            window.move(now.slot)
        at = self._own + _PERIODS
        for cell, period in ((at, now.day), (at + 2, now.month)):
            if self._cells[cell] != period:
                self._cells[cell + 1] = 0
                self._cells[cell] = period
        self._moved = now

    def used(self, quota: Quota, now: Moment) -> int:
        """By requests that all processes of this engine have admitted. After `move`, but for what
        is in flight.
        """
        if quota < Quota.CONCURRENT_REQUESTS:
            total = self._windows[quota].total
            for other in self._others:
                window = other + _WINDOWS + CELLS * quota
                total += sum(minute_window.seen(self._cells, window, now.slot))
            return total
        if quota < Quota.TOKENS_PER_DAY:
            return self.requests if quota is Quota.CONCURRENT_REQUESTS else self.sequences
        at, period = self._period_at(quota), now.period(quota)
        return sum(
            self._cells[column + at + 1]
            for column in (self._own, *self._others)
            if self._cells[column + at] == period
        )

    def allowed(self, quota: Quota, limit: int, now: Moment) -> int:
        """What this engine may use of it: its share, as far as the registry has confirmed one."""
        if not self._is_confirmed(quota, now):
            return entry_share(limit, self._cells[_REPLICAS])
        share = self._cells[self._row + _SHARE + quota]
        return share if share < limit else limit

    def elsewhere(self, quota: Quota, now: Moment) -> int:
        """What other replicas had used when the registry was asked last."""
        if not self._is_confirmed(quota, now):
            return 0
        return self._cells[self._row + _ELSEWHERE + quota]

    def want(self, quota: Quota, amount: int) -> None:
        """It was asked for, and this engine's share had no room: the next share may have."""
        self._cells[self._own + _WANTED + quota] += amount

    def slots_until(self, quota: Quota, freed: int, now: Moment) -> int:
        """Slots until that much of a minute's quota has left it."""
        window = self._window_at(quota)
        columns = (self._own, *self._others)
        each = (minute_window.seen(self._cells, column + window, now.slot) for column in columns)
        return minute_window.slots_until([sum(of) for of in zip(*each, strict=True)], freed)

    def slots_until_free(self, quota: Quota, now: Moment) -> int:
        """Until all that this engine has used of a minute's quota has left it."""
        own = self._windows[quota]
        slots = own.newest + SLOTS - now.slot if own.total else 0
        for other in self._others:
            window = other + _WINDOWS + CELLS * quota
            amounts = minute_window.seen(self._cells, window, now.slot)
            slots = max(slots, *(at for at, amount in enumerate(amounts, 1) if amount), 0)
        return slots

    # -- shares, for who asks the registry for them

    def wanted(self, quota: Quota) -> int:
        """Grows with what was asked for in vain."""
        return self._sum(_WANTED + quota)

    def give(self, quota: Quota, *, share: int, elsewhere: int, now: Moment) -> None:
        """This engine's share, and what other replicas have used."""
        self._cells[self._row + _SHARE + quota] = share
        self._cells[self._row + _ELSEWHERE + quota] = elsewhere
        # last: a share is not looked at before it is confirmed
        confirmed = now.period(quota) if quota.is_budget else now.slot
        self._cells[self._row + _CONFIRMED + quota] = confirmed

    def _is_confirmed(self, quota: Quota, now: Moment) -> bool:
        confirmed = self._cells[self._row + _CONFIRMED + quota]
        if quota < Quota.TOKENS_PER_DAY:
            return confirmed > 0 and (now.slot - confirmed) * SLOT_SECONDS <= SHARE_SECONDS
        return confirmed == now.period(quota)

    def _sum(self, at: int) -> int:
        total = self._cells[self._own + at]
        for column in self._others:
            total += self._cells[column + at]
        return total

    def _window_at(self, quota: Quota) -> int:
        return _WINDOWS + CELLS * quota

    def _period_at(self, quota: Quota) -> int:
        return _PERIODS + 2 * (quota - Quota.TOKENS_PER_DAY)


class Meters:
    """One process's view of what accounts use of its engine."""

    def __init__(
        self,
        path: Path,
        *,
        process: int = 0,
        processes: int = 1,
        clock: Callable[[], float] = time.monotonic,
        wall: Callable[[], float] = time.time,
    ) -> None:
        """Makes the file where needed. `wall` is believed until the registry has told the time.

        Raises OSError.
        """
        self._path = path
        self._process, self._processes = process, processes
        self._row_cells = _SHARED + processes * _COLUMN
        size = (_HEADER + MAX_ACCOUNTS * self._row_cells) * _CELL
        self._map = map_shared(path, size)
        self._cells = memoryview(self._map).cast("q")
        self._clock = clock
        self._wall = wall
        self._meters: dict[str, Meter] = {}
        self._month = (0, 0)
        self._now = Moment(0, 0, 0)

    def of(self, account: str) -> Meter:
        """The account's meter. Raises EngineUnavailable when there are too many accounts."""
        meter = self._meters.get(account)
        if meter is None:
            meter = self._meters[account] = Meter(
                self._cells,
                self._found_or_made(account),
                process=self._process,
                processes=self._processes,
            )
        return meter

    def now(self) -> Moment:
        """The present moment."""
        clock = self._clock()
        slot = int(clock / SLOT_SECONDS)
        offset = self._cells[_CLOCK]
        day = int((clock + offset / 1e6 if offset else self._wall()) // _DAY)
        if (slot, day) != (self._now.slot, self._now.day):
            self._now = Moment(slot, day, self._month_of(day))
        return self._now

    def set_clock(self, at: float, *, replicas: int) -> None:
        """The registry's time just now, and how many replicas report to it."""
        self._cells[_CLOCK] = int((at - self._clock()) * 1e6) or 1
        self._cells[_REPLICAS] = replicas

    @property
    def knows_time(self) -> bool:
        """Whether the registry has told the time."""
        return self._cells[_CLOCK] != 0

    def accounts(self, names: Sequence[str]) -> Iterator[tuple[str, Meter]]:
        """Those meters, moved to the present."""
        now = self.now()
        for name in names:
            meter = self.of(name)
            meter.move(now)
            yield name, meter

    def close(self) -> None:
        """Lets go of the file; further calls are undefined."""
        self._meters.clear()
        self._cells.release()
        self._map.close()

    def _month_of(self, day: int) -> int:
        if self._month[0] != day:
            date = datetime.fromtimestamp(day * _DAY, UTC)
            self._month = (day, (date.year - 1970) * 12 + date.month - 1)
        return self._month[1]

    def _found_or_made(self, account: str) -> int:
        name = hashlib.blake2b(account.encode(), digest_size=_NAME_BYTES).digest()
        lock = open_locked(self._path)
        try:
            for number in range(MAX_ACCOUNTS):
                row = _HEADER + number * self._row_cells
                known = self._map[row * _CELL : row * _CELL + _NAME_BYTES]
                if known == name:
                    return row
                if not any(known):
                    self._map[row * _CELL : row * _CELL + _NAME_BYTES] = name
                    return row
        finally:
            os.close(lock)
        raise EngineUnavailable("there are more units than one engine can tell apart")
