"""Messages are made anew from the keys that are known."""

from __future__ import annotations

from typing import Any

import pytest

from adapters.errors import InvalidRequest
from service.gateway.messages import MAX_PARTS, ROLES, rebuild_messages

CALL = {"id": "c1", "type": "function", "function": {"name": "f", "arguments": '{"a": 1}'}}
ASKED = {"role": "user", "content": "hello"}


def parts(*given: object) -> list[dict[str, Any]]:
    return [{"role": "user", "content": list(given)}]


def test_a_whole_conversation_passes_as_it_is() -> None:
    chat = [
        {"role": "system", "content": "be kind"},
        {"role": "developer", "content": "be brief", "name": "dev"},
        {"role": "user", "content": [{"type": "text", "text": "hello"}], "name": "ann"},
        {"role": "assistant", "tool_calls": [CALL]},
        {"role": "tool", "tool_call_id": "c1", "content": "42"},
        {"role": "assistant", "content": ""},
    ]
    assert rebuild_messages(chat) == chat


@pytest.mark.parametrize("role", ROLES)
@pytest.mark.parametrize("text", ["", "hello"])
def test_a_plain_message_becomes_the_same_alone_and_in_a_chat_that_is_not(
    role: str, text: str
) -> None:
    message = {"role": role, "content": text}
    beside = {**ASKED, "name": "ann"}
    assert rebuild_messages([message]) == [message]
    assert rebuild_messages([message, beside]) == [message, beside]


def test_our_own_answer_can_be_sent_back_as_the_client_holds_it() -> None:
    answer: dict[str, Any] = {
        "role": "assistant", "content": "hi", "refusal": None, "annotations": None, "audio": None,
        "function_call": None, "tool_calls": [], "reasoning": None, "reasoning_content": "hm",
    }  # fmt: skip
    assert rebuild_messages([ASKED, answer]) == [ASKED, {"role": "assistant", "content": "hi"}]
    called = {**answer, "content": None, "tool_calls": [{**CALL, "index": 0}]}
    assert rebuild_messages([called]) == [{"role": "assistant", "tool_calls": [CALL]}]
    assert rebuild_messages([{**answer, "content": None}])[0]["content"] == ""


def test_what_an_assistant_refused_to_say_is_text() -> None:
    refused = {"role": "assistant", "content": [{"type": "refusal", "refusal": "no"}]}
    assert rebuild_messages([refused])[0]["content"] == [{"type": "text", "text": "no"}]
    alone = {"role": "assistant", "content": None, "refusal": "no"}
    assert rebuild_messages([alone]) == [{"role": "assistant", "content": "no"}]


MEDIA = ("image_url", "input_audio", "video_url", "image_embeds", "audio_url", "image_pil", "uuid")


@pytest.mark.parametrize("key", MEDIA)
def test_no_key_that_leads_to_media_gets_through(key: str) -> None:
    for kind in ("text", key, None):
        for text in ("hi", None):
            part = {"type": kind, "text": text, key: "http://169.254.169.254/"}
            with pytest.raises(InvalidRequest) as refused:
                rebuild_messages(parts(part))
            assert str(refused.value.param).startswith("messages.0.content.0")
            assert "169.254" not in refused.value.message


def test_what_is_handed_on_shares_nothing_with_what_was_sent() -> None:
    part = {"type": "text", "text": "hi", "cache_control": {"type": "ephemeral"}, "id": "x"}
    (made,) = rebuild_messages(parts(part))
    assert made["content"] == [{"type": "text", "text": "hi"}]
    assert made["content"][0] is not part


@pytest.mark.parametrize(
    ("messages", "place"),
    [
        (None, "messages"), ("x", "messages"), ({}, "messages"), ([], "messages"),
        ([ASKED] * 2049, "messages"),
        (["SECRET"], "messages.0"), ([None], "messages.0"), ([[]], "messages.0"),
        ([ASKED, {"content": "SECRET"}], "messages.1.role"),
        ([{"role": "SECRET", "content": "x"}], "messages.0.role"),
        ([{"role": ["user"], "content": "x"}], "messages.0.role"),
        ([{"role": "user"}], "messages.0.content"),
        ([{"role": "user", "content": None}], "messages.0.content"),
        ([{"role": "user", "content": {"SECRET": 1}}], "messages.0.content"),
        ([{"role": "user", "content": 5}], "messages.0.content"),
        ([{"role": "user", "content": "x", "name": {"SECRET": 1}}], "messages.0.name"),
        ([{"role": "user", "content": "x", "tool_calls": [CALL]}], "messages.0"),
        ([{"role": "user", "content": "x", "SECRET WORDS": 1}], "messages.0"),
        (parts("SECRET"), "messages.0.content.0"),
        (parts({"text": "SECRET"}), "messages.0.content.0"),
        (parts({"type": "text", "txt": "SECRET"}), "messages.0.content.0.text"),
        (parts({"type": "text", "text": ["SECRET"]}), "messages.0.content.0.text"),
        (parts({"type": "refusal", "refusal": "SECRET"}), "messages.0.content.0"),
    ],
)  # fmt: skip
def test_what_cannot_be_read_is_refused_by_its_place_and_not_repeated(
    messages: object, place: str
) -> None:
    with pytest.raises(InvalidRequest) as refused:
        rebuild_messages(messages)
    assert refused.value.param == place
    assert "SECRET" not in refused.value.message


@pytest.mark.parametrize(
    "call",
    [
        "SECRET", {}, {**CALL, "type": "SECRET"}, {**CALL, "id": None}, {**CALL, "SECRET !": 1},
        {**CALL, "function": "SECRET"}, {**CALL, "function": {"name": "f"}},
        {**CALL, "function": {"name": 5, "arguments": "{}"}},
        {**CALL, "function": {"name": "f", "arguments": "{SECRET"}},
        {**CALL, "function": {"name": "f", "arguments": '["SECRET"]'}},
        {**CALL, "function": {"name": "f", "arguments": {"SECRET": 1}}},
        {**CALL, "function": {"name": "f", "arguments": '{"a":' + "[" * 100_000}},
        {**CALL, "function": {"name": "f", "arguments": "{}", "code": "SECRET"}},
    ],
)  # fmt: skip
def test_a_tool_call_that_cannot_be_read_is_refused_by_its_place(call: object) -> None:
    with pytest.raises(InvalidRequest) as refused:
        rebuild_messages([{"role": "assistant", "tool_calls": [CALL, call]}])
    assert str(refused.value.param).startswith("messages.0.tool_calls.1")
    assert "SECRET" not in refused.value.message


def test_a_key_that_is_a_plain_name_is_named() -> None:
    with pytest.raises(InvalidRequest, match="`image_url`") as refused:
        rebuild_messages(parts({"type": "text", "text": "hi", "image_url": "x"}))
    assert refused.value.reason == "unsupported_parameter"


def test_parts_and_calls_of_all_messages_count_together() -> None:
    text = {"type": "text", "text": "x"}
    half = {"role": "user", "content": [text] * (MAX_PARTS // 2)}
    assert rebuild_messages([half, half])
    for one_more in (parts(text)[0], {"role": "assistant", "tool_calls": [CALL]}):
        with pytest.raises(InvalidRequest, match="in all"):
            rebuild_messages([half, half, one_more])
