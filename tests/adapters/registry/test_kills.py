"""Processes killed in the middle of a write: what was acknowledged is there and whole."""

from __future__ import annotations

import multiprocessing
import random
import signal
import sqlite3
import time
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from multiprocessing.connection import Connection, wait
from multiprocessing.context import ForkServerContext
from typing import Any

import pytest

from adapters.domain.audit import EMPTY, verify
from adapters.domain.jobs import JobStatus
from adapters.domain.principals import SYSTEM
from adapters.domain.versions import VersionState
from adapters.registry import Registry
from tests.adapters.registry import writers
from tests.adapters.registry.backends import Backend
from tests.adapters.registry.values import (
    ALIAS,
    SUPPORT,
    a_process,
    carry_out_all,
    joined,
    promote,
    published,
    queued,
)

KINDS = ("job", "version", "verdict", "succeeded", "generation")
"""What the writers tell of, in the order of one turn of theirs."""
PATIENCE_S = 60.0


@pytest.fixture(scope="module")
def processes() -> Iterator[ForkServerContext]:
    """Processes that have imported everything already and start in milliseconds."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload([writers.__name__])
    yield context
    multiprocessing.forkserver._forkserver._stop()  # type: ignore[attr-defined]


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


@pytest.mark.timeout(300)
def test_killed_writers_lose_nothing_that_was_acknowledged(
    processes: ForkServerContext, backend: Backend
) -> None:
    chance = random.Random(11)
    said: list[tuple[str, Any]] = []
    for turn, kind in enumerate(KINDS):
        write = writers.write_for_ever
        with (
            started(processes, write, backend, f"{turn}-one") as one,
            started(processes, write, backend, f"{turn}-two") as two,
        ):
            assert one.recv() == two.recv() == ("ready", None)
            said += heard((one, two), kind, times=chance.randint(1, 3))
            time.sleep(chance.uniform(0.0, 0.02))
        said += [*rest_of(one), *rest_of(two)]
        check_all_of(said, backend)
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


def check_all_of(said: list[tuple[str, Any]], backend: Backend) -> None:
    if backend.is_sqlite:
        check_file(backend)
    with closing(writers.opened(backend)) as registry:
        for kind, what in said:
            check_one(registry, kind, what)
        live = live_versions(registry)
        stable = registry.routes.route(ALIAS, SUPPORT).stable
        assert live == ({stable} if stable else set())
        finish_rollouts(registry)
        verdict = verify(registry.audit.parts(), anchors=[])
        assert verdict.intact, verdict


def check_file(backend: Backend) -> None:
    with closing(sqlite3.connect(backend.path)) as connection:
        assert connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
        assert connection.execute("PRAGMA foreign_key_check").fetchall() == []


def check_one(registry: Registry, kind: str, what: Any) -> None:
    if kind == "generation":
        assert registry.routes.route(ALIAS, SUPPORT).generation >= what
    elif kind == "version":
        assert registry.versions.by_id(what).id == what
    elif kind == "verdict":
        assert registry.versions.by_id(what).gates
    elif kind == "succeeded":
        assert registry.jobs.get(what, SYSTEM).status is JobStatus.SUCCEEDED
    else:
        assert registry.jobs.get(what, SYSTEM).id == what


def live_versions(registry: Registry) -> set[int]:
    page = registry.versions.list(SYSTEM, adapter=None, after=None, limit=10_000)
    return {version.id for version in page.items if version.state is VersionState.LIVE}


def finish_rollouts(registry: Registry) -> None:
    """What a service does when it comes back: no rollout of a dead process stays in the way."""
    carry_out_all(registry, joined(registry, a_process(incarnation="later")))
    assert registry.routes.changes(-1).rollouts == []


def test_a_job_taken_over_and_over_publishes_once(
    processes: ForkServerContext, backend: Backend
) -> None:
    with closing(writers.opened(backend)) as registry:
        job = queued(registry)
        for _ in range(3):
            trainer = processes.Process(target=writers.publish_and_die, args=(backend,))
            trainer.start()
            trainer.join(30)
            assert trainer.exitcode == -signal.SIGKILL
        assert registry.jobs.get(job.id, SYSTEM).attempts == 3
        page = registry.versions.list(SYSTEM, adapter=None, after=None, limit=9)
        assert len(page.items) == 1


def test_a_process_killed_in_a_transaction_holds_up_nobody(
    processes: ForkServerContext, backend: Backend
) -> None:
    """Its locks end with it, and so does what it had begun to write."""
    with started(processes, writers.lock_and_wait, backend) as locked:
        assert locked.recv() == "locked"
    with closing(writers.opened(backend)) as registry:
        assert registry.routes.revision() == 0
        assert promote(registry, published(registry)).id == 1


def test_a_process_killed_while_it_appends_leaves_an_intact_log(
    processes: ForkServerContext, backend: Backend
) -> None:
    with started(processes, writers.append_and_wait, backend) as appending:
        assert appending.recv() == "appended"
    with closing(writers.opened(backend)) as registry:
        assert registry.audit.head() == EMPTY
        assert promote(registry, published(registry)).id == 1
        assert verify(registry.audit.parts(), anchors=[]).intact
