"""What the killed processes of `test_kills` do; started by a fork server."""

from __future__ import annotations

import itertools
import os
import signal
from multiprocessing.connection import Connection

from adapters.domain.audit import Action
from adapters.domain.jobs import JobStatus
from adapters.domain.routes import RolloutState
from adapters.errors import Conflict
from adapters.registry import Registry
from adapters.registry.open import open_registry
from adapters.registry.sql.audit import append
from adapters.registry.sql.database import Database
from adapters.registry.sql.queries import bump_revision, lock_revision
from tests.adapters.registry.backends import Backend
from tests.adapters.registry.values import (
    OWNER,
    a_build,
    a_gate,
    a_job,
    a_process,
    fence_of,
    joined,
    load,
    promote,
)

HOUR = 3600.0


def opened(backend: Backend) -> Registry:
    return open_registry(backend.url, journal=backend.journal)


def write_for_ever(backend: Backend, owner: str, told: Connection) -> None:
    """Everything a job does to the registry, again and again; tells of what was acknowledged."""
    registry = opened(backend)
    # both writers answer for one replica: a killed one's rows hold up nothing
    process = joined(registry, a_process(number=int(owner.endswith("two"))), observed=False)
    told.send(("ready", None))
    for number in itertools.count():
        asked = a_job(registry)
        key = f"{owner}-{number}"
        told.send(("job", registry.jobs.create(asked, OWNER, idempotency_key=key).id))
        registry.jobs.accept(asked.id, error=None)
        job = registry.jobs.claim(owner=owner, lease_seconds=HOUR)
        if job is None:
            continue
        fence = fence_of(job)
        registry.jobs.say(job.id, "x" * 2000)
        version = registry.versions.publish(a_build(), job_id=job.id, fence=fence)
        told.send(("version", version.id))
        registry.versions.record_gates(version.id, [a_gate()], fence=fence, evidence={})
        told.send(("verdict", version.id))
        registry.jobs.finish(job.id, JobStatus.SUCCEEDED, fence=fence)
        told.send(("succeeded", job.id))
        try:
            promote(registry, version)
        except Conflict as error:
            if error.reason != "rollout_in_progress":
                raise
        for rollout in registry.routes.changes(-1).rollouts:
            load(registry, process, rollout.target)
        for rollout in registry.rollouts.advance():
            if rollout.state is RolloutState.FLIPPED:
                told.send(("generation", rollout.generation + 1))
        # the other writer goes on meanwhile: this one may be behind at once
        registry.replicas.observe(process, registry.routes.revision())


def publish_and_die(backend: Backend) -> None:
    """A trainer that takes over a deserted job, publishes, and is killed before it says so."""
    registry = opened(backend)
    job = registry.jobs.claim(owner="trainer", lease_seconds=-HOUR)
    assert job is not None
    registry.versions.publish(a_build(), job_id=job.id, fence=fence_of(job))
    os.kill(os.getpid(), signal.SIGKILL)


def append_and_wait(backend: Backend, told: Connection) -> None:
    """Begins a change that is audited, and never ends it."""
    database = Database(backend.url, journal=backend.journal)
    with database.write() as connection:
        lock_revision(connection)
        append(connection, OWNER, Action.KEYS_RESET, "keys", at=1.0, unit=None)
        told.send("appended")
        told.recv()


def lock_and_wait(backend: Backend, told: Connection) -> None:
    """Begins a change of what is routed by, and never ends it."""
    database = Database(backend.url, journal=backend.journal)
    with database.write() as connection:
        lock_revision(connection)
        bump_revision(connection)
        told.send("locked")
        told.recv()
