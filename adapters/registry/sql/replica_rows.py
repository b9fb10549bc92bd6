"""Reads replicas and their processes from the database, and locks their rows."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from typing import Any

from sqlalchemy import ColumnElement, Connection, RowMapping, select

from adapters.domain.names import VersionId
from adapters.registry.ports.replicas import Replica
from adapters.registry.sql import schema
from adapters.registry.transitions.rollouts import Process, ReplicaStatus


def replica_statuses(connection: Connection, *, now: float) -> Sequence[ReplicaStatus]:
    """Every replica with its processes, by id."""
    processes = _by_replica(connection, schema.replica_processes)
    told = _by_replica(connection, schema.acknowledgements)
    query = select(schema.replicas).order_by(schema.replicas.c.id)
    return [
        _status(row, processes[row["id"]], told[row["id"]], now=now)
        for row in connection.execute(query).mappings()
    ]


def lock_processes(connection: Connection, *conditions: ColumnElement[bool]) -> None:
    """Waits for heartbeats and observations under way, and holds up those to come.

    Who decides that a process is silent, or that its lease is over, must not decide it beside the
    heartbeat that says otherwise.
    """
    table = schema.replica_processes
    query = select(table.c.number).where(*conditions).order_by(table.c.replica, table.c.number)
    connection.execute(query.with_for_update()).all()


def _by_replica(connection: Connection, table: Any) -> dict[str, list[RowMapping]]:
    grouped: dict[str, list[RowMapping]] = defaultdict(list)
    for row in connection.execute(select(table)).mappings():
        grouped[row["replica"]].append(row)
    return grouped


def _status(
    row: RowMapping, processes: Sequence[RowMapping], told: Sequence[RowMapping], *, now: float
) -> ReplicaStatus:
    silent = [max(0.0, now - process["seen_at"]) for process in processes]
    observed = [process["observed"] for process in processes]
    replica = Replica(
        **{name: row[name] for name in ("id", "base_fingerprint", "limits", "on_loss")},
        ready=all(process["ready"] for process in processes),
        seconds_silent=max(silent, default=0.0),
        observed=None if None in observed or not observed else min(observed),
        loaded=frozenset(VersionId(a["version_id"]) for a in told if a["error"] is None),
        failed={VersionId(a["version_id"]): a["error"] for a in told if a["error"] is not None},
    )
    return ReplicaStatus(
        replica=replica,
        processes=tuple(
            Process(
                seconds_silent=seconds,
                observed=process["observed"],
                lease_left=_left(process["lease_until"], now),
            )
            for process, seconds in zip(processes, silent, strict=True)
        ),
    )


def _left(until: float | None, now: float) -> float | None:
    return None if until is None else until - now
