"""Faults by a seeded schedule: replicas die and stop, PostgreSQL restarts, object storage errs.

`schedule` is pure: the same seed gives the same faults in the same order. `Chaos` carries them out
one after another, brings everything back, and measures how long each recovery took.
"""

from __future__ import annotations

import asyncio
import random
import statistics
import time
from bisect import bisect_right
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Protocol, TypeVar

from tests.simulation.history import History, Outcome
from tests.simulation.replica import WAIT_SECONDS, Replica, ReplicaFailed


class Database(Protocol):
    """A PostgreSQL server (`tests.servers.postgres.PostgresServer`)."""

    def restart(self) -> None: ...

    def kill(self) -> None: ...

    def start(self) -> None: ...


class Storage(Protocol):
    """Object storage behind a proxy that can harm what passes."""

    def harm_next(self, kind: str) -> None:
        """`error`, `delay`, `cut` or `lost_answer`: of the next few requests."""
        ...

    def heal(self) -> None: ...


class FaultKind(StrEnum):
    """What can be done."""

    KILL = "kill"
    """A replica, with SIGKILL; it is started again."""
    TERMINATE = "terminate"
    """A replica, with SIGTERM, as a rolling restart does; it is started again."""
    PAUSE = "pause"
    """A replica is stopped for a while and does not know it."""
    RESTART_DATABASE = "restart_database"
    KILL_DATABASE = "kill_database"
    HARM_STORAGE = "harm_storage"


REPLICA_FAULTS = frozenset({FaultKind.KILL, FaultKind.TERMINATE, FaultKind.PAUSE})
RESTART_SECONDS = 0.2
"""A supervisor's pause before it starts again what has ended."""
Part = TypeVar("Part")


@dataclass(frozen=True, kw_only=True)
class Fault:
    """One fault: after a pause, to one of the replicas, for a while."""

    kind: FaultKind
    after: float
    """Seconds of quiet before it."""
    index: int
    """Which replica, by its number."""
    lasts: float
    """Seconds until it is mended."""
    harm: str = "error"


@dataclass(frozen=True, kw_only=True)
class Mix:
    """Which faults, how often of each, and how much quiet between two."""

    weights: dict[FaultKind, int]
    quiet: tuple[float, float] = (0.5, 3.0)
    lasts: tuple[float, float] = (0.0, 1.0)
    pauses: tuple[float, float] = (1.0, 15.0)
    """Of a stopped replica: both sides of every timeout are worth a visit."""


def schedule(seed: int, mix: Mix, *, replicas: int) -> Iterator[Fault]:
    """Faults without an end, the same for the same seed."""
    draw = random.Random(seed)
    kinds = sorted(mix.weights)
    weights = [mix.weights[kind] for kind in kinds]
    while True:
        (kind,) = draw.choices(kinds, weights)
        yield Fault(
            kind=kind,
            after=draw.uniform(*mix.quiet),
            index=draw.randrange(replicas),
            lasts=draw.uniform(*(mix.pauses if kind is FaultKind.PAUSE else mix.lasts)),
            harm=draw.choice(("error", "delay", "cut", "lost_answer")),
        )


@dataclass(frozen=True, kw_only=True)
class Mended:
    """A fault that was mended, and how long it took its replica to be ready from then on."""

    kind: FaultKind
    at: float
    seconds: float | None
    """None where readiness does not say it: the first command that is carried out does."""


@dataclass(kw_only=True)
class Chaos:
    """Carries faults out, one at a time. Several may run at once: one for replicas, one for
    everything else.
    """

    fleet: Fleet
    database: Database | None = None
    storage: Storage | None = None
    mended: list[Mended] = field(default_factory=list)

    async def run(self, faults: Iterator[Fault], stopped: asyncio.Event) -> None:
        """Until it is told to stop; all that it has harmed is whole again when this returns."""
        while not stopped.is_set():
            fault = next(faults)
            await _sleep(fault.after, stopped)
            if not stopped.is_set():
                self.mended.append(await asyncio.to_thread(self._carry_out, fault))
        if self.storage is not None:
            self.storage.heal()

    def _carry_out(self, fault: Fault) -> Mended:
        if fault.kind in REPLICA_FAULTS:
            return self._harm_replica(fault)
        if fault.kind is FaultKind.HARM_STORAGE:
            _there(self.storage).harm_next(fault.harm)
        elif fault.kind is FaultKind.RESTART_DATABASE:
            _there(self.database).restart()
        else:
            _there(self.database).kill()
            time.sleep(fault.lasts)
            _there(self.database).start()
        return Mended(kind=fault.kind, at=time.monotonic(), seconds=None)

    def _harm_replica(self, fault: Fault) -> Mended:
        replica = self.fleet.replicas[fault.index]
        with self.fleet.holding(replica):
            match fault.kind:
                case FaultKind.KILL:
                    replica.kill()
                    time.sleep(fault.lasts)
                case FaultKind.TERMINATE:
                    replica.terminate()
                case _:
                    replica.pause()
                    time.sleep(fault.lasts)
                    replica.resume()
            mended = time.monotonic()
            self.fleet.bring_back(replica)
        return Mended(kind=fault.kind, at=mended, seconds=time.monotonic() - mended)


@dataclass(kw_only=True)
class Fleet:
    """The replicas and their supervisor: what ends by itself is started again, and counted."""

    replicas: Sequence[Replica]
    deaths: int = 0
    """Of replicas that nobody had harmed: at a start without a database, or a dead engine."""
    _held: set[str] = field(default_factory=set)

    @contextmanager
    def holding(self, replica: Replica) -> Iterator[None]:
        """Meanwhile it is somebody else's to start."""
        self._held.add(replica.name)
        try:
            yield
        finally:
            self._held.discard(replica.name)

    def bring_back(self, replica: Replica) -> None:
        """Starts it, as often as it takes, and waits until it is ready. Raises ReplicaFailed."""
        deadline = time.monotonic() + WAIT_SECONDS
        while True:
            if not replica.running:
                replica.start()
            try:
                replica.wait_ready(max(0.0, deadline - time.monotonic()))
            except ReplicaFailed:
                if time.monotonic() > deadline or replica.running:
                    raise
                self.deaths += 1
                time.sleep(RESTART_SECONDS)
            else:
                return

    async def supervise(self, stopped: asyncio.Event) -> None:
        """Until it is told to stop."""
        while not stopped.is_set():
            for replica in self.replicas:
                if replica.name not in self._held and not replica.running:
                    self.deaths += 1
                    with self.holding(replica):
                        await asyncio.to_thread(self.bring_back, replica)
            await _sleep(RESTART_SECONDS, stopped)


def _there(part: Part | None) -> Part:
    if part is None:
        raise ValueError("the schedule names a part that is not there")
    return part


def recoveries(mended: Sequence[Mended], history: History) -> dict[FaultKind, list[float]]:
    """Seconds until all was well again, by kind, shortest first.

    For a replica that is its readiness; for the rest, the next command said to be complete.
    """
    complete = sorted(c.ended for c in history.commands if c.outcome is Outcome.COMPLETE)
    found: dict[FaultKind, list[float]] = {}
    for fault in mended:
        place = bisect_right(complete, fault.at)
        if fault.seconds is not None:
            found.setdefault(fault.kind, []).append(fault.seconds)
        elif place < len(complete):
            found.setdefault(fault.kind, []).append(complete[place] - fault.at)
    return {kind: sorted(seconds) for kind, seconds in found.items()}


def told(mended: Sequence[Mended], history: History) -> list[str]:
    """How long recoveries took, a line a kind, for people."""
    return [
        f"{kind}: {len(seconds)} times, well again after {statistics.median(seconds):.2f} s "
        f"(median), {seconds[-1]:.2f} s (longest)"
        for kind, seconds in sorted(recoveries(mended, history).items())
    ]


async def _sleep(seconds: float, stopped: asyncio.Event) -> None:
    try:
        await asyncio.wait_for(stopped.wait(), seconds)
    except TimeoutError:
        return
