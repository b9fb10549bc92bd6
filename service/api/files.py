"""`/v1/files`: a unit's training data, with OpenAI's objects.

The bytes go to the artifact store under their digest, the row to the registry; a file is visible
when both are there. Deleting forgets the row; bytes that no row names are collected later. Names
are kept as labels and never become paths.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import Annotated, Any, BinaryIO

from fastapi import APIRouter, Depends, Request
from fastapi.responses import Response, StreamingResponse
from pydantic_core import to_json
from starlette.datastructures import FormData, UploadFile

from adapters.domain.files import OTHER_PURPOSES, PURPOSES, StoredFile
from adapters.domain.names import Digest, FileId, Unit, new_file_id
from adapters.domain.principals import Principal
from adapters.errors import InvalidRequest
from adapters.registry.ports import NewFile
from adapters.store import ArtifactKind
from adapters.store.recording import record_artifact
from service.api.file_content import HEAD, check_head, chunks, label, lifetime_of, wire_file
from service.api.request import (
    FilesCursorOf,
    OwnerOf,
    RuntimeOf,
    Text,
    named_unit,
    page,
    unknown_parameter,
)
from service.api.route_commands import WhyOf
from service.api.upload_places import UPLOAD_SECONDS, Uploads, spooling
from service.runtime import Runtime

router = APIRouter(prefix="/v1/files")

FIELDS = ("file", "purpose", "expires_after[anchor]", "expires_after[seconds]", "x_unit")
"""Of the form."""


async def uploads_of(request: Request) -> Uploads:
    """The uploads of this process."""
    uploads: Uploads = request.app.state.wardrobe_uploads
    return uploads


UploadsOf = Annotated[Uploads, Depends(uploads_of)]


@router.post("")
async def create_file(
    request: Request, runtime: RuntimeOf, principal: OwnerOf, uploads: UploadsOf
) -> dict[str, Any]:
    """Stores an upload. 400 for what cannot be a training file, 413 past the unit's limit."""
    async with uploads.place(principal.owner):
        with spooling():
            async with asyncio.timeout(UPLOAD_SECONDS):
                form = await request.form(max_files=1, max_fields=8)
        try:
            return await runtime.threads.file(principal, _accept, runtime, principal, form)
        finally:
            await form.close()


def _accept(runtime: Runtime, principal: Principal, form: FormData) -> dict[str, Any]:
    _check_fields(form)
    upload, purpose, named = form.get("file"), form.get("purpose"), form.get("x_unit")
    lifetime = _lifetime(form)
    if not isinstance(upload, UploadFile):
        raise InvalidRequest("send the file as the form field `file`", param="file")
    if purpose != "fine-tune":
        raise InvalidRequest("`purpose` must be `fine-tune`", param="purpose")
    named = named if isinstance(named, str) else None
    unit = named_unit(runtime, principal, named, param="x_unit")
    return _store(runtime, unit, upload, principal, lifetime=lifetime)


def _lifetime(form: FormData) -> int | None:
    """`expires_after[anchor]` and `expires_after[seconds]`, as the SDK sends them."""
    said = {part: form.get(f"expires_after[{part}]") for part in ("anchor", "seconds")}
    if not any(said.values()):
        return None
    return lifetime_of(said["anchor"], said["seconds"])


def _check_fields(form: FormData) -> None:
    """Refuses what would take no effect. Raises InvalidRequest."""
    for name in form:
        if name not in FIELDS:
            raise unknown_parameter(name, "form field")


def _store(
    runtime: Runtime,
    unit: Unit,
    upload: UploadFile,
    principal: Principal,
    *,
    lifetime: int | None,
) -> dict[str, Any]:
    check_head(upload.file.read(HEAD))
    limit = runtime.units.current.max_file_bytes(unit)

    def put() -> tuple[Digest, int]:
        upload.file.seek(0)
        return runtime.store.put_file(chunks(upload.file), max_bytes=limit)

    digest, size = put()
    new = NewFile(
        id=new_file_id(),
        unit=unit,
        filename=label(upload.filename),
        purpose="fine-tune",
        size_bytes=size,
        digest=digest,
        lifetime=lifetime,
    )
    stored = record_artifact(
        runtime.store,
        digest,
        ArtifactKind.FILE,
        add_row=lambda: runtime.registry.files.add(new, by=principal),
        put_again=put,
    )
    return wire_file(stored)


@router.get("")
async def list_files(
    runtime: RuntimeOf,
    principal: OwnerOf,
    cursor: FilesCursorOf,
    purpose: Text = None,
    order: Text = None,
) -> Response:
    """The caller's files, newest first unless `order=asc`.

    Written out in the thread that reads them: ten thousand would hold up every stream for 100 ms.
    """
    if purpose is not None and purpose not in PURPOSES | OTHER_PURPOSES:
        raise InvalidRequest("there is no such purpose", param="purpose")
    if order not in (None, "asc", "desc"):
        raise InvalidRequest("`order` must be `asc` or `desc`", param="order")

    def written() -> bytes:
        listed = runtime.registry.files.list(
            principal,
            purpose=purpose,
            after=cursor.after,
            limit=cursor.limit,
            newest_first=order != "asc",
        )
        return to_json(page([wire_file(file) for file in listed.items], listed))

    content = await runtime.threads.read(principal, written)
    return Response(content, media_type="application/json")


@router.get("/{file_id}")
async def retrieve_file(file_id: str, runtime: RuntimeOf, principal: OwnerOf) -> dict[str, Any]:
    """One file's record."""
    return wire_file(await _file(runtime, principal, file_id))


async def _file(runtime: Runtime, principal: Principal, file_id: str) -> StoredFile:
    get = runtime.registry.files.get
    return await runtime.threads.read(principal, get, FileId(file_id), principal)


@router.get("/{file_id}/content")
async def file_content(file_id: str, runtime: RuntimeOf, principal: OwnerOf) -> StreamingResponse:
    """One file's bytes, as they were uploaded or as its job made them."""
    file = await _file(runtime, principal, file_id)
    opened = await runtime.threads.file(principal, runtime.store.open_file, file.digest)
    return StreamingResponse(_closing(opened), media_type=file.media_type)


def _closing(file: BinaryIO) -> Iterator[bytes]:
    with file:
        yield from chunks(file)


@router.delete("/{file_id}")
async def delete_file(
    file_id: str, runtime: RuntimeOf, principal: OwnerOf, why: WhyOf
) -> dict[str, Any]:
    """Forgets a file. 409 while a job needs it."""
    delete = runtime.registry.files.delete
    await runtime.threads.command(principal, delete, FileId(file_id), principal, reason=why.reason)
    return {"id": file_id, "object": "file", "deleted": True}
