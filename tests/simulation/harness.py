"""One run: callers, operators and faults against a cluster, until so many commands were given.

The run is over when the commands are, however long they take; nothing is decided by the clock.
"""

from __future__ import annotations

import asyncio
import time
from collections import Counter, deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from adapters.errors import Unavailable
from tests.simulation.callers import Caller, Endpoint, Operator, World
from tests.simulation.chaos import Chaos, Fault, Fleet, told
from tests.simulation.checker import Violation, summary
from tests.simulation.cluster import Cluster
from tests.simulation.history import History, Outcome
from tests.simulation.replica import ReplicaFailed

RETRY_SECONDS = 0.2
CONVERGE_SECONDS = 60.0
"""A bound on hanging, not on speed."""


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

    more: Callable[[str, int], list[str]]
    """Publishes so many of an alias."""

    @classmethod
    def published(cls, house: Cluster, plan: Plan) -> Pool:
        """As many of each alias as it will need where the operators' choice is even."""
        each = 10 + plan.commands * 3 // 2 // len(plan.aliases)
        names = {alias: deque(house.publish_many(alias, each)) for alias in plan.aliases}
        return cls(names=names, more=house.publish_many)

    async def take(self, alias: str) -> str:
        while not self.names[alias]:
            try:
                self.names[alias].extend(await asyncio.to_thread(self.more, alias, 5))
            except Unavailable:  # the registry is away, and comes back
                await asyncio.sleep(RETRY_SECONDS)
        return self.names[alias].popleft()

    def give_back(self, alias: str, version: str) -> None:
        self.names[alias].appendleft(version)


@dataclass(frozen=True, kw_only=True)
class Report:
    """What a run was, for people."""

    history: History
    chaos: Sequence[Chaos]
    seconds: float
    converged: float
    """Seconds from the last command and fault until every replica routed as the registry says."""
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
            f"all replicas routed by the registry {self.converged:.1f} s after the last fault",
            f"violations: {summary(violations) or 'none'}",
        ]


HONEST = (
    "ConnectError", "ConnectTimeout", "ReadError", "WriteError", "RemoteProtocolError",
    "status 503", "in-band",
)  # fmt: skip
"""How an answer may fail while replicas die: each of these an SDK raises."""

DEFECT = "status 500"


def unexpected(history: History, *, faults: bool) -> dict[str, int]:
    """Reads that failed otherwise than they may, by error; without faults none may. And commands
    that were answered with a defect of ours, which none may.
    """
    errors = Counter(read.error for read in history.reads if read.error)
    honest = HONEST if faults else ()
    found = {error: count for error, count in errors.items() if not error.startswith(honest)}
    answers = (command.error or "" for command in history.commands)
    defects = Counter(error for error in answers if error.startswith(DEFECT))
    return {**found, **defects}


def drive(
    house: Cluster, plan: Plan, faults: Sequence[tuple[Chaos, Iterator[Fault]]], fleet: Fleet
) -> Report:
    """Runs the plan and collects what the registry remembers afterwards."""
    history = History()
    pool = Pool.published(house, plan)
    started = time.monotonic()
    asyncio.run(_drive(house, plan, faults, fleet, (history, pool)))
    seconds = time.monotonic() - started
    converged = converge(house, plan.aliases, fleet)
    for alias in plan.aliases:
        history.flips += house.flips(alias)
    return Report(
        history=history,
        chaos=[chaos for chaos, _ in faults],
        seconds=seconds,
        converged=converged,
        deaths=fleet.deaths,
    )


def converge(house: Cluster, aliases: Sequence[str], fleet: Fleet) -> float:
    """Waits until nothing moves and all replicas answer alike; how long it took.

    Nobody helps them but their supervisor. Raises ReplicaFailed.
    """
    began = time.monotonic()
    for replica in house.replicas:
        fleet.bring_back(replica)
    while unlike := _unlike(house, aliases):
        if time.monotonic() - began > CONVERGE_SECONDS:
            raise ReplicaFailed(f"not all alike after {CONVERGE_SECONDS:g} s: {unlike}")
        time.sleep(0.1)
    return time.monotonic() - began


def _unlike(house: Cluster, aliases: Sequence[str]) -> dict[str, object]:
    """What still moves, or is not answered by the live version everywhere."""
    if moving := house.moving(aliases):
        return dict.fromkeys(moving, "a rollout is open")
    found: dict[str, object] = {}
    for alias in aliases:
        answers = house.answers(alias)
        if set(answers) != {house.live(alias)}:
            found[alias] = answers
    return found


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
