"""*Complete* is never said while a replica that may still answer has not seen the flip.

Two replicas; one needs longer to load than the registry waits for a sign of life.
"""

from __future__ import annotations

import asyncio
import time
from pathlib import Path

import httpx2
import pytest

from tests.simulation.callers import Caller, Endpoint, World
from tests.simulation.chaos import Fleet
from tests.simulation.checker import check, summary
from tests.simulation.cluster import Cluster, cluster
from tests.simulation.history import Command, History, Outcome

ALIAS, OTHER = "support", "sales"
LOAD_SECONDS = 13.0

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]


async def promote(house: Cluster, alias: str, version: str, history: History) -> Outcome:
    """Asks the first replica, and writes it down."""
    replica = house.replicas[0]
    url = f"{replica.url}/v1/adapters/{alias}/promote"
    started = time.monotonic()
    async with httpx2.AsyncClient(headers=house.headers, timeout=120) as client:
        answer = await client.post(url, json={"version": version, "timeout": 60})
    document = answer.json()
    complete = answer.status_code == 200 and document["state"] == "complete"
    command = Command(
        started=started,
        ended=time.monotonic(),
        replica=replica.name,
        alias=alias,
        action="promote",
        outcome=Outcome.COMPLETE if complete else Outcome.UNKNOWN,
        version=version,
        rollout=int(document["id"]) if complete else None,
    )
    history.commands.append(command)
    return command.outcome


async def run(house: Cluster, second: str, other: str, history: History) -> None:
    """While the slow replica is busy with `other`, `support` moves from one version to the next."""
    stopped = asyncio.Event()
    world = World(
        endpoints=[Endpoint(name=r.name, url=r.url) for r in house.replicas],
        headers=house.headers,
        aliases=(ALIAS,),
        history=history,
        stopped=stopped,
    )
    async with asyncio.TaskGroup() as tasks:
        for number in range(4):
            tasks.create_task(Caller(world, seed=number, pause=0.02).run())
        slowly = tasks.create_task(promote(house, OTHER, other, history))
        await asyncio.sleep(1.0)
        await promote(house, ALIAS, second, history)
        await asyncio.sleep(1.0)
        await slowly
        stopped.set()


def test_a_replica_that_loads_for_long_is_waited_for(tmp_path: Path) -> None:
    with cluster(tmp_path, replicas=2, aliases=(ALIAS, OTHER)) as house:
        quick, slow = house.replicas
        slow.stop()
        slow.environment = {**house.environment, "SIMULATED_LOAD_SECONDS": str(LOAD_SECONDS)}
        fleet, history = Fleet(replicas=house.replicas), History()
        first, second = house.publish_many(ALIAS, 2)
        other = house.publish(OTHER)
        fleet.bring_back(quick)
        asyncio.run(promote(house, ALIAS, first, history))
        fleet.bring_back(slow)
        asyncio.run(run(house, second, other, history))
        for alias in (ALIAS, OTHER):
            history.flips += house.flips(alias)
        violations = check(history, house.texts)
        print(summary(violations), *violations[:3], sep="\n")
        assert violations == []
        assert not [read.error for read in history.reads if read.error]
