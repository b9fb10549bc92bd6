"""`…/versions/{number}/card`, `/bom` and `/lineage`: where a version comes from, and what became
of it.

The lineage is joined from what is kept anyway: the version's evidence, its job, its gates, what
people said, the audit log, its rollouts and the usage of each day. Single requests are kept in no
table: a request's line in the log (`WARDROBE_REQUEST_LOG`) names its version, and leads here.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, TypeVar

from fastapi import APIRouter
from fastapi.responses import Response

from adapters.domain.approvals import author_of
from adapters.domain.jobs import Job
from adapters.domain.limits import Traffic
from adapters.domain.names import Alias
from adapters.domain.pages import Page
from adapters.domain.principals import Principal
from adapters.domain.routes import Rollout
from adapters.domain.units import CardWords
from adapters.domain.versions import Version, signed_by
from adapters.errors import NotFound, WardrobeError
from adapters.registry.origin import job_behind
from adapters.registry.ports import DayUsage, Which
from adapters.store import pinned
from service.api.adapter_objects import whole
from service.api.approvals import wire_approval
from service.api.bill_of_materials import bill_of_materials
from service.api.request import PrincipalOf, RuntimeOf, unit_of_alias
from service.api.route_commands import find_version, named
from service.api.training_cost import training_cost
from service.api.whole_card import Known, whole_card
from service.runtime import Runtime

T = TypeVar("T")

router = APIRouter(prefix="/v1/adapters/{alias}/versions/{number}")

CARD_FILE = "README.md"
MAX_CARD = 1 << 20
_PAGE = 100
_MOST = 1000
"""Changes of a version that are told, and rollouts of an alias that are looked through for its."""
_DAY = 86_400


@router.get("/card")
async def card(alias: str, number: str, runtime: RuntimeOf, principal: PrincipalOf) -> Response:
    """The whole model card, as Markdown with Hugging Face's metadata."""
    unit_of_alias(runtime, principal, alias)
    version = await find_version(runtime, principal, *named(alias, number))

    def made() -> str:
        return whole_card(published_card(runtime, version), known_of(runtime, principal, version))

    text = await runtime.threads.file(principal, made)
    return Response(text, media_type="text/markdown; charset=utf-8")


@router.get("/bom")
async def bom(alias: str, number: str, runtime: RuntimeOf, principal: PrincipalOf) -> Response:
    """A CycloneDX bill of materials: the model, its base, its data and its tools."""
    unit_of_alias(runtime, principal, alias)
    version = await find_version(runtime, principal, *named(alias, number))
    known = await runtime.threads.read(principal, known_of, runtime, principal, version)
    content = json_bytes(bill_of_materials(known, words_of(runtime, version)))
    return Response(content, media_type="application/vnd.cyclonedx+json")


@router.get("/lineage")
async def lineage(
    alias: str, number: str, runtime: RuntimeOf, principal: PrincipalOf
) -> dict[str, Any]:
    """Data → job → version → gates → who → when → how many requests it has answered."""
    unit_of_alias(runtime, principal, alias)
    version = await find_version(runtime, principal, *named(alias, number))
    return await runtime.threads.read(principal, _lineage, runtime, principal, version)


def known_of(runtime: Runtime, principal: Principal, version: Version) -> Known:
    """Blocks on the registry."""
    job = _job(runtime, principal, version)
    settings = runtime.settings
    return Known(
        version=version,
        job=job,
        approvals=runtime.registry.approvals.of(version.id),
        cost=training_cost(job, price=settings.price_training, currency=settings.currency),
        author=author_of(version, job),
    )


def published_card(runtime: Runtime, version: Version) -> str:
    """The card of its files; a word in its place where they are not kept or have none. Blocks."""
    try:
        with (
            pinned(runtime.store, version.digest) as folder,
            (folder / CARD_FILE).open(encoding="utf-8") as file,
        ):
            return file.read(MAX_CARD)
    except (WardrobeError, OSError, UnicodeDecodeError):
        return f"# LoRA adapter `{version.adapter}`\n\nThere is no card among its files."


def words_of(runtime: Runtime, version: Version) -> CardWords:
    """The unit's own, as they are today."""
    unit = runtime.units.current.units.by_name.get(version.unit)
    return CardWords() if unit is None else unit.card


def json_bytes(value: Mapping[str, Any]) -> bytes:
    """For people too."""
    return (json.dumps(value, indent=2) + "\n").encode()


def _job(runtime: Runtime, principal: Principal, version: Version) -> Job | None:
    try:
        job_id = job_behind(runtime.registry, version)
        return None if job_id is None else runtime.registry.jobs.get(job_id, principal)
    except NotFound:  # its rows were collected
        return None


def _lineage(runtime: Runtime, principal: Principal, version: Version) -> dict[str, Any]:
    known = known_of(runtime, principal, version)
    evidence = version.evidence or {}
    used = runtime.registry.usage.of_version(principal, version.name)
    return {
        "object": "adapter.lineage",
        "version": version.name,
        "unit": version.unit,
        "state": str(version.state),
        "digest": version.digest,
        "signed_by": signed_by(version.signature),
        "base": {"fingerprint": version.base_fingerprint, **evidence.get("base", {})},
        "data": evidence.get("data"),
        "import": evidence.get("import"),
        "weakened": evidence.get("weakened"),
        "job": None if known.job is None else _wire_job(known.job),
        "recipe": evidence.get("recipe"),
        "environment": evidence.get("environment"),
        "cost": known.cost.as_json(),
        "gates": [dataclasses.asdict(gate) for gate in version.gates],
        "author": known.author,
        "approvals": [wire_approval(version.name, said) for said in known.approvals],
        "changes": _changes(runtime, principal, version),
        "rollouts": [_wire_rollout(each, version) for each in _rollouts(runtime, version)],
        "requests": sum(
            each.used.requests for each in used if each.key.traffic is Traffic.INTERACTIVE
        ),
        "usage": [_wire_usage(each) for each in used],
    }


def _wire_job(job: Job) -> dict[str, Any]:
    return {
        "id": job.id,
        "created_by": job.created_by,
        "created_at": int(job.created_at),
        "finished_at": whole(job.finished_at),
        "status": str(job.status),
        "training_file": job.training_file,
        "validation_file": job.validation_file,
        "seed": job.seed,
    }


def _changes(runtime: Runtime, principal: Principal, version: Version) -> list[dict[str, Any]]:
    """Who did what to it, when and why, oldest first, by the audit log."""
    which = Which(subject=f"version/{version.name}")
    found = _pages(
        lambda after: runtime.registry.audit.list(principal, which, after=after, limit=_PAGE),
        lambda entry: str(entry.seq),
    )
    return [
        {
            "entry": each.seq,
            "created_at": each.at,
            "actor": each.actor,
            "role": each.role,
            "action": each.action,
            "reason": each.reason,
            "state": (each.after or {}).get("state"),
        }
        for each in reversed(list(found))
    ]


def _rollouts(runtime: Runtime, version: Version) -> Sequence[Rollout]:
    """Those that put it before callers or took it away, oldest first."""
    unit = runtime.units.current.units.by_name.get(version.unit)
    aliases = {version.adapter, *(() if unit is None else unit.aliases)}
    found = [each for alias in aliases for each in _of_alias(runtime, Alias(alias), version)]
    return sorted(found, key=lambda each: each.id)


def _of_alias(runtime: Runtime, alias: Alias, version: Version) -> Iterator[Rollout]:
    history = runtime.registry.rollouts.history
    found = _pages(
        lambda after: history(alias, version.unit, after=after, limit=_PAGE),
        lambda rollout: str(rollout.id),
    )
    return (each for each in found if version.id in (each.target, each.replaced))


def _pages(read: Callable[[str | None], Page[T]], cursor_of: Callable[[T], str]) -> Iterator[T]:
    """What several pages hold, as far as `_MOST`."""
    after = None
    for _ in range(_MOST // _PAGE):
        page = read(after)
        yield from page.items
        if not page.has_more:
            return
        after = cursor_of(page.items[-1])


def _wire_rollout(rollout: Rollout, version: Version) -> dict[str, Any]:
    """`as` says whether it is what came or what went."""
    return {
        "id": str(rollout.id),
        "alias": rollout.alias,
        "action": str(rollout.action),
        "state": str(rollout.state),
        "actor": rollout.actor,
        "reason": rollout.reason,
        "created_at": rollout.created_at,
        "flipped_at": rollout.flipped_at,
        "as": "target" if rollout.target == version.id else "replaced",
        "weight": rollout.weight,
    }


def _wire_usage(each: DayUsage) -> dict[str, Any]:
    return {
        "day": each.day * _DAY,
        "alias": each.key.alias,
        "traffic": each.key.traffic.value,
        "requests": each.used.requests,
        "prompt_tokens": each.used.prompt_tokens,
        "completion_tokens": each.used.completion_tokens,
    }
