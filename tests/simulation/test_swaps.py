"""Thousands of swaps in one process: what it takes of the machine does not grow with them.

New versions are published all the while, and what nobody may name any more is collected. `make
test` runs a tenth of what `make chaos` does; `SIMULATED_SWAPS` changes the size of a run.

What grows is what must. Every version keeps its row and its evidence for ever: that is the answer
to which data made it. The history of rollouts is kept for `Retention.event_days`; here for none, so
that it is seen to be collected.
"""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Sequence
from pathlib import Path

import httpx2
import pytest

from adapters.registry.open import open_registry
from adapters.registry.ports import Retention
from tests.simulation.callers import Caller, Endpoint, World
from tests.simulation.chaos import Fleet
from tests.simulation.checker import check, summary
from tests.simulation.cluster import Cluster, cluster
from tests.simulation.footprint import MIB, Footprint, look
from tests.simulation.harness import unexpected
from tests.simulation.history import Command, History, Outcome

SWAPS = int(os.environ.get("SIMULATED_SWAPS", "1000"))
ALIASES = tuple(f"unit-{number}" for number in range(16))
EACH = 4
"""Versions of an alias, promoted in turn: more than the engine has room for."""
CAPACITY = 40
LOOKS = 10
RETENTION = Retention(retired_versions=EACH, event_days=0.0)
KEPT_FOR_EVER = frozenset({"audit", "usage", "versions"})
"""Every version that there was, every decision, and what each version was used a day."""

pytestmark = [pytest.mark.slow, pytest.mark.timeout(2400)]


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


def collect(house: Cluster, history: History) -> Footprint:
    """Takes down what the registry remembers, collects, and looks at what is left."""
    settings = house.settings
    seen = {flip.id for flip in history.flips}
    for alias in ALIASES:
        history.flips += [flip for flip in house.flips(alias) if flip.id not in seen]
    registry = open_registry(settings.registry_url)
    registry.collection.collect(RETENTION)
    registry.close()
    return look(house.replicas[0].pid, settings.registry_url)


async def round_of(house: Cluster, times: int, history: History) -> Footprint:
    """New versions of every alias, so many swaps of each, and a collection."""
    versions = {a: await asyncio.to_thread(house.publish_many, a, EACH) for a in ALIASES}
    await asyncio.gather(*(swap(house, a, versions[a], times, history) for a in ALIASES))
    return await asyncio.to_thread(collect, house, history)


async def run(house: Cluster, history: History) -> list[Footprint]:
    """All swaps, with four callers; looks at the process ten times on the way."""
    (replica,) = house.replicas
    stopped = asyncio.Event()
    world = World(
        endpoints=[Endpoint(name=replica.name, url=replica.url)],
        headers=house.headers,
        aliases=ALIASES,
        history=history,
        stopped=stopped,
    )
    # every alias is live, and the caches are as full as they get, before the first look
    looks = [await round_of(house, EACH, history)]
    async with asyncio.TaskGroup() as callers:
        for number in range(4):
            callers.create_task(Caller(world, seed=number, pause=0.2).run())
        for _ in range(LOOKS):
            looks.append(await round_of(house, SWAPS // LOOKS // len(ALIASES), history))
        stopped.set()
    return looks


def test_what_a_replica_takes_does_not_grow_with_its_swaps(tmp_path: Path) -> None:
    with cluster(tmp_path, replicas=1, aliases=ALIASES, WARDROBE_MAX_CPU_LORAS=CAPACITY) as house:
        Fleet(replicas=house.replicas).bring_back(house.replicas[0])
        history, began = History(), time.monotonic()
        looks = asyncio.run(run(house, history))
        seconds = time.monotonic() - began
        swaps = len(history.commands)
        print(f"{swaps} swaps in {seconds:.0f} s: {swaps / seconds:.1f} a second")
        print(*looks, sep="\n")
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
        assert set(grown) <= KEPT_FOR_EVER
