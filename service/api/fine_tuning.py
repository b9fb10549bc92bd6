"""`/v1/fine_tuning/jobs`: OpenAI's fine-tuning API over the job table.

The service only records and shows jobs; the trainer does them.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from fastapi import APIRouter, Request, Response

from adapters.domain.jobs import Job, StopRequest
from adapters.domain.names import JobId
from adapters.domain.principals import Principal
from adapters.errors import InvalidRequest, NotFound
from adapters.registry.ports import NewJob
from service.api.job_objects import wire_checkpoint, wire_event, wire_job
from service.api.job_requests import (
    MAX_METADATA,
    CreateJob,
    RetryJob,
    check_files,
    new_job,
    retried_job,
    unknown_model,
)
from service.api.request import (
    CursorOf,
    OwnerOf,
    RuntimeOf,
    Text,
    body_of,
    idempotency_key_of,
    page,
    tell_replay,
)
from service.api.route_commands import Why, WhyOf
from service.runtime import Runtime

router = APIRouter(prefix="/v1/fine_tuning/jobs")

_METADATA = re.compile(r"metadata\[([^\]]{1,64})\]")


@router.post("")
async def create_job(
    request: Request, response: Response, runtime: RuntimeOf, principal: OwnerOf
) -> dict[str, Any]:
    """Queues a job.

    A repeated `Idempotency-Key` answers with the first job; 409 where it asks for another one.
    """
    asked = await body_of(request, CreateJob)
    key = idempotency_key_of(request)
    create = runtime.threads.command(principal, _create, runtime, principal, asked, key)
    stored = await create
    tell_replay(response, replayed=stored.before)
    return wire_job(stored.job)


@dataclass(frozen=True)
class _Stored:
    """A job, and whether its `Idempotency-Key` has stored it before."""

    job: Job
    before: bool


def _create(runtime: Runtime, principal: Principal, asked: CreateJob, key: str | None) -> _Stored:
    new = new_job(runtime, principal, asked)
    check_files(runtime.registry.files, principal, new)
    stored = _store(runtime, principal, new, key, said="Created fine-tuning job")
    if not stored.before and asked.integrations:
        words = "Integrations are ignored: nothing leaves this service"
        runtime.registry.jobs.say(stored.job.id, words, level="warn")
    return stored


def _store(
    runtime: Runtime, principal: Principal, new: NewJob, key: str | None, *, said: str
) -> _Stored:
    """Raises InvalidRequest, NotFound."""
    jobs = runtime.registry.jobs
    try:
        stored = jobs.create(new, principal, idempotency_key=key)
    except NotFound as missing:
        if missing.param == "model":
            raise unknown_model(runtime) from None
        raise InvalidRequest(
            f"`{missing.param}` names no file of this unit",
            param=missing.param,
            code="file_not_found",
        ) from None
    if stored.id == new.id:
        jobs.say(stored.id, said)
    return _Stored(stored, before=stored.id != new.id)


@router.get("")
async def list_jobs(
    request: Request,
    runtime: RuntimeOf,
    principal: OwnerOf,
    cursor: CursorOf,
    metadata: Text = None,
) -> dict[str, Any]:
    """The caller's jobs, newest first: with `metadata[k]=v` or, `metadata=null`, without any."""
    wanted = _wanted(request.query_params, metadata)
    listed = await runtime.threads.read(
        principal,
        runtime.registry.jobs.list,
        principal,
        metadata=wanted,
        after=cursor.after,
        limit=cursor.limit,
    )
    return page([wire_job(job) for job in listed.items], listed)


def _wanted(query: Mapping[str, str], whole: str | None) -> dict[str, str] | None:
    """The pairs to filter by; none of them is jobs without metadata, None every job."""
    pairs = {
        match[1]: value for name, value in query.items() if (match := _METADATA.fullmatch(name))
    }
    if whole not in (None, "null") or (whole and pairs):
        raise InvalidRequest("filter as `metadata[key]=value` or `metadata=null`", param="metadata")
    if len(pairs) > MAX_METADATA:
        raise InvalidRequest(f"at most {MAX_METADATA} `metadata` filters", param="metadata")
    return {} if whole else pairs or None


@router.get("/{job_id}")
async def retrieve_job(job_id: str, runtime: RuntimeOf, principal: OwnerOf) -> dict[str, Any]:
    """One job."""
    return wire_job(await _job(runtime, principal, job_id))


async def _job(runtime: Runtime, principal: Principal, job_id: str) -> Job:
    get = runtime.registry.jobs.get
    return await runtime.threads.read(principal, get, JobId(job_id), principal)


@router.post("/{job_id}/cancel")
async def cancel_job(
    job_id: str, runtime: RuntimeOf, principal: OwnerOf, why: WhyOf
) -> dict[str, Any]:
    """Cancels an unfinished job; a running one stops at the trainer's next heartbeat."""
    return await _stop(runtime, principal, job_id, StopRequest.CANCEL, why)


@router.post("/{job_id}/pause")
async def pause_job(
    job_id: str, runtime: RuntimeOf, principal: OwnerOf, why: WhyOf
) -> dict[str, Any]:
    """Pauses a job; a running one stops behind its newest checkpoint."""
    return await _stop(runtime, principal, job_id, StopRequest.PAUSE, why)


async def _stop(
    runtime: Runtime, principal: Principal, job_id: str, stop: StopRequest, why: Why
) -> dict[str, Any]:
    request = runtime.registry.jobs.request_stop
    stopped = await runtime.threads.command(
        principal, request, JobId(job_id), stop, principal, reason=why.reason
    )
    return wire_job(stopped)


@router.post("/{job_id}/resume")
async def resume_job(
    job_id: str, runtime: RuntimeOf, principal: OwnerOf, why: WhyOf
) -> dict[str, Any]:
    """Puts a paused job back into the queue."""
    resume = runtime.registry.jobs.resume
    resumed = await runtime.threads.command(
        principal, resume, JobId(job_id), principal, reason=why.reason
    )
    return wire_job(resumed)


@router.post("/{job_id}/retry")
async def retry_job(
    job_id: str, request: Request, response: Response, runtime: RuntimeOf, principal: OwnerOf
) -> dict[str, Any]:
    """Queues a job like one that has ended, with what `recipe` changes of its recipe.

    A repeated `Idempotency-Key` answers as that of a new job does.
    """
    asked = await body_of(request, RetryJob)
    key = idempotency_key_of(request)

    def retry() -> _Stored:
        earlier = runtime.registry.jobs.get(JobId(job_id), principal)
        new = retried_job(runtime, earlier, asked)
        return _store(runtime, principal, new, key, said=f"Created to try {job_id} again")

    stored = await runtime.threads.command(principal, retry)
    tell_replay(response, replayed=stored.before)
    return wire_job(stored.job)


@router.get("/{job_id}/events")
async def list_events(
    job_id: str, runtime: RuntimeOf, principal: OwnerOf, cursor: CursorOf
) -> dict[str, Any]:
    """What happened, newest first."""
    listed = await runtime.threads.read(
        principal,
        runtime.registry.jobs.events,
        JobId(job_id),
        principal,
        after=_number(cursor.after, "ftevent-"),
        limit=cursor.limit,
    )
    return page([wire_event(event) for event in listed.items], listed)


@router.get("/{job_id}/checkpoints")
async def list_checkpoints(
    job_id: str, runtime: RuntimeOf, principal: OwnerOf, cursor: CursorOf
) -> dict[str, Any]:
    """Where the validation loss was measured, newest first; the one that was kept has a name."""
    after = _number(cursor.after, "ftckpt_")

    def read() -> dict[str, Any]:
        job = runtime.registry.jobs.get(JobId(job_id), principal)
        version = runtime.registry.versions.of_job(job.id)
        listed = runtime.registry.jobs.checkpoints(
            job.id, principal, after=after, limit=cursor.limit
        )
        return page([wire_checkpoint(point, version) for point in listed.items], listed)

    return await runtime.threads.read(principal, read)


def _number(after: str | None, prefix: str) -> str | None:
    if after is None:
        return None
    number = after.removeprefix(prefix)
    if not number.isascii() or not number.isdigit() or len(number) > 18:
        raise InvalidRequest("`after` must be an id of this list", param="after")
    return number
