"""Rebuilds tools and the choice among them from known keys, in the words of chat and of responses.

Only functions: other tools are run by OpenAI itself, and nothing is run here. A tool's `strict` is
not handed on: a call that the base writes of its own will is read, not forced; one that is forced
(`required`, or by name) keeps to its schema always.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import pydantic_core

from adapters.errors import InvalidRequest
from service.engine.tool_calls import NO_PARAMETERS, call_schema
from service.gateway.schema_bounds import check_schema

MAX_TOOLS = 128
MAX_TOOL_BYTES = 256 * 1024
"""Of all of them together: each one's schema is walked, on the event loop."""
NOT_HERE = (
    "tool calls are not supported with this base model: its profile names no parser that reads them"
)


def rebuild_tools(value: object) -> list[dict[str, Any]]:
    """Chat's tools, made of known keys. Raises InvalidRequest."""
    return [
        {"type": "function", "function": _function(said.get("function"), f"{at}.function")}
        for said, at in _listed(value)
    ]


def rebuild_flat_tools(value: object) -> list[dict[str, Any]]:
    """The same for responses, where a tool is its function. Raises InvalidRequest."""
    return [
        {"type": "function", "strict": False, "parameters": dict(NO_PARAMETERS)}
        | _function(said, at)
        for said, at in _listed(value)
    ]


def _listed(value: object) -> Iterator[tuple[dict[str, Any], str]]:
    if not isinstance(value, list) or len(value) > MAX_TOOLS:
        raise InvalidRequest(f"`tools` must be a list of at most {MAX_TOOLS}", param="tools")
    if len(pydantic_core.to_json(value)) > MAX_TOOL_BYTES:
        raise InvalidRequest(f"`tools` may have at most {MAX_TOOL_BYTES} bytes", param="tools")
    for number, tool in enumerate(value):
        at = f"tools.{number}"
        if not isinstance(tool, dict):
            raise InvalidRequest(f"`{at}` must be a JSON object", param="tools")
        if tool.get("type") != "function":
            raise InvalidRequest(f"`{at}.type` must be `function`", param="tools")
        yield tool, at


def _function(said: object, at: str) -> dict[str, Any]:
    if not isinstance(said, dict):
        raise InvalidRequest(f"`{at}` must be a JSON object", param="tools")
    made: dict[str, Any] = {"name": _name(said, at, "tools")}
    if said.get("description") is not None:
        if not isinstance(said["description"], str):
            raise InvalidRequest(f"`{at}.description` must be text", param="tools")
        made["description"] = said["description"]
    if said.get("parameters") is not None:
        check_schema(said["parameters"], param="tools")
        made["parameters"] = said["parameters"]
    if not isinstance(said.get("strict"), bool | None):
        raise InvalidRequest(f"`{at}.strict` must be true or false", param="tools")
    return made


def _name(held: Mapping[str, Any], at: str, param: str) -> str:
    name = held.get("name")
    if not isinstance(name, str) or not name:
        raise InvalidRequest(f"`{at}.name` must be text", param=param)
    return name


def rebuild_tool_choice(value: object) -> str | dict[str, Any]:
    """Chat's choice, made of known keys. Raises InvalidRequest."""
    if (word := _word(value)) is not None:
        return word
    place = "tool_choice.function"
    function = value.get("function") if isinstance(value, dict) else None
    if not isinstance(function, dict):
        raise InvalidRequest(f"`{place}` must be a JSON object", param="tool_choice")
    return {"type": "function", "function": {"name": _name(function, place, "tool_choice")}}


def rebuild_flat_choice(value: object) -> str | dict[str, Any]:
    """The same for responses. Raises InvalidRequest."""
    if (word := _word(value)) is not None:
        return word
    held = value if isinstance(value, dict) else {}
    return {"type": "function", "name": _name(held, "tool_choice", "tool_choice")}


def _word(value: object) -> str | None:
    if isinstance(value, str) and value in ("none", "auto", "required"):
        return value
    if not isinstance(value, dict) or value.get("type") != "function":
        raise InvalidRequest(
            "`tool_choice` must be `none`, `auto`, `required` or a function", param="tool_choice"
        )
    return None


def settle(body: dict[str, Any], *, supported: bool) -> None:
    """Checks tools, choice and calls against each other; what says nothing is taken out.

    Raises InvalidRequest.
    """
    functions = _functions(body)
    if not functions:
        _without_tools(body)
    elif not supported:
        raise InvalidRequest(NOT_HERE, param="tools", code="unsupported_parameter")
    elif (name := _chosen(body)) is not None and name not in [one["name"] for one in functions]:
        raise InvalidRequest("`tool_choice` names none of `tools`", param="tool_choice")
    if not supported and any(_speaks_of_tools(one) for one in body.get("messages", ())):
        raise InvalidRequest(NOT_HERE, param="messages", code="unsupported_parameter")


def _without_tools(body: dict[str, Any]) -> None:
    if body.get("tool_choice", "auto") not in ("auto", "none"):
        raise InvalidRequest("`tool_choice` needs `tools`", param="tool_choice")
    for name in ("tools", "tool_choice", "parallel_tool_calls"):
        body.pop(name, None)


def _speaks_of_tools(message: Mapping[str, Any]) -> bool:
    return message["role"] == "tool" or "tool_calls" in message


def _functions(body: Mapping[str, Any]) -> Sequence[Mapping[str, Any]]:
    return [tool.get("function", tool) for tool in body.get("tools", ())]


def _chosen(body: Mapping[str, Any]) -> str | None:
    choice = body.get("tool_choice")
    if not isinstance(choice, dict):
        return None
    name: str = choice.get("function", choice)["name"]
    return name


def forced_schema(body: Mapping[str, Any]) -> Mapping[str, Any] | None:
    """The schema that the engine makes a grammar of where a call is forced; None where none is.

    As vLLM makes it: `vllm/tool_parsers/utils.py`, `get_json_schema_from_tools`, with our shape of
    a call. Raises InvalidRequest where all tools together are past the bounds.
    """
    choice = body.get("tool_choice", "auto")
    if not body.get("tools") or choice in ("none", "auto"):
        return None
    functions = _functions(body)
    if (name := _chosen(body)) is not None:
        return next(_parameters(one) for one in functions if one["name"] == name)
    schema = _any_call(functions, several=body.get("parallel_tool_calls") is not False)
    check_schema(schema, param="tools")
    return schema


def _parameters(function: Mapping[str, Any]) -> Mapping[str, Any]:
    return function.get("parameters") or NO_PARAMETERS


def _any_call(functions: Sequence[Mapping[str, Any]], *, several: bool) -> dict[str, Any]:
    """A list of calls; definitions of all tools are put together at its top."""
    calls, definitions = [], _Definitions()
    for one in functions:
        parameters = {key: said for key, said in _parameters(one).items() if key != "$defs"}
        definitions.take(_parameters(one).get("$defs"))
        calls.append(call_schema(one["name"], parameters))
    schema: dict[str, Any] = {
        "type": "array", "minItems": 1, "items": {"type": "object", "anyOf": calls},
    }  # fmt: skip
    if not several:
        schema["maxItems"] = 1
    return {**schema, "$defs": definitions.all} if definitions.all else schema


class _Definitions:
    """Definitions by name; one name cannot mean two things."""

    def __init__(self) -> None:
        self.all: dict[str, Any] = {}

    def take(self, more: object) -> None:
        for name, schema in more.items() if isinstance(more, dict) else ():
            if self.all.setdefault(name, schema) != schema:
                raise InvalidRequest(
                    "two tools define different things by one name in `$defs`", param="tools"
                )
