"""What every router reads from a request: the runtime, the caller, a checked body, a page.

Bodies and queries are checked here rather than by FastAPI, whose own errors echo the input.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated, Any, TypeVar

import pydantic_core
from fastapi import Depends, Request
from pydantic import BaseModel, ValidationError

from adapters.domain.names import Alias, Unit
from adapters.domain.pages import Page
from adapters.domain.principals import Caller, Role
from adapters.errors import InvalidRequest, NotFound, NotPermitted
from service.runtime import Runtime

M = TypeVar("M", bound=BaseModel)
T = TypeVar("T")

MAX_LIMIT = 100


def runtime_of(request: Request) -> Runtime:
    """The composition root of this process."""
    runtime: Runtime = request.app.state.wardrobe
    return runtime


def caller_of(request: Request) -> Caller:
    """Who the gateway found this request to come from."""
    caller: Caller = request.state.caller
    return caller


@dataclass(frozen=True, kw_only=True)
class Cursor:
    """OpenAI's `after` and `limit`."""

    after: str | None
    limit: int


def cursor_of(request: Request) -> Cursor:
    """Raises InvalidRequest for a limit that is no number or out of range."""
    text = request.query_params.get("limit", "20")
    if not text.isascii() or not text.isdigit() or len(text) > 6 or not int(text) >= 1:
        raise InvalidRequest("`limit` must be a whole number from 1", param="limit")
    return Cursor(after=request.query_params.get("after"), limit=min(int(text), MAX_LIMIT))


RuntimeOf = Annotated[Runtime, Depends(runtime_of)]
CallerOf = Annotated[Caller, Depends(caller_of)]
CursorOf = Annotated[Cursor, Depends(cursor_of)]


async def body_of(request: Request, model: type[M]) -> M:
    """The JSON body as `model`. Raises InvalidRequest naming the first wrong field."""
    raw = await request.body()
    try:
        document = pydantic_core.from_json(raw) if raw.strip() else {}
    except ValueError:
        raise InvalidRequest("the body is not valid JSON") from None
    try:
        return model.model_validate(document)
    except ValidationError as error:
        mistake = error.errors(include_input=False, include_url=False, include_context=False)[0]
        field = ".".join(str(part) for part in mistake["loc"])[:64]
        raise InvalidRequest(f"{field or 'body'}: {mistake['msg']}", param=field or None) from None


async def in_thread(call: Callable[..., T], *args: Any, **kwargs: Any) -> T:
    """Runs a blocking registry or store call off the event loop."""
    return await asyncio.to_thread(call, *args, **kwargs)


def reach(caller: Caller) -> Unit | None:
    """The unit whose things a caller sees; None is every unit's. Raises NotPermitted."""
    if caller.role is Role.TRAINER:
        raise NotPermitted("the trainer's key evaluates versions and nothing else")
    return caller.unit


def unit_of_alias(runtime: Runtime, caller: Caller, alias: str) -> Unit:
    """Whose alias it is. Raises NotFound when unknown or another unit's."""
    owner = runtime.units.current.units.owner_of.get(Alias(alias))
    if owner is None or not caller.may_act_for(owner):
        raise NotFound(f"there is no adapter `{alias[:64]}`", code="adapter_not_found")
    return owner


def page(wire_items: list[dict[str, Any]], listed: Page[Any]) -> dict[str, Any]:
    """A list object as OpenAI's cursor pages want it."""
    return {
        "object": "list",
        "data": wire_items,
        "first_id": wire_items[0]["id"] if wire_items else None,
        "last_id": wire_items[-1]["id"] if wire_items else None,
        "has_more": listed.has_more,
    }


def now() -> float:
    """Seconds since the epoch."""
    return time.time()
