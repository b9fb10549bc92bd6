"""What replicas read: the revision, and what has changed since one."""

from __future__ import annotations

from contextlib import closing
from typing import Any

from sqlalchemy import insert
from sqlalchemy.event import listen

from adapters.domain.jobs import StopRequest
from adapters.domain.names import Alias
from adapters.domain.principals import SYSTEM
from adapters.registry import Registry
from adapters.registry.ports import Changes
from adapters.registry.sql import rows, schema
from adapters.registry.sql.database import Database
from adapters.registry.sql.routes import SqlRoutes
from adapters.registry.transitions import versions as transitions
from tests.adapters.registry.backends import Backend
from tests.adapters.registry.values import (
    ADMIN,
    ALIASES,
    OWNER,
    a_build,
    a_gate,
    a_key,
    acknowledge,
    added_file,
    claimed,
    fence_of,
    joined,
    judged,
    load,
    observe,
    promote,
    promoted,
    published,
    queued,
    trained,
)


def since(registry: Registry, revision: int) -> Changes:
    found = registry.routes.changes(revision)
    assert found.revision == registry.routes.revision()
    return found


def is_empty(found: Changes) -> bool:
    return not (found.routes or found.versions or found.keys or found.rollouts)


def test_an_empty_registry_has_nothing_to_route_by(registry: Registry) -> None:
    found = since(registry, -1)
    assert found.revision == 0
    assert is_empty(found)


def test_the_first_read_shows_routes_versions_keys_and_open_rollouts(registry: Registry) -> None:
    keys = registry.keys.add([a_key()])
    first, second = published(registry), published(registry)
    route = promoted(registry, first)
    rollout = promote(registry, second, expected=1)
    found = since(registry, -1)
    assert found.routes == [route]
    assert found.versions == [first.served, second.served]
    assert found.keys == keys
    assert found.rollouts == [rollout]


def test_a_later_read_shows_what_changed_and_nothing_else(registry: Registry) -> None:
    registry.keys.add([a_key()])
    promoted(registry, published(registry))
    before = registry.routes.revision()
    assert is_empty(since(registry, before))
    version = published(registry)
    (key,) = registry.keys.add([a_key("key_2")])
    found = since(registry, before)
    assert (found.routes, found.versions, found.keys) == ([], [version.served], [key])


def test_who_has_seen_more_than_there_is_reads_everything(registry: Registry) -> None:
    """The registry was restored from a backup."""
    version = published(registry)
    assert since(registry, 7).versions == [version.served]


def test_what_is_to_be_forgotten_is_told_to_those_who_have_it(registry: Registry) -> None:
    registry.keys.add([a_key()])
    withdrawn, kept = published(registry), published(registry)
    before = registry.routes.revision()
    revoked = registry.keys.revoke("key_1", by=ADMIN)
    registry.versions.retire(withdrawn.id, OWNER, aliases=ALIASES)
    found = since(registry, before)
    assert found.keys == [revoked]
    assert [(version.id, version.servable) for version in found.versions] == [(withdrawn.id, False)]
    assert since(registry, -1).versions == [kept.served]
    assert since(registry, -1).keys == []


def test_a_rejected_version_is_forgotten(registry: Registry) -> None:
    judged(registry, a_gate(passed=False))
    assert since(registry, -1).versions == []
    (told,) = since(registry, 1).versions
    assert not told.servable


def test_evidence_and_passed_gates_change_nothing_that_is_routed_by(registry: Registry) -> None:
    job, version = trained(registry)
    revision = registry.routes.revision()
    registry.versions.record_gates(
        version.id, [a_gate()], fence=fence_of(job), evidence={"f1": 0.75}
    )
    assert registry.routes.revision() == revision


def test_every_step_of_a_rollout_raises_the_revision(registry: Registry) -> None:
    version, process = published(registry), joined(registry)
    seen = [registry.routes.revision()]

    def grew() -> bool:
        seen.append(registry.routes.revision())
        return seen[-1] > seen[-2]

    promote(registry, version)
    assert grew()
    load(registry, process, version)
    assert not grew()
    (flipped,) = registry.rollouts.advance()
    assert grew()
    assert flipped.flip_revision == seen[-1]
    observe(registry, process)
    assert not grew()
    registry.rollouts.advance()
    assert grew()
    assert registry.rollouts.advance() == []
    assert not grew()


def test_a_failed_rollout_raises_the_revision(registry: Registry) -> None:
    version, process = published(registry), joined(registry)
    promote(registry, version)
    acknowledge(registry, process, version, error="torn")
    before = registry.routes.revision()
    registry.rollouts.advance()
    assert registry.routes.revision() > before
    assert since(registry, -1).rollouts == []


def test_what_nobody_routes_by_leaves_the_revision_alone(registry: Registry) -> None:
    registry.keys.add([])
    process = joined(registry)
    registry.replicas.leave(process)
    added_file(registry)
    job = queued(registry)
    claimed(registry)
    registry.jobs.request_stop(job.id, StopRequest.CANCEL, SYSTEM)
    assert registry.routes.revision() == 0


def test_a_job_publishes_once_and_raises_the_revision_once(registry: Registry) -> None:
    job, version = trained(registry)
    before = registry.routes.revision()
    again = registry.versions.publish(a_build(), job_id=job.id, fence=fence_of(job))
    assert again == version
    assert registry.routes.revision() == before


def test_flips_that_a_silent_replica_has_not_seen_do_not_make_every_read_longer(
    registry: Registry,
) -> None:
    first, second = published(registry), published(registry)
    dead = joined(registry)
    load(registry, dead, first, second)
    newest = None
    for turn in range(6):
        newest = promote(registry, (first, second)[turn % 2])
        registry.rollouts.advance()
    assert newest is not None
    other = promote(registry, first, alias=Alias("triage"))
    assert [rollout.id for rollout in since(registry, -1).rollouts] == [newest.id, other.id]


def test_a_revision_costs_what_changed_and_not_every_version_ever_made(
    registry: Registry, backend: Backend
) -> None:
    """Without a bound on the rows, planners read the whole table."""
    newest = published(registry)
    with closing(Database(backend.url, journal=backend.journal)) as database:
        with database.write() as connection:
            connection.execute(insert(schema.versions), [an_old_version(n) for n in range(3000)])
        read: list[tuple[str, Any]] = []
        listen(
            database._readers,
            "before_cursor_execute",
            lambda _c, _cur, statement, parameters, _ctx, _many: read.append(
                (statement, parameters)
            ),
        )
        found = SqlRoutes(database).changes(0)
        assert found.versions == [newest.served]
        (looked,) = [one for one in read if "FROM versions" in one[0]]
        explain = "EXPLAIN QUERY PLAN " if backend.is_sqlite else "EXPLAIN "
        with database.read() as connection:
            plan = connection.exec_driver_sql(explain + looked[0], looked[1]).all()
    assert "ix_versions_revision" in str(plan)


def an_old_version(number: int) -> dict[str, Any]:
    values = rows.version_values(transitions.number(a_build(), newest=None, job_id=None, at=1.0))
    more = {"adapter": "old", "number": number, "revision": 0, "evidence": {"scores": [0.5] * 200}}
    return values | more
