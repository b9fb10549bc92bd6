"""What the killed and racing processes of `test_registry_kills` do; started by a fork server."""

from __future__ import annotations

import itertools
import os
import signal
import time
from multiprocessing.connection import Connection
from typing import Any

from adapters.domain.jobs import JobStatus
from adapters.errors import Conflict, WardrobeError
from adapters.registry import Registry, open_registry
from tests.adapters.registry.values import ALIAS, SUPPORT, a_build, a_gate, a_job, fence_of

HOUR = 3600.0


def write_for_ever(address: str, owner: str, told: Connection) -> None:
    """Everything a job does to the registry, again and again; tells of what was acknowledged."""
    registry = open_registry(address)
    told.send(("ready", None))
    for number in itertools.count():
        key = f"{owner}-{number}"
        told.send(("job", registry.add_job(a_job(), idempotency_key=key).id))
        job = registry.claim_job(owner=owner, now=time.time(), lease_seconds=HOUR)
        if job is None:
            continue
        fence = fence_of(job)
        registry.add_event(job.id, at=1.0, level="info", type="message", message="x" * 2000)
        version = registry.publish_version(a_build(), job_id=job.id, fence=fence, at=1.0)
        told.send(("version", version.id))
        registry.record_gates(version.id, [a_gate()], fence=fence, evidence={})
        told.send(("verdict", version.id))
        registry.move_job(job.id, JobStatus.SUCCEEDED, fence=fence)
        told.send(("succeeded", job.id))
        try:
            rollout_id = begin(registry, version.id, owner, None)
        except Conflict as error:
            if error.reason != "rollout_in_progress":
                raise
            continue
        told.send(("generation", registry.complete_rollout(rollout_id, at=2.0).generation))


def race(address: str, owner: str, told: Connection) -> None:
    """Waits for a word, then begins a rollout and claims a job; tells how that went."""
    registry = open_registry(address)
    newest = registry.versions(unit=None, adapter=None, after=None, limit=1).items[0]
    told.send("ready")
    told.recv()
    outcome: list[Any] = []
    try:
        begin(registry, newest.id, owner, 1)
        outcome.append("won")
    except WardrobeError as error:
        outcome.append(error.reason)
    job = registry.claim_job(owner=owner, now=time.time(), lease_seconds=HOUR)
    told.send([*outcome, job.id if job else None])


def publish_and_die(address: str) -> None:
    """A trainer that takes over a deserted job, publishes, and is killed before it says so."""
    registry = open_registry(address)
    job = registry.claim_job(owner="trainer", now=time.time() + HOUR, lease_seconds=-HOUR)
    assert job is not None
    registry.publish_version(a_build(), job_id=job.id, fence=fence_of(job), at=1.0)
    os.kill(os.getpid(), signal.SIGKILL)


def begin(registry: Registry, version: Any, actor: str, expected: int | None) -> int:
    """The new rollout's id."""
    return registry.begin_rollout(
        ALIAS,
        version,
        unit=SUPPORT,
        action="promote",
        actor=actor,
        expected_generation=expected,
        at=1.0,
    ).id
