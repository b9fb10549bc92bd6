"""Several processes on one registry, and processes killed in the middle of a write."""

from __future__ import annotations

import json
import random
import signal
import sqlite3
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from adapters.names import JobId, Unit
from adapters.registry import Registry, open_registry
from tests.contract.values import ALIAS, SUPPORT, a_job, promoted, published

WRITES_FOR_EVER = """
import itertools, json, sys
from adapters.jobs import JobStatus
from adapters.registry import open_registry
from tests.contract.values import ALIAS, SUPPORT, a_build, a_job

registry = open_registry(sys.argv[1])

def tell(*words):
    print(json.dumps(words), flush=True)

tell("ready")
for number in itertools.count():
    job = registry.add_job(a_job(), idempotency_key=f"{sys.argv[2]}-{number}")
    tell("job", job.id)
    job = registry.claim_job(owner=sys.argv[2], now=1e9, lease_seconds=-1.0)
    registry.add_event(job.id, at=1.0, level="info", type="message", message="x" * 2000)
    version = registry.publish_version(a_build(), job_id=job.id, fence=job.lease.fence, at=1.0)
    tell("version", version.id)
    registry.move_job(job.id, JobStatus.SUCCEEDED, fence=job.lease.fence)
    tell("succeeded", job.id)
    rollout = registry.begin_rollout(
        ALIAS, version.id, unit=SUPPORT, action="promote", actor="k",
        expected_generation=None, at=1.0,
    )
    route = registry.complete_rollout(rollout.id, at=2.0)
    tell("generation", route.generation)
"""

RACES = """
import json, sys, time
from adapters.errors import WardrobeError
from adapters.registry import open_registry
from tests.contract.values import ALIAS, SUPPORT

registry = open_registry(sys.argv[1])
versions = registry.versions(unit=None, adapter=None, after=None, limit=9).items
print("ready", flush=True)
sys.stdin.readline()
outcomes = []
try:
    registry.begin_rollout(
        ALIAS, versions[int(sys.argv[2]) % len(versions)].id, unit=SUPPORT, action="promote",
        actor=sys.argv[2], expected_generation=1, at=1.0,
    )
    outcomes.append("won")
except WardrobeError as error:
    outcomes.append(error.reason)
job = registry.claim_job(owner=sys.argv[2], now=10.0, lease_seconds=30.0)
outcomes.append(job.id if job else None)
print(json.dumps(outcomes))
"""


def start(script: str, *arguments: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", script, *arguments],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )


@pytest.fixture
def address(tmp_path: Path) -> str:
    return f"sqlite:///{tmp_path / 'registry.sqlite3'}"


def read_lines(process: subprocess.Popen[str]) -> list[list[Any]]:
    """What a killed process said; a line that the kill tore off says nothing."""
    assert process.stdout is not None
    text = process.stdout.read()
    return [json.loads(line) for line in text.splitlines(keepends=True) if line.endswith("\n")]


def test_of_two_processes_one_begins_the_rollout_and_one_gets_the_job(address: str) -> None:
    registry = open_registry(address)
    promoted(registry, published(registry))
    published(registry)
    published(registry)
    job = registry.add_job(a_job())
    racers = [start(RACES, address, str(number)) for number in range(2)]
    for racer in racers:
        assert racer.stdout is not None
        assert racer.stdout.readline() == "ready\n"
    outcomes = []
    for racer in racers:
        assert racer.stdin is not None
        racer.stdin.write("go\n")
        racer.stdin.flush()
    for racer in racers:
        outcomes.append(json.loads(racer.communicate(timeout=30)[0]))
    assert sorted(outcome[0] for outcome in outcomes) == ["rollout_in_progress", "won"]
    assert sorted(str(outcome[1]) for outcome in outcomes) == ["None", job.id]
    assert len(registry.snapshot().rollouts) == 1
    registry.close()


@pytest.mark.timeout(90)
def test_killed_writers_lose_nothing_that_was_acknowledged(address: str) -> None:
    chance = random.Random(11)
    said: list[list[Any]] = []
    for round_number in range(10):
        writers = [start(WRITES_FOR_EVER, address, f"{round_number}-{n}") for n in range(2)]
        for writer in writers:
            assert writer.stdout is not None
            assert writer.stdout.readline() == '["ready"]\n'
        time.sleep(chance.uniform(0.02, 0.25))
        for writer in writers:
            writer.send_signal(signal.SIGKILL)
        for writer in writers:
            said += read_lines(writer)
            writer.communicate()
        check_everything_said(address, said)
    assert {words[0] for words in said} == {"job", "version", "succeeded", "generation"}


def check_everything_said(address: str, said: list[list[Any]]) -> None:
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
        else:
            assert registry.job(what, unit=None).status == kind or kind == "job"
    assert route.stable is None or snapshot.versions[route.stable].state == "live"
    finish_rollouts(registry)
    registry.close()


def finish_rollouts(registry: Registry) -> None:
    """What a service does when it comes back: no rollout of a dead process stays in the way."""
    for rollout in registry.snapshot().rollouts:
        registry.fail_rollout(rollout.id, "its process died", at=3.0)


def test_a_job_taken_over_and_over_publishes_once(address: str) -> None:
    registry = open_registry(address)
    job = registry.add_job(a_job())
    script = (
        "import sys; from adapters.registry import open_registry\n"
        "from tests.contract.values import a_build\n"
        "registry = open_registry(sys.argv[1])\n"
        "job = registry.claim_job(owner='t', now=1e9, lease_seconds=-1.0)\n"
        "registry.publish_version(a_build(), job_id=job.id, fence=job.lease.fence, at=1.0)\n"
        "import os, signal; os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    for _ in range(3):
        process = start(script, address)
        process.communicate(timeout=30)
        assert process.returncode == -signal.SIGKILL
    assert registry.job(JobId(job.id), unit=Unit("support")).attempts == 3
    assert len(registry.versions(unit=None, adapter=None, after=None, limit=9).items) == 1
    registry.close()
