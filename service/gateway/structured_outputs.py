"""Rebuilds `response_format` and `tools` from known keys, and bounds every schema in them.

Only what OpenAI has: vLLM's `structural_tag`, and a grammar or a pattern by itself, are other
compilers' inputs, with limits of their own that nobody here has measured.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from adapters.errors import InvalidRequest
from service.gateway.schema_bounds import check_schema

MAX_TOOLS = 128
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
    check_schema(wrapped.get("schema"), param=param)
    made: dict[str, Any] = {"name": _text(wrapped, "name", "response_format.json_schema", param)}
    if wrapped.get("description") is not None:
        made["description"] = _text(wrapped, "description", "response_format.json_schema", param)
    if wrapped.get("strict") is not None:
        made["strict"] = _bool(wrapped, "strict", "response_format.json_schema", param)
    return {"type": kind, "json_schema": {**made, "schema": wrapped["schema"]}}


def rebuild_tools(value: object) -> list[dict[str, Any]]:
    """The same tools, made of known keys. Raises InvalidRequest."""
    if not isinstance(value, list) or len(value) > MAX_TOOLS:
        raise InvalidRequest(f"`tools` must be a list of at most {MAX_TOOLS}", param="tools")
    return [_tool(tool, f"tools.{at}") for at, tool in enumerate(value)]


def _tool(value: object, at: str) -> dict[str, Any]:
    said = _object(value, at, "tools")
    if said.get("type") != "function":
        raise InvalidRequest(f"`{at}.type` must be `function`", param="tools")
    place = f"{at}.function"
    function = _object(said.get("function"), place, "tools")
    made: dict[str, Any] = {"name": _text(function, "name", place, "tools")}
    if function.get("description") is not None:
        made["description"] = _text(function, "description", place, "tools")
    if function.get("parameters") is not None:
        check_schema(function["parameters"], param="tools")
        made["parameters"] = function["parameters"]
    if function.get("strict") is not None:
        made["strict"] = _bool(function, "strict", place, "tools")
    return {"type": "function", "function": made}


def rebuild_tool_choice(value: object) -> str | dict[str, Any]:
    """The same choice, made of known keys. Raises InvalidRequest."""
    if isinstance(value, str) and value in ("none", "auto", "required"):
        return value
    if not isinstance(value, dict) or value.get("type") != "function":
        raise InvalidRequest(
            "`tool_choice` must be `none`, `auto`, `required` or a function", param="tool_choice"
        )
    place = "tool_choice.function"
    function = _object(value.get("function"), place, "tool_choice")
    name = _text(function, "name", place, "tool_choice")
    return {"type": "function", "function": {"name": name}}


def grammars(body: Mapping[str, Any]) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """The schemas that the engine will make grammars of, with the field that each stands in."""
    wanted = body.get("response_format", {})
    if wanted.get("type") == "json_schema":
        yield "response_format", wanted["json_schema"]["schema"]
    choice = body.get("tool_choice", "auto")
    if choice not in ("none", "auto") and "tools" in body:
        yield "tools", {"anyOf": [one["function"].get("parameters", {}) for one in body["tools"]]}


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
