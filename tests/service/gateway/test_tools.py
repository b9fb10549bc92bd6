"""Tools, the choice among them, and what becomes a grammar of them."""

from __future__ import annotations

from typing import Any

import pytest

from adapters.errors import InvalidRequest
from service.gateway.tools import (
    forced_schema,
    rebuild_flat_choice,
    rebuild_flat_tools,
    rebuild_tool_choice,
    rebuild_tools,
    settle,
)
from tests.hostile_schemas import TOO_MUCH

SCHEMA = {"type": "object", "properties": {"a": {"type": "string"}}}
FUNCTION = {"name": "f", "description": "d", "parameters": SCHEMA}
TOOL: dict[str, Any] = {"type": "function", "function": FUNCTION}
FLAT: dict[str, Any] = {"type": "function", "strict": False, **FUNCTION}
CALLED = {"id": "c", "type": "function", "function": {"name": "f", "arguments": "{}"}}


def test_of_a_tool_only_known_keys_are_handed_on_and_strict_is_not() -> None:
    odd = {**TOOL, "x": 1, "function": {**FUNCTION, "backend": 1, "strict": True}}
    assert rebuild_tools([odd]) == [TOOL]
    assert rebuild_flat_tools([{**FLAT, "x": 1, "strict": True, "defer_loading": True}]) == [FLAT]


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
    with pytest.raises(InvalidRequest):
        rebuild_flat_tools(wrong)


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


def test_a_response_names_its_tool_without_a_wrapping() -> None:
    chosen = {"type": "function", "name": "f"}
    for choice in ("none", "auto", "required", chosen):
        assert rebuild_flat_choice(choice) == choice
    for wrong in ("SECRET", {"type": "mcp"}, {"type": "function", "function": {"name": "f"}}):
        with pytest.raises(InvalidRequest) as refused:
            rebuild_flat_choice(wrong)
        assert refused.value.param == "tool_choice"


@pytest.mark.parametrize("kind", ["web_search", "file_search", "mcp", "custom", "code_interpreter"])
def test_a_tool_that_somebody_would_have_to_run_is_refused(kind: str) -> None:
    with pytest.raises(InvalidRequest, match=r"`tools\.0\.type` must be `function`"):
        rebuild_flat_tools([{"type": kind}])


def test_tools_are_bounded_together_before_any_of_them_is_walked() -> None:
    many = {"const": [0] * 4_900}
    tools = [{"type": "function", "function": {"name": "f", "parameters": many}}] * 128
    with pytest.raises(InvalidRequest, match="bytes") as refused:
        rebuild_tools(tools)
    assert refused.value.param == "tools"
    assert rebuild_tools([{"type": "function", "function": {"name": "f", "parameters": many}}])


def test_where_no_call_can_be_read_tools_are_refused_in_our_words() -> None:
    for body in (
        {"tools": [TOOL]},
        {"tools": [FLAT], "tool_choice": "none"},
        {"messages": [{"role": "tool", "tool_call_id": "c", "content": "x"}]},
        {"messages": [{"role": "assistant", "tool_calls": [CALLED]}]},
    ):
        with pytest.raises(InvalidRequest, match="not supported with this base model") as refused:
            settle(body, supported=False)
        assert refused.value.param == ("tools" if "tools" in body else "messages")
        settle(body, supported=True)


@pytest.mark.parametrize("choice", ["required", {"type": "function", "function": {"name": "f"}}])
def test_nothing_can_be_chosen_of_no_tools(choice: object) -> None:
    with pytest.raises(InvalidRequest) as refused:
        settle({"tool_choice": choice}, supported=True)
    assert refused.value.param == "tool_choice"


def test_no_tools_and_no_choice_are_as_if_not_said() -> None:
    body: dict[str, Any] = {"tools": [], "tool_choice": "auto", "parallel_tool_calls": True}
    settle(body, supported=False)
    assert body == {}


@pytest.mark.parametrize(
    ("tool", "choice"),
    [
        (TOOL, {"type": "function", "function": {"name": "g"}}),
        (FLAT, {"type": "function", "name": "g"}),
    ],
)  # fmt: skip
def test_a_tool_that_is_chosen_by_name_must_be_there(tool: Any, choice: Any) -> None:
    with pytest.raises(InvalidRequest) as refused:
        settle({"tools": [tool], "tool_choice": choice}, supported=True)
    assert refused.value.param == "tool_choice"


@pytest.mark.parametrize("choice", [None, "auto", "none"])
def test_a_call_that_may_be_left_out_needs_no_grammar(choice: str | None) -> None:
    assert forced_schema({"tools": [TOOL]} | ({"tool_choice": choice} if choice else {})) is None


def test_all_tools_together_are_bounded_where_one_of_them_is_forced() -> None:
    wide = {"type": "object", "properties": {f"p{at}": {"type": "string"} for at in range(300)}}
    tools = [
        {"type": "function", "function": {"name": f"f{at}", "parameters": wide}} for at in (1, 2)
    ]
    assert forced_schema({"tools": tools}) is None
    with pytest.raises(InvalidRequest) as refused:
        forced_schema({"tools": tools, "tool_choice": "required"})
    assert refused.value.param == "tools"
    named = {"type": "function", "function": {"name": "f2"}}
    assert forced_schema({"tools": tools, "tool_choice": named}) == wide


def test_one_name_in_two_tools_cannot_mean_two_things() -> None:
    def tool(kind: str) -> dict[str, Any]:
        parameters = {"$defs": {"part": {"type": kind}}, "$ref": "#/$defs/part"}
        return {"type": "function", "function": {"name": kind, "parameters": parameters}}

    same = [tool("string"), {**tool("string"), "function": tool("string")["function"]}]
    assert forced_schema({"tools": same, "tool_choice": "required"})
    with pytest.raises(InvalidRequest) as refused:
        forced_schema({"tools": [tool("string"), tool("object")], "tool_choice": "required"})
    assert refused.value.param == "tools"
