"""Permissions in the database; their versions' revisions tell replicas of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import asdict
from typing import Any

from sqlalchemy import Connection, Select, delete, insert, select

from adapters.domain.audit import Action
from adapters.domain.names import PermissionId, Unit, VersionId, new_permission_id
from adapters.domain.pages import Page
from adapters.domain.permissions import Permission
from adapters.domain.principals import Principal
from adapters.domain.versions import Version
from adapters.errors import NotPermitted
from adapters.registry.sql import rows, schema
from adapters.registry.sql.audit import append
from adapters.registry.sql.queries import (
    SqlPort,
    all_of,
    bump_revision,
    lock_revision,
    one,
    page,
)
from adapters.registry.sql.version_rows import check_servable, find_version, write_version

_MISSING = "no such permission"


class SqlPermissions(SqlPort):
    """Implements `Permissions`."""

    def grant(
        self, version_id: VersionId, units: Sequence[Unit], principal: Principal
    ) -> Sequence[Permission]:
        """One for each unit. Raises NotPermitted, NotFound, Conflict."""
        _check_may(principal)
        with self._database.write() as connection:
            lock_revision(connection)
            version = find_version(connection, version_id, principal)
            check_servable(version)
            there = {
                each.unit: each
                for each in all_of(connection, _of(version_id), rows.permission_from)
            }
            at = self._database.now(connection)
            new = {
                unit: Permission(
                    id=new_permission_id(), version_id=version_id, unit=unit, created_at=at
                )
                for unit in dict.fromkeys(units)
                if unit not in there
            }
            if new:
                added = [asdict(each) for each in new.values()]
                connection.execute(insert(schema.version_permissions), added)
                write_version(connection, version, revision=bump_revision(connection))
            for permission in new.values():
                action = Action.VERSION_SHARED
                _audit(connection, principal, action, version, permission, at=at)
            granted = {**there, **new}
            return [granted[unit] for unit in dict.fromkeys(units)]

    def list(
        self,
        version_id: VersionId,
        principal: Principal,
        *,
        unit: Unit | None,
        after: str | None,
        limit: int,
        newest_first: bool,
    ) -> Page[Permission]:
        """Of one version. Raises NotFound."""
        table = schema.version_permissions
        query = _of(version_id)
        if unit is not None:
            query = query.where(table.c.unit == unit)
        query = query.order_by(table.c.seq.desc() if newest_first else table.c.seq)
        with self._database.read() as connection:
            find_version(connection, version_id, principal)
            if after is not None:
                cursor = _of(version_id).where(table.c.id == after)
                last = one(connection, cursor, "no such permission to go on after", param="after")
                seq = table.c.seq
                query = query.where(seq < last["seq"] if newest_first else seq > last["seq"])
            return page(connection, query, rows.permission_from, limit)

    def withdraw(
        self,
        version_id: VersionId,
        permission_id: PermissionId,
        principal: Principal,
        *,
        reason: str | None = None,
    ) -> None:
        """Ends a permission. Raises NotPermitted, NotFound."""
        _check_may(principal)
        table = schema.version_permissions
        with self._database.write() as connection:
            lock_revision(connection)
            version = find_version(connection, version_id, principal)
            query = _of(version_id).where(table.c.id == permission_id)
            permission = rows.permission_from(one(connection, query, _MISSING))
            connection.execute(delete(table).where(table.c.id == permission_id))
            write_version(connection, version, revision=bump_revision(connection))
            at = self._database.now(connection)
            action = Action.VERSION_UNSHARED
            _audit(connection, principal, action, version, permission, at=at, reason=reason)


def shared_with(
    connection: Connection, version_ids: Sequence[VersionId] | None
) -> Mapping[VersionId, AbstractSet[Unit]]:
    """Which units those versions are shared with, or all versions."""
    table = schema.version_permissions
    query = select(table.c.version_id, table.c.unit)
    if version_ids is not None:
        query = query.where(table.c.version_id.in_(version_ids))
    found: dict[VersionId, set[Unit]] = {}
    for row in connection.execute(query):
        found.setdefault(VersionId(row.version_id), set()).add(Unit(row.unit))
    return found


def _check_may(principal: Principal) -> None:
    if not principal.sees_every_unit:
        raise NotPermitted("only an admin says which unit may use another's version")


def _of(version_id: VersionId) -> Select[Any]:
    table = schema.version_permissions
    return select(table).where(table.c.version_id == version_id)


def _audit(
    connection: Connection,
    by: Principal,
    action: Action,
    version: Version,
    permission: Permission,
    *,
    at: float,
    reason: str | None = None,
) -> None:
    told = {"permission": permission.id, "with": permission.unit}
    shared = action is Action.VERSION_SHARED
    append(
        connection,
        by,
        action,
        f"version/{version.name}",
        at=at,
        unit=version.unit,
        before=None if shared else told,
        after=told if shared else None,
        reason=reason,
    )
