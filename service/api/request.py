"""Reads what every router needs of a request: runtime, principal, checked body, page.

Bodies and queries are checked here rather than by FastAPI, whose own errors echo the input. What is
handed to handlers is made by coroutines: FastAPI runs plain functions in threads that uploads use.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Annotated, Any, TypeVar

from fastapi import Depends, Query, Request, Response
from fastapi.dependencies.utils import get_flat_dependant
from fastapi.routing import APIRoute
from pydantic import BaseModel, ValidationError

from adapters.domain.names import Alias, Unit
from adapters.domain.pages import Page
from adapters.domain.principals import Principal
from adapters.errors import InvalidRequest, NotFound, NotPermitted
from service.runtime import Runtime

M = TypeVar("M", bound=BaseModel)

MAX_LIMIT = 100
IDEMPOTENCY_KEY = "[!-~]([ -~]{0,253}[!-~])?"
MAX_FILES = 10_000
"""Files of one page, also where nothing is said: OpenAI's number."""


async def runtime_of(request: Request) -> Runtime:
    """The composition root of this process."""
    runtime: Runtime = request.app.state.wardrobe
    return runtime


async def principal_of(request: Request) -> Principal:
    """Who the gateway found this request to come from."""
    principal: Principal = request.state.principal
    return principal


async def owner_of(request: Request) -> Principal:
    """The same, where it may own files and jobs. Raises NotPermitted for the trainer."""
    principal = await principal_of(request)
    reach(principal)
    return principal


@dataclass(frozen=True, kw_only=True)
class Cursor:
    """OpenAI's `after` and `limit`."""

    after: str | None
    limit: int


Text = Annotated[str | None, Query()]
"""A query parameter. Always text: what FastAPI says of another type repeats what was sent."""


async def cursor_of(after: Text = None, limit: Text = None) -> Cursor:
    """Raises InvalidRequest for a limit that is no number or out of range."""
    return _cursor(after, limit, default=20, most=MAX_LIMIT)


async def files_cursor_of(after: Text = None, limit: Text = None) -> Cursor:
    """The same for files, of which a page may hold more."""
    return _cursor(after, limit, default=MAX_FILES, most=MAX_FILES)


def _cursor(after: str | None, limit: str | None, *, default: int, most: int) -> Cursor:
    text = str(default) if limit is None else limit
    if not text.isascii() or not text.isdigit() or len(text) > 6 or not int(text) >= 1:
        raise InvalidRequest("`limit` must be a whole number from 1", param="limit")
    return Cursor(after=after, limit=min(int(text), most))


async def known_query(request: Request) -> None:
    """Refuses a query parameter that the route does not declare. Raises InvalidRequest."""
    route = request.scope["route"]
    declared = (
        {one.alias for one in get_flat_dependant(route.dependant).query_params}
        if isinstance(route, APIRoute)
        else set()
    )
    for name in request.query_params:
        if name.partition("[")[0] not in declared:
            raise unknown_parameter(name, "query parameter")


def unknown_parameter(name: str, kind: str) -> InvalidRequest:
    """The refusal of what nobody reads, so that nobody believes it took effect."""
    return InvalidRequest(
        f"`{name[:64]}` is not a {kind} of this endpoint",
        param=name[:64],
        code="unknown_parameter",
    )


RuntimeOf = Annotated[Runtime, Depends(runtime_of)]
PrincipalOf = Annotated[Principal, Depends(principal_of)]
OwnerOf = Annotated[Principal, Depends(owner_of)]
CursorOf = Annotated[Cursor, Depends(cursor_of)]
FilesCursorOf = Annotated[Cursor, Depends(files_cursor_of)]


async def body_of(request: Request, model: type[M]) -> M:
    """The JSON body as `model`. Raises InvalidRequest naming the first wrong field.

    Types are strict: `true` is no number and "1" neither.
    """
    raw = await request.body()
    try:
        return model.model_validate_json(raw if raw.strip() else b"{}", strict=True)
    except ValidationError as error:
        mistake = error.errors(include_input=False, include_url=False, include_context=False)[0]
        if mistake["type"] == "json_invalid":
            raise InvalidRequest("the body is not valid JSON") from None
        field = ".".join(str(part) for part in mistake["loc"])[:64]
        raise InvalidRequest(f"{field or 'body'}: {mistake['msg']}", param=field or None) from None


def named_unit(runtime: Runtime, principal: Principal, named: str | None, *, param: str) -> Unit:
    """Whose thing it becomes: the caller's own unit, or the one that an admin names.

    Raises NotFound for a unit that is unknown or another's, InvalidRequest where none is named.
    """
    unit = principal.unit or named
    if unit is None:
        raise InvalidRequest(f"an admin key must name the unit as `{param}`", param=param)
    if named is not None and not principal.may_act_for(named):
        raise NotFound(f"there is no unit `{named[:64]}`", param=param, code="unit_not_found")
    return Unit(runtime.units.current.units.get(unit).unit)


def idempotency_key_of(request: Request) -> str | None:
    """What a client repeats a command under. Raises InvalidRequest for what can be none."""
    key = request.headers.get("idempotency-key")
    if key is not None and not re.fullmatch(IDEMPOTENCY_KEY, key):
        raise InvalidRequest("`Idempotency-Key` may have 1 to 255 printable ASCII characters")
    return key


def tell_replay(response: Response, *, replayed: bool) -> None:
    """Marks an answer that an earlier command under the same `Idempotency-Key` has given."""
    if replayed:
        response.headers["idempotency-replayed"] = "true"


def reach(principal: Principal) -> Unit | None:
    """The unit whose things a principal sees; None is every unit's. Raises NotPermitted."""
    if principal.unit is None and not principal.sees_every_unit:
        raise NotPermitted("this key is about no unit's things")
    return principal.unit


def unit_of_alias(runtime: Runtime, principal: Principal, alias: str) -> Unit:
    """Whose alias it is. Raises NotFound when unknown or another unit's."""
    owner = runtime.units.current.units.owner_of.get(Alias(alias))
    if owner is None or not principal.may_act_for(owner):
        raise NotFound(f"there is no adapter `{alias[:64]}`", code="adapter_not_found")
    return owner


def aliases_of(runtime: Runtime, unit: Unit) -> set[Alias]:
    """Those that the configuration gives to the unit; none where it is gone."""
    owners = runtime.units.current.units.owner_of.items()
    return {alias for alias, owner in owners if owner == unit}


def page(wire_items: list[dict[str, Any]], listed: Page[Any]) -> dict[str, Any]:
    """A list object as OpenAI's cursor pages want it."""
    return {
        "object": "list",
        "data": wire_items,
        "first_id": wire_items[0]["id"] if wire_items else None,
        "last_id": wire_items[-1]["id"] if wire_items else None,
        "has_more": listed.has_more,
    }
