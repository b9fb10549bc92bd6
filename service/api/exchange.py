"""Versions from elsewhere and for elsewhere: `POST …/versions` imports one, `…/archive` exports it.

An import is an upload of an archive with a PEFT adapter. It is admitted by the same rules as what
the trainer makes, and becomes a candidate that is promoted only once its gates have passed. An
export is a tar in Hugging Face's layout, with the bytes as they were published: imported again,
they are the same artifact.
"""

from __future__ import annotations

import asyncio
import tempfile
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from fastapi import APIRouter, Request
from fastapi.responses import StreamingResponse
from starlette.datastructures import FormData, UploadFile

from adapters.admission.imports import Imported, prepare_import
from adapters.domain.gates import GateResult, Outcome, at_least
from adapters.domain.names import Digest, Unit
from adapters.domain.principals import Principal
from adapters.domain.versions import IMPORT, Version
from adapters.errors import Conflict, InvalidRequest
from adapters.registry.ports import NewVersion
from adapters.signing_keys import statement_of
from adapters.store import ArtifactKind, pinned
from adapters.store.recording import record_artifact
from adapters.store.staging import room_needed
from service.api.adapter_objects import wire_version
from service.api.bill_of_materials import bill_of_materials
from service.api.files import UploadsOf
from service.api.provenance import json_bytes, known_of, published_card, words_of
from service.api.request import PrincipalOf, RuntimeOf, unit_of_alias, unknown_parameter
from service.api.route_commands import find_version, named
from service.api.tar_stream import Entry, of_bytes, of_file, tar
from service.api.upload_places import UPLOAD_SECONDS, spooling
from service.api.whole_card import whole_card
from service.runtime import Runtime

router = APIRouter(prefix="/v1/adapters")

CARD = """# LoRA adapter `{adapter}`

Imported by `{by}` for the unit `{unit}`. It came without a card: nothing is known here of how it
was made.
"""


@router.post("/{alias}/versions")
async def import_version(
    alias: str, request: Request, runtime: RuntimeOf, principal: PrincipalOf, uploads: UploadsOf
) -> dict[str, Any]:
    """Makes a candidate of an uploaded archive. 409 with the reason where it cannot be served."""
    unit = unit_of_alias(runtime, principal, alias)
    async with uploads.place(principal.owner):
        with spooling():
            async with asyncio.timeout(UPLOAD_SECONDS):
                form = await request.form(max_files=1, max_fields=1)
        try:
            version = await runtime.threads.file(
                principal, _import, runtime, principal, (alias, unit), form
            )
        finally:
            await form.close()
    runtime.swap.routes.repeat.kick()
    return wire_version(runtime, version)


def _import(
    runtime: Runtime, principal: Principal, of: tuple[str, Unit], form: FormData
) -> Version:
    upload = form.get("file")
    for name in form:
        if name != "file":
            raise unknown_parameter(name, "form field")
    if not isinstance(upload, UploadFile):
        raise InvalidRequest("send the archive as the form field `file`", param="file")
    if runtime.signer is None and runtime.swap.loader.requires_signatures:
        raise Conflict(
            "this replica has no signing key, and unsigned versions are not served here; import "
            "where there is one (WARDROBE_SIGNING_KEY_FILE)",
            code="signing_key_missing",
        )
    adapter, unit = of
    with room_needed(), tempfile.TemporaryDirectory(prefix="import-") as folder:
        directory = Path(folder)
        imported = prepare_import(
            upload.file,
            directory,
            base=runtime.base_shapes,
            max_rank=int(runtime.engine.limits["max_lora_rank"]),
            card=CARD.format(adapter=adapter, unit=unit, by=principal.id),
            max_bytes=runtime.units.current.max_file_bytes(unit),
        )
        return _publish(runtime, principal, of, (directory, imported))


def _publish(
    runtime: Runtime,
    principal: Principal,
    of: tuple[str, Unit],
    what: tuple[Path, Imported],
) -> Version:
    (adapter, unit), (directory, imported) = of, what

    def put() -> Digest:
        return runtime.store.publish_adapter(directory)

    digest = put()
    new = NewVersion(
        adapter=adapter,
        unit=unit,
        digest=digest,
        base_fingerprint=runtime.swap.membership.registration.base_fingerprint,
        rank=imported.admitted.rank,
        size_bytes=imported.size_bytes,
        evidence={
            IMPORT: {
                "by": principal.id,
                "dropped_keys": list(imported.dropped),
                "files_left": imported.left,
                "brought_card": imported.brought_card,
            }
        },
    )
    if runtime.signer is not None:
        new = replace(new, signature=runtime.signer.sign(statement_of(new)))
    versions = runtime.registry.versions
    version = record_artifact(
        runtime.store,
        digest,
        ArtifactKind.ADAPTER,
        add_row=lambda: versions.publish(new, job_id=None, fence=None, by=principal),
        put_again=put,
    )
    if runtime.registry.datasets.newest(adapter) is not None:
        return version  # its gates are computed once it is evaluated
    return versions.judge_again(version.id, _without_test_part(adapter), evidence={})


def _without_test_part(adapter: str) -> tuple[GateResult, ...]:
    """What can be said of a version that there is nothing to measure by."""
    return (
        at_least("artifact", 1.0, 1.0, "the engine can serve it"),
        GateResult(
            gate="task",
            outcome=Outcome.ERROR,
            measured=0.0,
            bound=0.0,
            direction="at_least",
            detail=f"{adapter} has no test part yet: a job with data for it makes one",
        ),
    )


@router.get("/{alias}/versions/{number}/archive")
async def export_version(
    alias: str, number: str, runtime: RuntimeOf, principal: PrincipalOf
) -> StreamingResponse:
    """The version as a tar in Hugging Face's layout, byte for byte as it was published."""
    unit_of_alias(runtime, principal, alias)
    version = await find_version(runtime, principal, *named(alias, number))
    if version.collected_at is not None or version.withdrawn_at is not None:
        raise Conflict(f"{version.name} was retired and is not kept", code="version_retired")
    entries = await runtime.threads.file(principal, _entries, runtime, principal, version)
    name = version.name.replace(":", "-")
    return StreamingResponse(
        tar(entries),
        media_type="application/x-tar",
        headers={"content-disposition": f'attachment; filename="{name}.tar"'},
    )


def _entries(runtime: Runtime, principal: Principal, version: Version) -> list[Entry]:
    """Its files, opened: what is open stays readable, whatever becomes of the cache. Behind them
    what is known of it today, which an import leaves alone.
    """
    known = known_of(runtime, principal, version)
    told = {
        "MODEL_CARD.md": whole_card(published_card(runtime, version), known).encode(),
        "bom.cdx.json": json_bytes(bill_of_materials(known, words_of(runtime, version))),
        "signature.json": json_bytes(
            {"signature": version.signature, **asdict(statement_of(version))}
        ),
    }
    with pinned(runtime.store, version.digest) as folder:
        files = [of_file(path) for path in sorted(folder.iterdir())]
    return files + [of_bytes(name, content) for name, content in told.items()]
