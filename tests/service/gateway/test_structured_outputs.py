"""Response formats and tools are made anew from the keys that are known."""

from __future__ import annotations

from typing import Any

import pytest

from adapters.errors import InvalidRequest
from service.gateway.structured_outputs import (
    grammars,
    rebuild_response_format,
    rebuild_tool_choice,
    rebuild_tools,
)
from tests.hostile_schemas import TOO_MUCH

SCHEMA = {"type": "object", "properties": {"a": {"type": "string"}}}
FORMAT = {"type": "json_schema", "json_schema": {"name": "n", "strict": True, "schema": SCHEMA}}
TOOL = {"type": "function", "function": {"name": "f", "description": "d", "parameters": SCHEMA}}


@pytest.mark.parametrize("format_", [FORMAT, {"type": "text"}, {"type": "json_object"}])
def test_openais_formats_pass(format_: dict[str, Any]) -> None:
    assert rebuild_response_format(format_) == format_


def test_what_is_not_openais_is_not_handed_on() -> None:
    wrapped = {**FORMAT["json_schema"], "backend": "xgrammar"}  # type: ignore[dict-item]
    odd = {"type": "json_schema", "json_schema": wrapped, "structures": []}
    assert rebuild_response_format(odd) == FORMAT
    odd = {**TOOL, "x": 1, "function": {**TOOL["function"], "backend": 1}}  # type: ignore[dict-item]
    assert rebuild_tools([odd]) == [TOOL]


@pytest.mark.parametrize(
    "wrong",
    [
        "json_object", [], {}, {"type": "structural_tag", "format": {}}, {"type": "grammar"},
        {"type": "regex"}, {"type": ["text"]}, {"type": "json_schema"},
        {"type": "json_schema", "json_schema": {"name": "n"}},
        {"type": "json_schema", "json_schema": {"schema": {}}},
        {"type": "json_schema", "json_schema": {"name": "n", "schema": "{}"}},
        {"type": "json_schema", "json_schema": {"name": "n", "schema": {}, "strict": "SECRET"}},
        {"type": "json_schema", "json_schema": {"name": ["SECRET"], "schema": {}}},
    ],
)  # fmt: skip
def test_another_format_is_refused_by_its_field(wrong: object) -> None:
    with pytest.raises(InvalidRequest) as refused:
        rebuild_response_format(wrong)
    assert refused.value.param == "response_format"
    assert "SECRET" not in refused.value.message


@pytest.mark.parametrize("name", TOO_MUCH)
def test_a_tools_parameters_have_the_same_bounds(name: str) -> None:
    with pytest.raises(InvalidRequest) as refused:
        rebuild_tools(
            [TOOL, {"type": "function", "function": {"name": "f", "parameters": TOO_MUCH[name]}}]
        )
    assert refused.value.param == "tools"


@pytest.mark.parametrize(
    "wrong",
    [{}, "x", [5], [{}], [{**TOOL, "type": "x"}], [{"type": "function"}], [TOOL] * 129,
     [{"type": "function", "function": {"name": ""}}],
     [{"type": "function", "function": {"name": "f", "parameters": "x"}}]],
)  # fmt: skip
def test_tools_that_cannot_be_read_are_refused(wrong: object) -> None:
    with pytest.raises(InvalidRequest) as refused:
        rebuild_tools(wrong)
    assert refused.value.param == "tools"


def test_a_tool_is_chosen_by_a_word_or_by_its_name() -> None:
    chosen = {"type": "function", "function": {"name": "f"}}
    for choice in ("none", "auto", "required", chosen):
        assert rebuild_tool_choice(choice) == choice
    nameless: dict[str, Any] = {**chosen, "function": {"name": 1}}
    wrongs: list[object] = ["SECRET", 1, [], {"type": "function"}, nameless]
    for wrong in wrongs:
        with pytest.raises(InvalidRequest) as refused:
            rebuild_tool_choice(wrong)
        assert refused.value.param == "tool_choice"


def test_only_what_becomes_a_grammar_is_compiled() -> None:
    assert list(grammars({})) == []
    assert list(grammars({"response_format": {"type": "json_object"}, "tools": [TOOL]})) == []
    assert list(grammars({"response_format": FORMAT})) == [("response_format", SCHEMA)]
    forced = {"tools": [TOOL, TOOL], "tool_choice": "required"}
    assert list(grammars(forced)) == [("tools", {"anyOf": [SCHEMA, SCHEMA]})]
