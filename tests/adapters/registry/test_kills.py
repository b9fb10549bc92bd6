"""Several processes on one registry, and processes killed in the middle of a write."""

from __future__ import annotations

import multiprocessing
import random
import signal
import sqlite3
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from multiprocessing.connection import Connection, wait
from multiprocessing.context import ForkServerContext
from pathlib import Path
from typing import Any

import pytest

from adapters.registry import Registry, open_registry
from tests.adapters import registry_writers
from tests.adapters.registry.values import ALIAS, SUPPORT, a_job, promoted, published

KINDS = ("job", "version", "verdict", "succeeded", "generation")
"""What the writers tell of, in the order of one turn of theirs."""
PATIENCE_S = 60.0


@pytest.fixture(scope="module")
def processes() -> Iterator[ForkServerContext]:
    """Processes that have imported everything already and start in milliseconds."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload([registry_writers.__name__])
    yield context
    multiprocessing.forkserver._forkserver._stop()  # type: ignore[attr-defined]


@pytest.fixture
def address(tmp_path: Path) -> str:
    return f"sqlite:///{tmp_path / 'registry.sqlite3'}"


@contextmanager
def started(processes: ForkServerContext, target: Any, *arguments: Any) -> Iterator[Connection]:
    """A process to talk with; killed at the end, while what it has said can still be read."""
    ours, theirs = processes.Pipe()
    process = processes.Process(target=target, args=(*arguments, theirs), daemon=True)
    process.start()
    theirs.close()
    try:
        yield ours
    finally:
        process.kill()
        process.join()
        process.close()


def test_of_two_processes_one_begins_the_rollout_and_one_gets_the_job(
    processes: ForkServerContext, address: str
) -> None:
    registry = open_registry(address)
    promoted(registry, published(registry))
    published(registry)
    job = registry.add_job(a_job())
    with (
        started(processes, registry_writers.race, address, "one") as one,
        started(processes, registry_writers.race, address, "two") as two,
    ):
        assert (one.recv(), two.recv()) == ("ready", "ready")
        one.send("go")
        two.send("go")
        outcomes = [one.recv(), two.recv()]
    assert sorted(outcome[0] for outcome in outcomes) == ["rollout_in_progress", "won"]
    assert sorted(str(outcome[1]) for outcome in outcomes) == ["None", job.id]
    assert len(registry.snapshot().rollouts) == 1
    registry.close()


@pytest.mark.timeout(300)
def test_killed_writers_lose_nothing_that_was_acknowledged(
    processes: ForkServerContext, address: str
) -> None:
    chance = random.Random(11)
    said: list[tuple[str, Any]] = []
    for turn, kind in enumerate(KINDS * 2):
        write = registry_writers.write_for_ever
        with (
            started(processes, write, address, f"{turn}-one") as one,
            started(processes, write, address, f"{turn}-two") as two,
        ):
            assert one.recv() == two.recv() == ("ready", None)
            said += heard((one, two), kind, times=chance.randint(1, 3))
            time.sleep(chance.uniform(0.0, 0.02))
        said += [*rest_of(one), *rest_of(two)]
        check_all_of(said, address)
    assert {kind for kind, _ in said} == set(KINDS)


def heard(tellers: Sequence[Connection], kind: str, *, times: int) -> list[tuple[str, Any]]:
    """What the writers tell until `times` of a kind have come, however slow the disk is."""
    said: list[tuple[str, Any]] = []
    deadline = time.monotonic() + PATIENCE_S
    while sum(told == kind for told, _ in said) < times:
        left = deadline - time.monotonic()
        assert left > 0.0, f"{times} of {kind} did not come within {PATIENCE_S} s: {said}"
        ready = wait(tellers, left)
        said += [teller.recv() for teller in tellers if teller in ready]
    return said


def rest_of(told: Connection) -> list[tuple[str, Any]]:
    """What a killed process had said; a message that the kill tore off says nothing."""
    messages = []
    try:
        while True:
            messages.append(told.recv())
    except (EOFError, OSError):
        return messages


def check_all_of(said: list[tuple[str, Any]], address: str) -> None:
    with sqlite3.connect(address.removeprefix("sqlite:///")) as connection:
        assert connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
        assert connection.execute("PRAGMA foreign_key_check").fetchall() == []
    connection.close()
    registry = open_registry(address)
    snapshot = registry.snapshot()
    route = registry.route(ALIAS, unit=SUPPORT)
    for kind, what in said:
        if kind == "generation":
            assert route.generation >= what
        elif kind == "version":
            assert what in snapshot.versions
        elif kind == "verdict":
            assert snapshot.versions[what].gates
        else:
            assert registry.job(what, unit=None).status == kind or kind == "job"
    assert route.stable is None or snapshot.versions[route.stable].state == "live"
    finish_rollouts(registry)
    registry.close()


def finish_rollouts(registry: Registry) -> None:
    """What a service does when it comes back: no rollout of a dead process stays in the way."""
    for rollout in registry.snapshot().rollouts:
        registry.fail_rollout(rollout.id, "its process died", at=3.0)


def test_a_job_taken_over_and_over_publishes_once(
    processes: ForkServerContext, address: str
) -> None:
    registry = open_registry(address)
    job = registry.add_job(a_job())
    for _ in range(3):
        trainer = processes.Process(target=registry_writers.publish_and_die, args=(address,))
        trainer.start()
        trainer.join(30)
        assert trainer.exitcode == -signal.SIGKILL
    assert registry.job(job.id, unit=SUPPORT).attempts == 3
    assert len(registry.versions(unit=None, adapter=None, after=None, limit=9).items) == 1
    registry.close()
