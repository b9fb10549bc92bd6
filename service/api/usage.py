"""`/v1/organization/usage/completions`: requests, tokens and cost by day, in OpenAI's shape.

OpenAI's project is our unit and its model our version; alias and kind of traffic are told apart by
`x_alias` and `x_traffic`, and each result carries what it cost (`x_cost`).
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Sequence
from dataclasses import astuple, dataclass, fields
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Request

from adapters.domain.evaluations import BASE
from adapters.errors import InvalidRequest
from adapters.registry.ports import DayUsage, Used
from service.api.request import OwnerOf, RuntimeOf

router = APIRouter(prefix="/v1/organization/usage")

DAY = 86_400
MAX_DAYS = 31
"""Of one page, as at OpenAI; a week where nothing is said."""
NANO = 10**9
GROUPS = ("project_id", "model", "x_alias", "x_traffic")


@dataclass(frozen=True, kw_only=True)
class Asked:
    """What of the usage is asked for; days since 1970, `until` not included."""

    since: int
    until: int
    days: int
    """Most of one page."""
    group_by: frozenset[str]
    units: frozenset[str]
    versions: frozenset[str]


@dataclass(frozen=True, kw_only=True)
class Span:
    """The query's days."""

    start_time: str | None = None
    end_time: str | None = None
    bucket_width: str = "1d"
    limit: str | None = None
    page: str | None = None


async def asked_of(
    request: Request,
    span: Annotated[Span, Depends(Span)],
    group_by: str | None = None,
    project_ids: str | None = None,
    models: str | None = None,
) -> Asked:
    """The query; the three lists are declared here and read with all their repetitions.

    Raises InvalidRequest naming the parameter.
    """
    if span.bucket_width != "1d":
        raise InvalidRequest("`bucket_width` must be `1d`", param="bucket_width")
    since, until = _days(span.start_time, span.end_time, span.page)
    groups = _several(request, "group_by")
    if groups - set(GROUPS):
        raise InvalidRequest(f"`group_by` may hold {', '.join(GROUPS)}", param="group_by")
    limit = _number(span.limit, "limit", 7)
    if not 1 <= limit <= MAX_DAYS:
        raise InvalidRequest(f"`limit` must be from 1 to {MAX_DAYS}", param="limit")
    return Asked(
        since=since,
        until=until,
        days=limit,
        group_by=groups,
        units=_several(request, "project_ids"),
        versions=_several(request, "models"),
    )


@router.get("/completions")
async def completions(
    runtime: RuntimeOf, principal: OwnerOf, asked: Annotated[Asked, Depends(asked_of)]
) -> dict[str, Any]:
    """A page of days. What was used in the last two seconds may not be in it yet."""
    last = min(asked.until, asked.since + asked.days)
    found = await runtime.threads.read(
        principal, runtime.registry.usage.days, principal, since=asked.since, until=last
    )
    currency = runtime.settings.currency
    return {
        "object": "page",
        "data": [
            _bucket(day, [each for each in found if each.day == day], asked, currency)
            for day in range(asked.since, last)
        ],
        "has_more": last < asked.until,
        "next_page": f"day_{last}" if last < asked.until else None,
    }


def _bucket(day: int, found: Iterable[DayUsage], asked: Asked, currency: str) -> dict[str, Any]:
    sums: dict[tuple[str | None, ...], Used] = {}
    for each in found:
        named = _named(each)
        if asked.units and named["project_id"] not in asked.units:
            continue
        if asked.versions and named["model"] not in asked.versions:
            continue
        group = tuple(named[name] if name in asked.group_by else None for name in GROUPS)
        sums[group] = _added(sums.get(group, Used()), each.used)
    return {
        "object": "bucket",
        "start_time": day * DAY,
        "end_time": (day + 1) * DAY,
        "results": [_result(group, used, currency) for group, used in sums.items()],
    }


def _named(usage: DayUsage) -> dict[str, str]:
    key = usage.key
    return {
        "project_id": key.unit,
        "model": key.alias if key.version == BASE else key.version,
        "x_alias": key.alias,
        "x_traffic": key.traffic.value,
    }


def _added(one: Used, other: Used) -> Used:
    names = [field.name for field in fields(Used)]
    sums = map(sum, zip(astuple(one), astuple(other), strict=True))
    return Used(**dict(zip(names, sums, strict=True)))


def _result(group: Sequence[str | None], used: Used, currency: str) -> dict[str, Any]:
    return {
        "object": "organization.usage.completions.result",
        "input_tokens": used.prompt_tokens,
        "output_tokens": used.completion_tokens,
        "num_model_requests": used.requests,
        **dict(zip(GROUPS, group, strict=True)),
        "x_cost": {"value": used.cost_nano / NANO, "currency": currency},
    }


def _days(start: str | None, end: str | None, page: str | None) -> tuple[int, int]:
    """From which day, and before which; a day that has begun is told whole."""
    week = (int(time.time()) // DAY - 6) * DAY
    at = _number(start, "start_time", week)
    since, until = at // DAY, -(-_number(end, "end_time", at + 7 * DAY) // DAY)
    if page is not None:
        since = max(since, _page(page))
    return since, max(since, until)


def _number(text: str | None, name: str, default: int | None = None) -> int:
    if text is None and default is not None:
        return default
    if text is None or not text.isascii() or not text.isdigit() or len(text) > 10:
        raise InvalidRequest(f"`{name}` must be a whole number", param=name)
    return int(text)


def _page(text: str) -> int:
    number = text.removeprefix("day_")
    if number == text or not number.isascii() or not number.isdigit() or len(number) > 6:
        raise InvalidRequest("`page` must be the `next_page` of a page before", param="page")
    return int(number)


def _several(request: Request, name: str) -> frozenset[str]:
    """A repeated parameter, also with the SDK's brackets."""
    query = request.query_params
    return frozenset((*query.getlist(name), *query.getlist(f"{name}[]")))
