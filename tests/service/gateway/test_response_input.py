"""The input of `/v1/responses` is made anew from the keys that are known."""

from __future__ import annotations

from typing import Any

import pytest

from adapters.errors import InvalidRequest
from service.gateway.response_input import rebuild_input

CALL = {"type": "function_call", "call_id": "c1", "name": "f", "arguments": '{"a":1}'}
RESULT = {"type": "function_call_output", "call_id": "c1", "output": "42"}


def message(role: str, content: object) -> dict[str, Any]:
    return {"type": "message", "role": role, "content": content}


def test_a_conversation_passes_without_what_means_nothing_here() -> None:
    output: dict[str, Any] = {
        "type": "output_text",
        "text": "yes",
        "annotations": [],
        "logprobs": None,
    }
    asked = [
        {"role": "user", "content": "hello"},
        {"id": "rs_1", "type": "reasoning", "summary": [], "encrypted_content": "x"},
        {**message("assistant", [output]), "id": "msg_1", "status": "incomplete"},
        {**CALL, "id": "fc_1", "status": "completed"},
        {**RESULT, "output": [{"type": "input_text", "text": text} for text in "42"]},
        message("developer", [{"type": "input_text", "text": "Be brief."}]),
    ]  # fmt: skip
    assert rebuild_input(asked, "input") == [
        message("user", "hello"),
        message("assistant", "yes"),
        CALL,
        {**RESULT, "output": "4\n2"},
        message("developer", "Be brief."),
    ]


def test_a_text_is_a_text() -> None:
    assert rebuild_input("hello", "input") == "hello"


@pytest.mark.parametrize(
    "wrong",
    [
        5, {}, [], ["SECRET"], [[]], [{"type": "reasoning"}], [{"role": "SECRET", "content": "x"}],
        [{"role": "user"}], [{"role": "user", "content": 5}], [{"type": ["SECRET"]}],
        [{"role": "user", "content": [{"type": "input_image", "image_url": "http://SECRET"}]}],
        [{"role": "user", "content": [{"type": "input_file", "file_id": "SECRET"}]}],
        [{"role": "user", "content": [{"type": "input_text", "text": None}]}],
        [{"role": "user", "content": ["SECRET"]}],
        [{"type": "item_reference", "id": "SECRET"}], [{"type": "web_search_call"}],
        [{"type": "custom_tool_call", "input": "SECRET"}],
        [{**CALL, "arguments": "SECRET"}], [{**CALL, "arguments": "[1]"}], [{**CALL, "name": None}],
        [{**RESULT, "output": None}], [{**RESULT, "call_id": 5}],
        [{"role": "user", "content": "x"}] * 2049,
        [{"role": "user", "content": [{"type": "input_text", "text": "x"}] * 2049}],
    ],
)  # fmt: skip
def test_what_cannot_be_read_is_refused_by_its_place_and_not_repeated(wrong: object) -> None:
    with pytest.raises(InvalidRequest) as refused:
        rebuild_input(wrong, "input")
    assert (refused.value.param or "").startswith("input")
    assert "SECRET" not in refused.value.message
