"""One run: callers, operators and faults against a cluster, until so many commands were given.

The run is over when the commands are, however long they take; nothing is decided by the clock.
"""

from __future__ import annotations

import asyncio
import time
from collections import Counter, deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from tests.simulation.callers import Caller, Endpoint, Operator, World
from tests.simulation.chaos import Chaos, Fault, Fleet, told
from tests.simulation.checker import Violation, summary
from tests.simulation.cluster import Cluster
from tests.simulation.history import History, Outcome

WORDS = 6


@dataclass(frozen=True, kw_only=True)
class Plan:
    """How large a run is, and the seed that it can be repeated with."""

    seed: int
    commands: int
    """So many are carried out; those that are refused come on top."""
    aliases: tuple[str, ...]
    callers: int = 16
    operators: int = 4
    rollbacks: float = 0.3
    caller_pause: float = 0.05
    wait: float = 30.0
    """Seconds a command waits for *complete*."""


@dataclass(kw_only=True)
class Pool:
    """Published versions that were never live, oldest first."""

    names: dict[str, deque[str]]

    @classmethod
    def published(cls, house: Cluster, plan: Plan) -> Pool:
        """More of each alias than it will need where the operators' choice is even."""
        each = 10 + plan.commands * 3 // 2 // len(plan.aliases)
        return cls(names={alias: deque(house.publish_many(alias, each)) for alias in plan.aliases})

    def take(self, alias: str) -> str:
        return self.names[alias].popleft()

    def give_back(self, alias: str, version: str) -> None:
        self.names[alias].appendleft(version)


@dataclass(frozen=True, kw_only=True)
class Report:
    """What a run was, for people."""

    history: History
    chaos: Sequence[Chaos]
    seconds: float
    deaths: int

    def lines(self, violations: Sequence[Violation]) -> list[str]:
        """One fact a line."""
        reads, commands = self.history.reads, self.history.commands
        errors = Counter(read.error for read in reads if read.error)
        outcomes = Counter(str(command.outcome) for command in commands)
        refusals = Counter(c.error for c in commands if c.outcome is not Outcome.COMPLETE)
        return [
            f"{len(commands)} commands in {self.seconds:.0f} s: {dict(outcomes)}, {dict(refusals)}",
            f"{len(reads)} reads, {sum(r.streamed for r in reads)} of them streams",
            f"reads without an answer: {dict(errors) or 'none'}",
            f"{len(self.history.flips)} flips; replicas that ended by themselves: {self.deaths}",
            *(line for chaos in self.chaos for line in told(chaos.mended, self.history)),
            f"violations: {summary(violations) or 'none'}",
        ]


HONEST = (
    "ConnectError", "ConnectTimeout", "ReadError", "WriteError", "RemoteProtocolError",
    "status 503", "in-band",
)  # fmt: skip
"""How an answer may fail while replicas die: each of these an SDK raises."""


def unexpected(history: History, *, faults: bool) -> dict[str, int]:
    """Reads that failed otherwise than they may, by error; without faults none may."""
    errors = Counter(read.error for read in history.reads if read.error)
    honest = HONEST if faults else ()
    return {error: count for error, count in errors.items() if not error.startswith(honest)}


def drive(
    house: Cluster, plan: Plan, faults: Sequence[tuple[Chaos, Iterator[Fault]]], fleet: Fleet
) -> Report:
    """Runs the plan and collects what the registry remembers afterwards."""
    history = History()
    pool = Pool.published(house, plan)
    started = time.monotonic()
    asyncio.run(_drive(house, plan, faults, fleet, (history, pool)))
    seconds = time.monotonic() - started
    for replica in house.replicas:
        fleet.bring_back(replica)
    for alias in plan.aliases:
        history.flips += house.flips(alias)
    return Report(
        history=history,
        chaos=[chaos for chaos, _ in faults],
        seconds=seconds,
        deaths=fleet.deaths,
    )


async def _drive(
    house: Cluster,
    plan: Plan,
    faults: Sequence[tuple[Chaos, Iterator[Fault]]],
    fleet: Fleet,
    made: tuple[History, Pool],
) -> None:
    history, pool = made
    stopped = asyncio.Event()
    world = World(
        endpoints=[Endpoint(name=replica.name, url=replica.url) for replica in house.replicas],
        headers=house.headers,
        aliases=plan.aliases,
        history=history,
        stopped=stopped,
    )

    def enough() -> bool:
        carried_out = (Outcome.COMPLETE, Outcome.ACCEPTED)
        return sum(c.outcome in carried_out for c in history.commands) >= plan.commands

    callers = [
        Caller(world, seed=plan.seed * 1000 + number, pause=plan.caller_pause)
        for number in range(plan.callers)
    ]
    operators = [
        Operator(
            world,
            seed=plan.seed * 1000 + 500 + number,
            versions=pool,
            rollbacks=plan.rollbacks,
            wait=plan.wait,
        )
        for number in range(plan.operators)
    ]
    async with asyncio.TaskGroup() as others:
        await operators[0].first()
        others.create_task(fleet.supervise(stopped))
        for chaos, schedule in faults:
            others.create_task(chaos.run(schedule, stopped))
        for caller in callers:
            others.create_task(caller.run())
        await asyncio.gather(*(operator.run(enough) for operator in operators))
        stopped.set()
