"""Rebuilds the formats of answers from known keys, and bounds every schema in them.

Only what OpenAI has: vLLM's `structural_tag`, and a grammar or a pattern by itself, are other
compilers' inputs, with limits of their own that nobody here has measured.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from adapters.errors import InvalidRequest
from service.gateway.schema_bounds import check_schema
from service.gateway.tools import forced_schema

FORMATS = ("text", "json_object", "json_schema")


def rebuild_response_format(value: object) -> dict[str, Any]:
    """The same format, made of known keys. Raises InvalidRequest."""
    param = "response_format"
    said = _object(value, param, param)
    kind = said.get("type")
    if kind not in FORMATS:
        raise InvalidRequest(
            f"`response_format.type` must be one of {', '.join(FORMATS)}", param=param, code=param
        )
    if kind != "json_schema":
        return {"type": kind}
    wrapped = _object(said.get("json_schema"), "response_format.json_schema", param)
    return {"type": kind, "json_schema": _schema(wrapped, "response_format.json_schema", param)}


def rebuild_text(value: object) -> dict[str, Any]:
    """The `text` of a response: its format, made of known keys. Raises InvalidRequest."""
    said = _object(value, "text", "text")
    if said.get("format") is None:
        return {}
    format_ = _object(said["format"], "text.format", "text")
    kind = format_.get("type")
    if kind not in FORMATS:
        raise InvalidRequest(
            f"`text.format.type` must be one of {', '.join(FORMATS)}", param="text"
        )
    if kind != "json_schema":
        return {"format": {"type": kind}}
    return {"format": {"type": kind, **_schema(format_, "text.format", "text")}}


def grammars(body: Mapping[str, Any]) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """The schemas that the engine will make grammars of, with the field that each stands in."""
    wanted = body.get("response_format", {})
    if wanted.get("type") == "json_schema":
        yield "response_format", wanted["json_schema"]["schema"]
    wanted = body.get("text", {}).get("format", {})
    if wanted.get("type") == "json_schema":
        yield "text", wanted["schema"]
    forced = forced_schema(body)
    if forced is not None:
        yield "tools", forced


def _schema(said: Mapping[str, Any], at: str, param: str) -> dict[str, Any]:
    """A schema and what is said about it."""
    check_schema(said.get("schema"), param=param)
    made: dict[str, Any] = {"name": _text(said, "name", at, param)}
    if said.get("description") is not None:
        made["description"] = _text(said, "description", at, param)
    if said.get("strict") is not None:
        made["strict"] = _bool(said, "strict", at, param)
    return {**made, "schema": said["schema"]}


def _object(value: object, at: str, param: str) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise InvalidRequest(f"`{at}` must be a JSON object", param=param)
    return value


def _text(held: Mapping[str, Any], key: str, at: str, param: str) -> str:
    value = held.get(key)
    if not isinstance(value, str) or (not value and key == "name"):
        raise InvalidRequest(f"`{at}.{key}` must be text", param=param)
    return value


def _bool(held: Mapping[str, Any], key: str, at: str, param: str) -> bool:
    value = held.get(key)
    if not isinstance(value, bool):
        raise InvalidRequest(f"`{at}.{key}` must be true or false", param=param)
    return value
