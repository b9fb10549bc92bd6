"""Ten thousand swaps in one process: what it takes of the machine does not grow with them.

`SIMULATED_SWAPS` changes the size of the run.
"""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Sequence
from pathlib import Path

import httpx2
import pytest

from tests.simulation.callers import Caller, Endpoint, World
from tests.simulation.chaos import Fleet
from tests.simulation.checker import check, summary
from tests.simulation.cluster import Cluster, cluster
from tests.simulation.footprint import MIB, Footprint, look
from tests.simulation.harness import unexpected
from tests.simulation.history import Command, History, Outcome

SWAPS = int(os.environ.get("SIMULATED_SWAPS", "10000"))
ALIASES = tuple(f"unit-{number}" for number in range(16))
EACH = 4
"""Versions of an alias, promoted in turn: more than the engine has room for."""
CAPACITY = 40
LOOKS = 10
HISTORY_TABLES = frozenset({"rollouts"})
"""Grow with what was done, until their retention ends; everything else stays as it is."""

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1200)]


async def swap(
    house: Cluster, alias: str, versions: Sequence[str], times: int, kept: History
) -> None:
    """One alias's share of the swaps, one after another."""
    url = f"{house.replicas[0].url}/v1/adapters/{alias}/promote"
    async with httpx2.AsyncClient(headers=house.headers, timeout=300) as client:
        for turn in range(times):
            version, started = versions[turn % len(versions)], time.monotonic()
            answer = await client.post(url, json={"version": version, "timeout": 120})
            assert answer.status_code == 200, answer.text
            document = answer.json()
            assert document["state"] == "complete"
            kept.commands.append(
                Command(
                    started=started,
                    ended=time.monotonic(),
                    replica=house.replicas[0].name,
                    alias=alias,
                    action="promote",
                    outcome=Outcome.COMPLETE,
                    version=version,
                    rollout=int(document["id"]),
                )
            )


async def run(house: Cluster, history: History) -> list[Footprint]:
    """All swaps, with four callers; looks at the process ten times on the way."""
    (replica,) = house.replicas
    versions = {alias: house.publish_many(alias, EACH) for alias in ALIASES}
    url = house.settings.state_folder.database_url
    stopped = asyncio.Event()
    world = World(
        endpoints=[Endpoint(name=replica.name, url=replica.url)],
        headers=house.headers,
        aliases=ALIASES,
        history=history,
        stopped=stopped,
    )
    # every alias is live, and the caches are as full as they get, before the first look
    await asyncio.gather(*(swap(house, a, versions[a], EACH, history) for a in ALIASES))
    looks = [look(replica.pid, url)]
    async with asyncio.TaskGroup() as callers:
        for number in range(4):
            callers.create_task(Caller(world, seed=number, pause=0.05).run())
        for _ in range(LOOKS):
            share = SWAPS // LOOKS // len(ALIASES)
            await asyncio.gather(*(swap(house, a, versions[a], share, history) for a in ALIASES))
            looks.append(look(replica.pid, url))
        stopped.set()
    return looks


def test_what_a_replica_takes_does_not_grow_with_its_swaps(tmp_path: Path) -> None:
    with cluster(tmp_path, replicas=1, aliases=ALIASES, WARDROBE_MAX_CPU_LORAS=CAPACITY) as house:
        Fleet(replicas=house.replicas).bring_back(house.replicas[0])
        history, began = History(), time.monotonic()
        looks = asyncio.run(run(house, history))
        print(f"{len(history.commands)} swaps in {time.monotonic() - began:.0f} s")
        print(*looks, sep="\n")
        for alias in ALIASES:
            history.flips += house.flips(alias)
        violations = check(history, house.texts)
        print(summary(violations), *violations[:5], sep="\n")
        assert violations == []
        assert unexpected(history, faults=False) == {}
        settled, last = looks[2], looks[-1]
        assert last.memory - settled.memory < max(16 * MIB, 0.1 * settled.memory)
        assert last.descriptors - settled.descriptors < 10
        assert last.threads - settled.threads < 10
        grown = {
            table: last.rows[table] - settled.rows.get(table, 0)
            for table in last.rows
            if last.rows[table] - settled.rows.get(table, 0) > len(ALIASES)
        }
        assert set(grown) <= HISTORY_TABLES
