"""Uploads in parts in the database."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from sqlalchemy import Connection, RowMapping, Select, and_, delete, func, insert, select, update

from adapters.domain.audit import Action
from adapters.domain.names import Digest, PartId, UploadId
from adapters.domain.principals import Principal
from adapters.domain.uploads import (
    MAX_OPEN,
    PENDING_SECONDS,
    Upload,
    UploadPart,
    UploadStatus,
    check_pending,
    check_room,
)
from adapters.errors import Conflict, NotFound
from adapters.registry.ports.files import NewFile
from adapters.registry.ports.uploads import NewPart, NewUpload
from adapters.registry.sql import rows, schema
from adapters.registry.sql.audit import append
from adapters.registry.sql.condemned import check_not_condemned
from adapters.registry.sql.files import add_file
from adapters.registry.sql.queries import (
    SqlPort,
    check_acts_for,
    first_of,
    lock_revision,
    one,
    share_revision,
    visible,
)

_MISSING = "no such upload"


class SqlUploads(SqlPort):
    """Implements `Uploads`."""

    def begin(self, new: NewUpload, *, by: Principal) -> Upload:
        """Raises Conflict (`too_many_uploads`)."""
        check_acts_for(by, new.unit, "no such unit")
        table = schema.uploads
        with self._database.write() as connection:
            lock_revision(connection)  # no other begins meanwhile
            now = self._database.now(connection)
            pending = and_(table.c.unit == new.unit, _pending(now))
            if connection.execute(select(func.count()).where(pending)).scalar_one() >= MAX_OPEN:
                raise Conflict(
                    f"{MAX_OPEN} uploads of this unit are pending; complete or cancel one",
                    code="too_many_uploads",
                )
            upload = Upload(
                **vars(new),
                status=UploadStatus.PENDING,
                created_at=now,
                expires_at=now + PENDING_SECONDS,
            )
            connection.execute(insert(table).values(rows.upload_values(upload)))
            _audit(connection, by, Action.UPLOAD_BEGUN, upload, at=now)
            return upload

    def get(self, upload_id: UploadId, principal: Principal) -> Upload:
        """Raises NotFound when unknown or another unit's."""
        with self._database.read() as connection:
            now = self._database.now(connection)
            return _upload(connection, one(connection, _named(upload_id, principal), _MISSING), now)

    def add_part(self, upload_id: UploadId, part: NewPart, principal: Principal) -> UploadPart:
        """Raises NotFound, Condemned, TooLarge, Conflict (`upload_ended`, `too_many_parts`)."""
        table = schema.upload_parts
        with self._database.write() as connection:
            share_revision(connection)  # nobody condemns the digest until the end
            upload, now = self._locked(connection, upload_id, principal)
            check_pending(upload)
            check_not_condemned(connection, part.digest, now=now)
            of_upload = table.c.upload_id == upload_id
            equal = select(table).where(of_upload, table.c.digest == part.digest)
            first = first_of(connection, equal, rows.part_from)
            if first is not None:
                return first
            size = func.coalesce(func.sum(table.c.size_bytes), 0)
            parts, taken = connection.execute(select(func.count(), size).where(of_upload)).one()
            check_room(upload, part.size_bytes, parts=int(parts), size_bytes=int(taken))
            added = UploadPart(**vars(part), upload_id=upload_id, created_at=now)
            connection.execute(insert(table).values(rows.part_values(added)))
            return added

    def parts(
        self, upload_id: UploadId, part_ids: Sequence[PartId], principal: Principal
    ) -> Sequence[UploadPart]:
        """These parts in this order. Raises NotFound."""
        table = schema.upload_parts
        with self._database.read() as connection:
            one(connection, _named(upload_id, principal), _MISSING)
            query = select(table).where(table.c.upload_id == upload_id)
            found = {row["id"]: rows.part_from(row) for row in connection.execute(query).mappings()}
            try:
                return [found[part_id] for part_id in part_ids]
            except KeyError:
                raise NotFound("no such part of this upload", param="part_ids") from None

    def complete(self, upload_id: UploadId, file: NewFile, principal: Principal) -> Upload:
        """The upload becomes the file. Raises NotFound, Condemned, Conflict (`upload_ended`)."""
        with self._database.write() as connection:
            share_revision(connection)
            upload, now = self._locked(connection, upload_id, principal)
            if upload.status is UploadStatus.COMPLETED:
                return upload
            check_pending(upload)
            check_not_condemned(connection, file.digest, now=now)
            ended = replace(upload, status=UploadStatus.COMPLETED)
            _end(connection, ended, file_id=file.id)
            stored = add_file(connection, file, by=principal, at=now)
            return replace(ended, file=stored)

    def cancel(
        self, upload_id: UploadId, principal: Principal, *, reason: str | None = None
    ) -> Upload:
        """Its parts go. Raises NotFound, Conflict (`upload_ended`)."""
        with self._database.write() as connection:
            upload, now = self._locked(connection, upload_id, principal)
            if upload.status is UploadStatus.CANCELLED:
                return upload
            check_pending(upload)
            ended = replace(upload, status=UploadStatus.CANCELLED)
            _end(connection, ended)
            _audit(connection, principal, Action.UPLOAD_CANCELLED, ended, at=now, reason=reason)
            return ended

    def _locked(
        self, connection: Connection, upload_id: UploadId, principal: Principal
    ) -> tuple[Upload, float]:
        row = one(connection, _named(upload_id, principal).with_for_update(), _MISSING)
        now = self._database.now(connection)
        return _upload(connection, row, now), now


def expired_parts(now: float) -> Any:
    """Deletes the parts of uploads whose hour is over; their bytes are collected then."""
    table = schema.uploads.c
    over = select(table.id).where(table.expires_at <= now)
    return delete(schema.upload_parts).where(schema.upload_parts.c.upload_id.in_(over))


def uploads_without_parts(before: float) -> Any:
    """Deletes uploads that were over by then; to be called behind `expired_parts`."""
    return delete(schema.uploads).where(schema.uploads.c.expires_at <= before)


def kept_parts() -> Select[tuple[Digest]]:
    """Digests whose bytes a pending upload needs."""
    return select(schema.upload_parts.c.digest)


def _pending(now: float) -> Any:
    table = schema.uploads.c
    return and_(table.status == UploadStatus.PENDING.value, table.expires_at > now)


def _named(upload_id: UploadId, principal: Principal) -> Select[Any]:
    table = schema.uploads
    return select(table).where(table.c.id == upload_id, visible(table.c.unit, principal))


def _upload(connection: Connection, row: RowMapping, now: float) -> Upload:
    upload = rows.upload_from(row)
    if upload.status is UploadStatus.PENDING and upload.expires_at <= now:
        return replace(upload, status=UploadStatus.EXPIRED)
    if row["file_id"] is None:
        return upload
    query = select(schema.files).where(schema.files.c.id == row["file_id"])
    return replace(upload, file=first_of(connection, query, rows.file_from))


def _end(connection: Connection, ended: Upload, *, file_id: str | None = None) -> None:
    table, parts = schema.uploads, schema.upload_parts
    connection.execute(delete(parts).where(parts.c.upload_id == ended.id))
    values = {"status": ended.status.value, "file_id": file_id}
    connection.execute(update(table).where(table.c.id == ended.id).values(values))


def _audit(
    connection: Connection,
    by: Principal,
    action: Action,
    upload: Upload,
    *,
    at: float,
    reason: str | None = None,
) -> None:
    append(
        connection,
        by,
        action,
        f"upload/{upload.id}",
        at=at,
        unit=upload.unit,
        after={"purpose": upload.purpose, "size_bytes": upload.size_bytes},
        reason=reason,
    )
