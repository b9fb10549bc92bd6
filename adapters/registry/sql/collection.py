"""Deletes rows that nobody may name any more, after the retention."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from collections.abc import Set as AbstractSet
from typing import Any

from sqlalchemy import (
    ColumnElement,
    Connection,
    Select,
    and_,
    delete,
    exists,
    func,
    insert,
    or_,
    select,
    union,
    update,
)

from adapters.domain.audit import Action
from adapters.domain.jobs import JobStatus
from adapters.domain.names import Digest
from adapters.domain.principals import SYSTEM
from adapters.domain.routes import SETS_STABLE, RolloutState
from adapters.domain.versions import Version, VersionState
from adapters.registry.ports.collection import Retention
from adapters.registry.sql import rows, schema
from adapters.registry.sql.audit import append
from adapters.registry.sql.condemned import CONDEMNED_SECONDS
from adapters.registry.sql.datasets import kept_datasets
from adapters.registry.sql.expiry import forget_expired_files
from adapters.registry.sql.files import UNFINISHED, audit_forgotten
from adapters.registry.sql.named_versions import named_versions
from adapters.registry.sql.queries import SqlPort, all_of, bump_revision, lock_revision
from adapters.registry.sql.rollout_rows import MOVED, SET_STABLE
from adapters.registry.sql.uploads import expired_parts, kept_parts, uploads_without_parts
from adapters.registry.sql.version_rows import audit_version
from adapters.registry.transitions.rollouts import LEASE_MARGIN_SECONDS

_DAY = 86_400.0
REPLICA_DAYS = 7.0
"""How long a silent replica is still listed whose serving lease is surely over (`stop`)."""

QUOTA_DAYS = 40.0
"""What was used of a month's budget counts until the month is over."""
UPLOAD_DAYS = 1.0
"""How long an upload that is over is still there to be asked for."""
WRITER_DAYS = 2.0
"""No process repeats a batch for longer than this."""


class SqlCollection(SqlPort):
    """Implements `Collection`."""

    def collect(self, retention: Retention) -> Mapping[str, int]:
        """Marks versions as collected, deletes rows by the retention; counts by kind."""
        with self._database.write() as connection:
            lock_revision(connection)
            now = self._database.now(connection)
            collected = _collect_versions(connection, retention, now=now)
            expired = forget_expired_files(connection, now=now)
            counts = {"versions": len(collected), "expired_files": len(expired)}
            history = now - retention.event_days * _DAY
            for kind, statement in {
                "events": _told_by_finished_jobs(schema.job_events, history),
                "checkpoints": _told_by_finished_jobs(schema.job_checkpoints, history),
                "rollouts": _rollouts_beyond_history(history),
                "files": delete(schema.files).where(schema.files.c.deleted_at <= history),
                "upload_parts": expired_parts(now),
                "uploads": uploads_without_parts(now - UPLOAD_DAYS * _DAY),
                "replicas": _stopped_replicas(now=now),
                "acknowledgements": _failures_to_load_what_is_gone(),
                "evaluations": _scores_of_what_is_gone(history),
                "questions": _asked_of_adapters_that_are_gone(history),
                "quota_shares": delete(schema.quota_shares).where(
                    schema.quota_shares.c.seen_at <= now - QUOTA_DAYS * _DAY
                ),
                "usage_writers": delete(schema.usage_writers).where(
                    schema.usage_writers.c.seen_at <= now - WRITER_DAYS * _DAY
                ),
            }.items():
                counts[kind] = connection.execute(statement).rowcount
            for file in expired:
                audit_forgotten(connection, file, by=SYSTEM, at=now, reason="it has expired")
            _audit_collected(connection, collected, counts, at=now)
            return counts

    def roots(self) -> AbstractSet[Digest]:
        """Digests that a version, an engine, a file or a job may still need."""
        with self._database.read() as connection:
            return _roots(connection)

    def condemn(self, digests: AbstractSet[Digest]) -> AbstractSet[Digest]:
        """Those of `digests` that are no roots now and nobody else's to delete."""
        table = schema.condemned
        with self._database.write() as connection:
            # who publishes or adds a file shares this lock: it comes before, or finds the digest
            lock_revision(connection)
            now = self._database.now(connection)
            connection.execute(delete(table).where(table.c.at <= now - CONDEMNED_SECONDS))
            # two collectors with one digest: the slower would delete what was added since
            taken = set(connection.execute(select(table.c.digest)).scalars())
            unneeded = set(digests) - _roots(connection) - taken
            if unneeded:
                rows = [{"digest": digest, "at": now} for digest in sorted(unneeded)]
                connection.execute(insert(table), rows)
            return unneeded

    def clear(self, digests: AbstractSet[Digest]) -> None:
        """Their bytes are gone, or stay after all."""
        table = schema.condemned
        with self._database.write() as connection:
            connection.execute(delete(table).where(table.c.digest.in_(digests)))

    def clear_abandoned(self, *, keep: AbstractSet[Digest]) -> None:
        """Takes away the marks of collectors that have surely ended, but those of `keep`."""
        table = schema.condemned
        with self._database.write() as connection:
            old = table.c.at <= self._database.now(connection) - CONDEMNED_SECONDS
            marked = connection.execute(select(table.c.digest).where(old)).scalars()
            # marks are few; what is kept may be more than a statement has parameters
            abandoned = set(marked) - keep
            connection.execute(delete(table).where(old, table.c.digest.in_(abandoned)))


def _roots(connection: Connection) -> set[Digest]:
    versions, files, told = schema.versions.c, schema.files.c, schema.acknowledgements.c
    held = select(versions.digest).join(schema.acknowledgements, told.version_id == versions.id)
    query = union(
        select(versions.digest).where(versions.collected_at.is_(None)),
        held.where(told.error.is_(None)),
        # files of unfinished jobs are among them: such a file cannot be deleted
        select(files.digest).where(files.deleted_at.is_(None)),
        kept_parts(),
        kept_datasets(),
    )
    return {Digest(digest) for digest in connection.execute(query).scalars()}


# -- versions


def _collect_versions(
    connection: Connection, retention: Retention, *, now: float
) -> Sequence[Version]:
    """Those that are collected now, as they were."""
    versions = schema.versions
    old = versions.c.id.in_(_old_versions(retention, now=now))
    unnamed = versions.c.id.not_in(named_versions(connection))
    query = select(versions).where(versions.c.collected_at.is_(None), old, unnamed)
    found = all_of(connection, query.order_by(versions.c.id), rows.version_from)
    if found:
        values = {"collected_at": now, "revision": bump_revision(connection)}
        ids = [version.id for version in found]
        connection.execute(update(versions).where(versions.c.id.in_(ids)).values(values))
    return found


def _old_versions(retention: Retention, *, now: float) -> Select[Any]:
    """Ids of versions that no state keeps; `named_versions` says who keeps them nevertheless."""
    versions = schema.versions.c
    newer = schema.versions.alias()
    # how many retired versions of the adapter are newer: those are there to roll back to
    rank = (
        select(func.count())
        .where(
            newer.c.adapter == versions.adapter,
            newer.c.number > versions.number,
            newer.c.state == VersionState.RETIRED.value,
            newer.c.withdrawn_at.is_(None),
            newer.c.collected_at.is_(None),
        )
        .correlate(schema.versions)
        .scalar_subquery()
    )
    retired = and_(_is_state(VersionState.RETIRED), versions.withdrawn_at.is_(None))
    return select(versions.id).where(
        versions.collected_at.is_(None),
        or_(
            versions.withdrawn_at.is_not(None),
            and_(retired, rank >= retention.retired_versions),
            _made_before(VersionState.REJECTED, now - retention.rejected_days * _DAY),
            _made_before(VersionState.CANDIDATE, now - retention.candidate_days * _DAY),
        ),
    )


def _is_state(state: VersionState) -> ColumnElement[bool]:
    return schema.versions.c.state == state.value


def _made_before(state: VersionState, at: float) -> ColumnElement[bool]:
    return and_(_is_state(state), schema.versions.c.created_at <= at)


# -- rows


def _audit_collected(
    connection: Connection, versions: Sequence[Version], counts: Mapping[str, int], *, at: float
) -> None:
    """A round that found nothing is no change."""
    for version in versions:
        audit_version(connection, SYSTEM, Action.VERSION_COLLECTED, None, version, at=at)
    gone = {kind: count for kind, count in counts.items() if count}
    if gone:
        append(connection, SYSTEM, Action.ROWS_COLLECTED, "registry", at=at, unit=None, after=gone)


def _told_by_finished_jobs(table: Any, before: float) -> Any:
    jobs = schema.jobs.c
    finished = [status.value for status in JobStatus if status.finished]
    old = select(jobs.id).where(jobs.status.in_(finished), jobs.finished_at <= before)
    return delete(table).where(table.c.job_id.in_(old))


def _rollouts_beyond_history(before: float) -> Any:
    """Ended ones: all that failed, those whose target the route has moved to again since, and those
    that set no stable version, but for what began a canary or a shadow that is still there.

    What is left is one flip for each version that a route has ever served, which a rollback may
    look for.
    """
    rollouts = schema.rollouts.c
    later = schema.rollouts.alias()
    again = exists().where(
        later.c.alias == rollouts.alias,
        later.c.unit == rollouts.unit,
        later.c.target == rollouts.target,
        later.c.id > rollouts.id,
        later.c.action.in_(SETS_STABLE),
        later.c.state.in_([RolloutState.FLIPPED.value, RolloutState.COMPLETE.value]),
    )
    gone = exists().where(
        schema.versions.c.id == rollouts.target,
        schema.versions.c.collected_at.is_not(None),
    )
    failed = rollouts.state == RolloutState.FAILED.value
    ended = or_(failed, rollouts.state == RolloutState.COMPLETE.value)
    needless = or_(failed, ~SET_STABLE, and_(MOVED, or_(again, gone)))
    routes = schema.routes.c
    began = exists().where(
        or_(routes.canary_rollout == rollouts.id, routes.shadow_rollout == rollouts.id)
    )
    return delete(schema.rollouts).where(ended, rollouts.finished_at <= before, needless, ~began)


def _stopped_replicas(*, now: float) -> Any:
    """`stop` replicas that have been silent for long: their serving leases are surely over."""
    processes = schema.replica_processes.c
    heard = exists().where(
        processes.replica == schema.replicas.c.id,
        or_(
            processes.seen_at > now - REPLICA_DAYS * _DAY,
            processes.lease_until > now - LEASE_MARGIN_SECONDS,
        ),
    )
    return delete(schema.replicas).where(schema.replicas.c.on_loss == "stop", ~heard)


def _asked_of_adapters_that_are_gone(before: float) -> Any:
    """Membership is for an adapter's life: it ends with its last version, and a while later."""
    questions, versions, jobs = schema.dataset_questions.c, schema.versions.c, schema.jobs.c
    kept = exists().where(versions.adapter == questions.adapter, versions.collected_at.is_(None))
    asking = exists().where(jobs.adapter == questions.adapter, jobs.status.in_(UNFINISHED))
    return delete(schema.dataset_questions).where(questions.decided_at <= before, ~kept, ~asking)


def _scores_of_what_is_gone(before: float) -> Any:
    """Those of collected versions; the base's once the adapter has no other version."""
    table, versions = schema.evaluations.c, schema.versions.c
    gone = select(versions.id).where(versions.collected_at.is_not(None))
    needed = exists().where(versions.adapter == table.adapter, versions.collected_at.is_(None))
    of_base = and_(table.version_id.is_(None), table.created_at <= before, ~needed)
    return delete(schema.evaluations).where(or_(table.version_id.in_(gone), of_base))


def _failures_to_load_what_is_gone() -> Any:
    told = schema.acknowledgements.c
    versions = schema.versions.c
    gone = select(versions.id).where(versions.collected_at.is_not(None))
    return delete(schema.acknowledgements).where(told.error.is_not(None), told.version_id.in_(gone))
