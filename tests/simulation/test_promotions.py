"""Hundreds of promotions and rollbacks under callers that never stop, while everything fails.

`make test` runs a small version of each; `make chaos` runs 500 commands. `SIMULATED_COMMANDS` and
`SIMULATED_SEED` change the size of a run and repeat one; the history of a failed run is kept beside
its logs.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx2
import pytest

from tests.servers.postgres import running_postgres
from tests.simulation.bucket import harmed_bucket
from tests.simulation.chaos import Chaos, FaultKind, Fleet, Mix, schedule
from tests.simulation.checker import by_itself, by_replica, check, summary
from tests.simulation.cluster import Cluster, cluster
from tests.simulation.harness import Plan, Report, drive, unexpected
from tests.simulation.history import Outcome

ALIASES = ("support", "sales", "hr", "legal", "travel", "it")
COMMANDS = int(os.environ.get("SIMULATED_COMMANDS", "0"))
"""0: each test's own number, small enough for every run of the suite."""
SEED = int(os.environ.get("SIMULATED_SEED", "20"))
DEATHS = {FaultKind.KILL: 5, FaultKind.TERMINATE: 2, FaultKind.PAUSE: 2}
OUTAGES = {FaultKind.RESTART_DATABASE: 2, FaultKind.KILL_DATABASE: 1, FaultKind.HARM_STORAGE: 4}

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1800 if COMMANDS else 400)]


def told(report: Report, house: Cluster) -> dict[str, int]:
    """Prints the run; the answer is what is wrong with it, by kind."""
    alone = all(replica.api_processes == 1 for replica in house.replicas)
    violations = check(report.history, house.texts, scope=by_replica if alone else by_itself)
    print(f"seed {SEED}", *report.lines(violations), sep="\n")
    if violations:
        report.history.write(house.folder / "history.json")
        print("\n".join(f"{v.kind} {v.alias}: {v.why}: {v.entry}" for v in violations[:20]))
    return summary(violations)


def check_run(report: Report, house: Cluster, commands: int) -> None:
    """Nothing is stale, mixed or lost, answers failed as they may, and most commands completed."""
    assert told(report, house) == {}
    assert unexpected(report.history, faults=True) == {}
    complete = sum(c.outcome is Outcome.COMPLETE for c in report.history.commands)
    assert complete > commands // 2


def test_promotions_under_callers_with_one_replica(tmp_path: Path) -> None:
    commands = COMMANDS // 5 or 20
    with cluster(tmp_path, replicas=1, aliases=ALIASES, WARDROBE_MAX_CPU_LORAS=16) as house:
        fleet = Fleet(replicas=house.replicas)
        fleet.bring_back(house.replicas[0])
        plan = Plan(seed=SEED, commands=commands, aliases=ALIASES, rollbacks=0.0)
        report = drive(house, plan, [], fleet)
        assert told(report, house) == {}
        assert unexpected(report.history, faults=False) == {}


def test_promotions_on_one_machine_while_replicas_die_and_come_back(tmp_path: Path) -> None:
    """One state folder, SQLite and a folder of artifacts."""
    commands = COMMANDS or 40
    with cluster(tmp_path, replicas=3, aliases=ALIASES, WARDROBE_MAX_CPU_LORAS=16) as house:
        fleet = Fleet(replicas=house.replicas)
        for replica in house.replicas:
            fleet.bring_back(replica)
        plan = Plan(seed=SEED, commands=commands, aliases=ALIASES)
        faults = schedule(SEED, Mix(weights=DEATHS), replicas=len(house.replicas))
        report = drive(house, plan, [(Chaos(fleet=fleet), faults)], fleet)
        check_run(report, house, commands)


@contextmanager
def replicas_apart(
    folder: Path, patch: pytest.MonkeyPatch, *, api_processes: int
) -> Iterator[tuple[Cluster, Chaos]]:
    """Three replicas that share PostgreSQL and a bucket and nothing else, and what harms those.

    All three are started at once, with one brought admin key, on an empty database.
    """
    with running_postgres() as postgres, harmed_bucket() as bucket:
        for name, value in bucket.server.environment().items():
            patch.setenv(name, value)  # for whoever publishes
        shared = {
            "WARDROBE_DATABASE_URL": postgres.new_database(),
            "WARDROBE_ARTIFACTS": bucket.url,
            "WARDROBE_PEPPER": "the same to every replica, and long enough",
            "WARDROBE_MAX_CPU_LORAS": "16",
            **bucket.environment,
        }
        with cluster(
            folder, replicas=3, aliases=ALIASES, api_processes=api_processes, apart=True, **shared
        ) as house:
            fleet = Fleet(replicas=house.replicas)
            for replica in house.replicas:
                fleet.bring_back(replica)
            yield house, Chaos(fleet=fleet, database=postgres, storage=bucket)


def test_three_replicas_start_at_once_with_one_brought_key_on_an_empty_database(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with replicas_apart(tmp_path, monkeypatch, api_processes=1) as (house, outages):
        assert outages.fleet.deaths == 0, house.replicas[0].tail()
        version = house.publish("support")
        for replica in house.replicas:
            answer = httpx2.post(
                f"{replica.url}/v1/adapters/support/promote",
                json={"version": version},
                headers=house.headers,
                timeout=60,
            )
            assert (answer.status_code, answer.json()["state"]) == (200, "complete"), answer.text
        assert house.answers("support") == [version] * 3


@pytest.mark.parametrize(("api_processes", "few"), [(1, 100), (2, 30)])
def test_promotions_while_replicas_database_and_storage_fail(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, api_processes: int, few: int
) -> None:
    commands = COMMANDS or few
    with replicas_apart(tmp_path, monkeypatch, api_processes=api_processes) as (house, outages):
        plan = Plan(seed=SEED, commands=commands, aliases=ALIASES, operators=6)
        deaths = Chaos(fleet=outages.fleet)
        report = drive(
            house,
            plan,
            [
                (deaths, schedule(SEED, Mix(weights=DEATHS), replicas=3)),
                (outages, schedule(SEED + 1, Mix(weights=OUTAGES), replicas=3)),
            ],
            outages.fleet,
        )
        check_run(report, house, commands)
        assert {fault.kind for fault in outages.mended} >= {FaultKind.RESTART_DATABASE}
