"""Response formats and tools are made anew from the keys that are known."""

from __future__ import annotations

from typing import Any

import pytest

from adapters.errors import InvalidRequest
from service.gateway.structured_outputs import (
    grammars,
    rebuild_response_format,
    rebuild_text,
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


def test_only_what_becomes_a_grammar_is_compiled() -> None:
    assert list(grammars({})) == []
    assert list(grammars({"response_format": {"type": "json_object"}, "tools": [TOOL]})) == []
    assert list(grammars({"response_format": FORMAT})) == [("response_format", SCHEMA)]
    text = {"format": {"type": "json_schema", "name": "n", "schema": SCHEMA}}
    assert list(grammars({"text": text})) == [("text", SCHEMA)]
    forced = {"tools": [TOOL], "tool_choice": "required"}
    assert [param for param, _ in grammars(forced)] == ["tools"]


FLAT = {"type": "json_schema", "name": "n", "strict": True, "schema": SCHEMA}


def test_a_responses_format_is_chats_in_other_words() -> None:
    assert rebuild_text({"format": FLAT, "verbosity": "low"}) == {"format": FLAT}
    assert rebuild_text({"format": None}) == {}
    assert rebuild_text({"format": {"type": "json_object", "x": 1}}) == {
        "format": {"type": "json_object"}
    }


@pytest.mark.parametrize(
    "wrong",
    ["SECRET", {"format": "SECRET"}, {"format": {"type": "grammar"}},
     {"format": {"type": "json_schema", "name": "n"}},
     *({"format": {**FLAT, "schema": schema}} for schema in TOO_MUCH.values())],
)  # fmt: skip
def test_another_one_is_refused_by_its_field_too(wrong: object) -> None:
    with pytest.raises(InvalidRequest) as refused:
        rebuild_text(wrong)
    assert refused.value.param == "text"
    assert "SECRET" not in refused.value.message
