"""`/v1/uploads`: a file that is too large for one request comes in parts, with OpenAI's objects.

Each part's bytes lie in the artifact store when it is answered, so that an upload goes on through
any replica and after any crash, and a part that is sent again is the part that was there before.
Completing puts the file together in the order of the list; what no upload needs is collected.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Callable, Iterator, Sequence
from typing import Annotated, Any

from fastapi import APIRouter, Request
from pydantic import BaseModel, ConfigDict, Field
from starlette.datastructures import FormData, UploadFile

from adapters.domain.files import MAX_LIFETIME, MIN_LIFETIME
from adapters.domain.names import Digest, PartId, UploadId, new_file_id, new_part_id, new_upload_id
from adapters.domain.principals import Principal
from adapters.domain.uploads import (
    MAX_PART_BYTES,
    MAX_PARTS,
    Upload,
    UploadPart,
    UploadStatus,
    check_pending,
)
from adapters.errors import InvalidFile, InvalidRequest
from adapters.registry.ports import NewFile, NewPart, NewUpload
from adapters.store import ArtifactKind
from adapters.store.recording import record_artifact
from service.api.file_content import HEAD, check_head, chunks, label, wire_file
from service.api.files import UploadsOf
from service.api.request import OwnerOf, RuntimeOf, body_of, named_unit, unknown_parameter
from service.api.route_commands import WhyOf
from service.api.upload_places import UPLOAD_SECONDS, spooling
from service.runtime import Runtime

router = APIRouter(prefix="/v1/uploads")


class ExpiresAfter(BaseModel):
    """When the file goes by itself."""

    model_config = ConfigDict(extra="forbid")

    anchor: Annotated[str, Field(pattern="^created_at$")]
    seconds: int = Field(ge=MIN_LIFETIME, le=MAX_LIFETIME)


class BeginUpload(BaseModel):
    """The body of `uploads.create`."""

    model_config = ConfigDict(extra="forbid")

    purpose: Annotated[str, Field(pattern="^fine-tune$")]
    filename: str = Field(min_length=1, max_length=1024)
    bytes: int = Field(ge=1, le=2**53)
    mime_type: str = Field(min_length=1, max_length=128)
    """What the file holds is looked at, whatever this says."""
    expires_after: ExpiresAfter | None = None
    x_unit: str | None = Field(default=None, max_length=40)


class CompleteUpload(BaseModel):
    """The body of `uploads.complete`."""

    model_config = ConfigDict(extra="forbid")

    part_ids: list[Annotated[str, Field(max_length=64)]] = Field(min_length=1, max_length=MAX_PARTS)
    md5: Annotated[str, Field(pattern="^[0-9a-fA-F]{32}$")] | None = None


@router.post("")
async def begin_upload(request: Request, runtime: RuntimeOf, principal: OwnerOf) -> dict[str, Any]:
    """Announces a file. 400 past the unit's limit, 409 where too many are pending."""
    asked = await body_of(request, BeginUpload)
    return wire_upload(await runtime.threads.command(principal, _begin, runtime, principal, asked))


def _begin(runtime: Runtime, principal: Principal, asked: BeginUpload) -> Upload:
    unit = named_unit(runtime, principal, asked.x_unit, param="x_unit")
    most = runtime.units.current.max_file_bytes(unit)
    if asked.bytes > most:
        raise InvalidRequest(f"a file of this unit may have {most} bytes", param="bytes")
    new = NewUpload(
        id=new_upload_id(),
        unit=unit,
        filename=label(asked.filename),
        purpose=asked.purpose,
        size_bytes=asked.bytes,
        lifetime=asked.expires_after.seconds if asked.expires_after else None,
    )
    return runtime.registry.uploads.begin(new, by=principal)


@router.post("/{upload_id}/parts")
async def add_part(
    upload_id: str, request: Request, runtime: RuntimeOf, principal: OwnerOf, places: UploadsOf
) -> dict[str, Any]:
    """Adds a part. 413 past 64 MiB or what was announced, 409 where the upload is over."""
    upload = UploadId(upload_id)
    # before the body: what cannot be taken is not waited for
    pending = runtime.registry.uploads.get
    check_pending(await runtime.threads.read(principal, pending, upload, principal))
    async with places.place(principal.owner):
        with spooling():
            async with asyncio.timeout(UPLOAD_SECONDS):
                form = await request.form(max_files=1, max_fields=1)
        try:
            add = runtime.threads.file(principal, _add, runtime, principal, upload, form)
            return wire_part(await add)
        finally:
            await form.close()


def _add(runtime: Runtime, principal: Principal, upload_id: UploadId, form: FormData) -> UploadPart:
    for name in form:
        if name != "data":
            raise unknown_parameter(name, "form field")
    data = form.get("data")
    if not isinstance(data, UploadFile):
        raise InvalidRequest("send the part as the form field `data`", param="data")

    def put() -> tuple[Digest, int]:
        data.file.seek(0)
        return runtime.store.put_file(chunks(data.file), max_bytes=MAX_PART_BYTES)

    digest, size = put()
    if not size:
        raise InvalidRequest("the part is empty", param="data")
    part = NewPart(id=new_part_id(), digest=digest, size_bytes=size)
    uploads = runtime.registry.uploads
    return record_artifact(
        runtime.store,
        digest,
        ArtifactKind.FILE,
        add_row=lambda: uploads.add_part(upload_id, part, principal),
        put_again=put,
    )


@router.post("/{upload_id}/complete")
async def complete_upload(
    upload_id: str, request: Request, runtime: RuntimeOf, principal: OwnerOf
) -> dict[str, Any]:
    """Makes the file of the parts, in the order of their ids; repeating it answers the same."""
    asked = await body_of(request, CompleteUpload)
    complete = runtime.threads.file(
        principal, _complete, runtime, principal, UploadId(upload_id), asked
    )
    return wire_upload(await complete)


def _complete(
    runtime: Runtime, principal: Principal, upload_id: UploadId, asked: CompleteUpload
) -> Upload:
    uploads = runtime.registry.uploads
    upload = uploads.get(upload_id, principal)
    if upload.status is UploadStatus.COMPLETED:
        return upload
    check_pending(upload)
    parts = uploads.parts(upload_id, [PartId(each) for each in asked.part_ids], principal)
    size = sum(part.size_bytes for part in parts)
    if size != upload.size_bytes:
        raise InvalidRequest(
            f"the parts come to {size} bytes, and {upload.size_bytes} were announced",
            param="part_ids",
        )
    check_head(_head(runtime, parts))

    def put() -> tuple[Digest, str]:
        md5 = hashlib.md5(usedforsecurity=False)
        digest, _ = runtime.store.put_file(
            _told(_joined(runtime, parts), md5.update), max_bytes=size
        )
        return digest, md5.hexdigest()

    digest, md5 = put()
    if asked.md5 is not None and asked.md5.lower() != md5:
        raise InvalidFile("the parts do not have this checksum", param="md5")
    file = NewFile(
        id=new_file_id(),
        unit=upload.unit,
        filename=upload.filename,
        purpose=upload.purpose,
        size_bytes=size,
        digest=digest,
        lifetime=upload.lifetime,
    )
    return record_artifact(
        runtime.store,
        digest,
        ArtifactKind.FILE,
        add_row=lambda: uploads.complete(upload_id, file, principal),
        put_again=put,
    )


def _head(runtime: Runtime, parts: Sequence[UploadPart]) -> bytes:
    head = b""
    for chunk in _joined(runtime, parts):
        head += chunk[: HEAD - len(head)]
        if len(head) == HEAD:
            break
    return head


def _joined(runtime: Runtime, parts: Sequence[UploadPart]) -> Iterator[bytes]:
    for part in parts:
        with runtime.store.open_file(part.digest) as file:
            yield from chunks(file)


def _told(pieces: Iterator[bytes], tell: Callable[[bytes], None]) -> Iterator[bytes]:
    for piece in pieces:
        tell(piece)
        yield piece


@router.post("/{upload_id}/cancel")
async def cancel_upload(
    upload_id: str, runtime: RuntimeOf, principal: OwnerOf, why: WhyOf
) -> dict[str, Any]:
    """Gives an upload up. 409 where it is a file already."""
    cancelled = await runtime.threads.command(
        principal,
        runtime.registry.uploads.cancel,
        UploadId(upload_id),
        principal,
        reason=why.reason,
    )
    return wire_upload(cancelled)


def wire_upload(upload: Upload) -> dict[str, Any]:
    """OpenAI's upload object."""
    return {
        "id": upload.id,
        "object": "upload",
        "bytes": upload.size_bytes,
        "created_at": int(upload.created_at),
        "expires_at": int(upload.expires_at),
        "filename": upload.filename,
        "purpose": upload.purpose,
        "status": str(upload.status),
        "file": None if upload.file is None else wire_file(upload.file),
    }


def wire_part(part: UploadPart) -> dict[str, Any]:
    """OpenAI's part object."""
    return {
        "id": part.id,
        "object": "upload.part",
        "created_at": int(part.created_at),
        "upload_id": part.upload_id,
    }
