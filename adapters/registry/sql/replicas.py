"""Replicas in the database: registration, heartbeats, observations, acknowledgements."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sqlalchemy import (
    ColumnElement,
    Connection,
    RowMapping,
    case,
    delete,
    exists,
    false,
    func,
    null,
    or_,
    select,
    update,
)

from adapters.domain.audit import Action
from adapters.domain.names import VersionId
from adapters.domain.principals import Principal
from adapters.errors import Conflict, NotFound, NotPermitted
from adapters.registry.ports.replicas import Acknowledgement, ProcessId, Registration, Replica
from adapters.registry.sql import schema
from adapters.registry.sql.audit import append
from adapters.registry.sql.queries import SqlPort, add_missing, put, share_revision
from adapters.registry.sql.replica_rows import lock_processes, replica_statuses

_NO_REPLICA = "no such replica"
_TOLD = 20
"""Of requests that were cleared at once, so many are named in the audit log."""


class SqlReplicas(SqlPort):
    """Implements `Replicas`. None of its commands bumps the revision."""

    def register(self, registration: Registration) -> None:
        """Adds the process; rows of the replica's earlier incarnations go. Idempotent."""
        process = registration.process
        values = {
            "id": process.replica,
            "incarnation": process.incarnation,
            "base_fingerprint": registration.base_fingerprint,
            "limits": dict(registration.limits),
            "on_loss": registration.on_loss,
        }
        with self._database.write() as connection:
            if not add_missing(connection, schema.replicas, values):
                before = _lock(connection, process.replica)
                if before is not None and before["incarnation"] != process.incarnation:
                    _forget_what_it_told(connection, process.replica)
                put(connection, schema.replicas, values)
            now = self._database.now(connection)
            # a process that registers again keeps what it has observed
            added = add_missing(
                connection, schema.replica_processes, _first_row(process, seen_at=now)
            )
            if not added:
                _come_again(connection, process, now=now)

    def heartbeat(self, process: ProcessId, *, ready: bool, lease_seconds: float) -> None:
        """Says that the process lives, and prolongs its serving lease.

        A lease that has ended is not prolonged: *complete* may have been said without its holder.
        Raises NotFound.
        """
        with self._database.write() as connection:
            now = self._database.now(connection)
            values = {"ready": ready, "seen_at": now, "lease_until": now + lease_seconds}
            _update_process(connection, process, values, ~_lease_ended(now))

    def observe(self, process: ProcessId, revision: int) -> int:
        """Records that the process routes by `revision`; the answer is the newest revision.

        The revision stays as it is until this is committed. Else a flip, and the word that it is
        complete, could come between the answer and its being recorded: the process would admit
        requests by the old route, and nobody would have waited for it.
        """
        observed = schema.replica_processes.c.observed
        with self._database.write() as connection:
            newest = share_revision(connection)
            behind = or_(observed.is_(None), observed < revision)
            later = case((behind, revision), else_=observed)
            _update_process(connection, process, {"observed": later})
            return newest

    def acknowledge(
        self, replica: str, incarnation: str, acknowledgements: Sequence[Acknowledgement]
    ) -> None:
        """Records what the engine has loaded or failed to load. Raises NotFound."""
        with self._database.write() as connection:
            _lock_incarnation(connection, replica, incarnation)
            for told in acknowledgements:
                values = {"replica": replica, "version_id": told.version_id, "error": told.error}
                put(connection, schema.acknowledgements, values)

    def unloaded(self, replica: str, incarnation: str, versions: Sequence[VersionId]) -> None:
        """The engine holds these no longer. Raises NotFound."""
        told = schema.acknowledgements
        with self._database.write() as connection:
            _lock_incarnation(connection, replica, incarnation)
            connection.execute(
                delete(told).where(told.c.replica == replica, told.c.version_id.in_(versions))
            )

    def leave(self, process: ProcessId) -> None:
        """A clean exit; unknown processes are fine. The replica goes with its last process."""
        table = schema.replica_processes
        with self._database.write() as connection:
            row = _lock(connection, process.replica)
            if row is None or row["incarnation"] != process.incarnation:
                return
            connection.execute(delete(table).where(_is(process)))
            others = exists().where(table.c.replica == process.replica)
            if not connection.execute(select(others)).scalar_one():
                _delete_replica(connection, process.replica)

    def retire(self, replica: str, *, by: Principal, reason: str | None = None) -> None:
        """An operator's word that a silent replica is gone.

        Raises NotFound, Conflict (`replica_reporting`) where it was heard lately.
        """
        if not by.sees_every_unit:
            raise NotFound(_NO_REPLICA)
        with self._database.write() as connection:
            if _lock(connection, replica) is None:
                raise NotFound(_NO_REPLICA)
            lock_processes(connection, schema.replica_processes.c.replica == replica)
            now = self._database.now(connection)
            statuses = replica_statuses(connection, now=now)
            (gone,) = (one.replica for one in statuses if one.replica.id == replica)
            if gone.reporting:
                raise Conflict(
                    f"replica {replica} was heard {gone.seconds_silent:.0f} s ago; stop it first",
                    code="replica_reporting",
                )
            _delete_replica(connection, replica)
            append(
                connection,
                by,
                Action.REPLICA_RETIRED,
                f"replica/{replica}",
                at=now,
                unit=None,
                before={"seconds_silent": gone.seconds_silent, "observed": gone.observed},
                reason=reason,
            )

    def note_cleared(
        self, machine: str, requests: Sequence[str], *, by: Principal, reason: str | None = None
    ) -> None:
        """Tells the audit log what a machine's quarantine holds no longer. Raises NotPermitted."""
        if not by.sees_every_unit:
            raise NotPermitted("the quarantine is the admin's")
        with self._database.write() as connection:
            append(
                connection,
                by,
                Action.QUARANTINE_CLEARED,
                f"quarantine/{machine}",
                at=self._database.now(connection),
                unit=None,
                before={"requests": len(requests), "first": list(requests[:_TOLD])},
                reason=reason,
            )

    def list(self) -> Sequence[Replica]:
        """All of them, by id; silent ones too."""
        with self._database.read() as connection:
            now = self._database.now(connection)
            return [one.replica for one in replica_statuses(connection, now=now)]


def _first_row(process: ProcessId, *, seen_at: float) -> dict[str, Any]:
    return {**vars(process), "ready": False, "seen_at": seen_at}


def _is(process: ProcessId) -> ColumnElement[bool]:
    """The process's row, as long as it is of this incarnation."""
    table = schema.replica_processes.c
    return (
        (table.replica == process.replica)
        & (table.number == process.number)
        & (table.incarnation == process.incarnation)
    )


def _lease_ended(now: float) -> ColumnElement[bool]:
    """Whether the process had promised to admit nothing any more."""
    table, replicas = schema.replica_processes.c, schema.replicas.c
    stops = exists().where(replicas.id == table.replica, replicas.on_loss == "stop")
    return func.coalesce(table.lease_until < now, false()) & stops


def _come_again(connection: Connection, process: ProcessId, *, now: float) -> None:
    """A process that registers a second time, as it must when its lease has ended."""
    table = schema.replica_processes
    until = case((_lease_ended(now), null()), else_=table.c.lease_until)
    values = {"seen_at": now, "lease_until": until}
    connection.execute(update(table).where(_is(process)).values(values))


def _update_process(
    connection: Connection, process: ProcessId, values: dict[str, Any], *only: ColumnElement[bool]
) -> None:
    statement = update(schema.replica_processes).where(_is(process), *only).values(values)
    if not connection.execute(statement).rowcount:
        raise _unknown(process.replica)


def _lock(connection: Connection, replica: str) -> RowMapping | None:
    table = schema.replicas
    query = select(table).where(table.c.id == replica).with_for_update()
    return connection.execute(query).mappings().one_or_none()


def _lock_incarnation(connection: Connection, replica: str, incarnation: str) -> None:
    row = _lock(connection, replica)
    if row is None or row["incarnation"] != incarnation:
        raise _unknown(replica)


def _unknown(replica: str) -> NotFound:
    return NotFound(
        f"replica {replica} was retired or replaced; it must register again", code="replica_unknown"
    )


def _forget_what_it_told(connection: Connection, replica: str) -> None:
    for table in (schema.replica_processes, schema.acknowledgements):
        connection.execute(delete(table).where(table.c.replica == replica))


def _delete_replica(connection: Connection, replica: str) -> None:
    """What it told goes with it, by the foreign keys."""
    connection.execute(delete(schema.replicas).where(schema.replicas.c.id == replica))
