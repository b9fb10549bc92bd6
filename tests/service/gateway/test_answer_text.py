"""The texts of an answer, out of what a client gets."""

from __future__ import annotations

import json

import pytest

from service.gateway.answer_text import texts_of


def chunk(**choice: object) -> bytes:
    return b"data: " + json.dumps({"choices": [choice]}).encode() + b"\n\n"


def test_a_stream_and_a_whole_answer_have_the_same_texts() -> None:
    whole = json.dumps(
        {
            "choices": [
                {"index": 1, "message": {"content": "zwei"}},
                {"index": 0, "message": {"content": "eins"}},
            ]
        }
    ).encode()
    stream = (
        chunk(index=0, delta={"role": "assistant", "content": ""})
        + chunk(index=0, delta={"content": "ei"})
        + chunk(index=1, delta={"content": "zwei"})
        + chunk(index=0, delta={"content": "ns"})
        + b'data: {"choices": [], "usage": {"total_tokens": 3}}\n\n'
        + b"data: [DONE]\n\n"
    )
    assert texts_of(whole) == texts_of(stream) == ("eins", "zwei")


def test_completions_have_their_texts_too() -> None:
    assert texts_of(b'{"choices": [{"index": 0, "text": "so"}]}') == ("so",)
    assert texts_of(chunk(index=0, text="s") + chunk(index=0, text="o")) == ("so",)


@pytest.mark.parametrize(
    "content",
    [b"", b"null", b"[]", b"no json", b"data: no json\n\n", b'{"choices": null}', b'{"error": {}}'],
)
def test_what_is_no_answer_has_none(content: bytes) -> None:
    assert texts_of(content) == ()


def test_a_choice_without_a_word_says_nothing() -> None:
    assert texts_of(b'{"choices": [{"index": 0, "message": {"content": null}}]}') == ("",)


def call(**function: str) -> dict[str, object]:
    return {"tool_calls": [{"index": 0, "function": function}]}


def test_two_calls_of_a_tool_are_told_apart() -> None:
    whole = {"choices": [{"index": 0, "message": call(name="find", arguments='{"a": 1}')}]}
    stream = (
        chunk(index=0, delta=call(name="find"))
        + chunk(index=0, delta=call(arguments='{"a":'))
        + chunk(index=0, delta=call(arguments=" 1}"))
    )
    assert texts_of(json.dumps(whole).encode()) == texts_of(stream) == ('find{"a": 1}',)


def test_a_response_has_the_texts_of_its_output_whole_or_as_a_stream() -> None:
    output = [
        {"type": "message", "content": [{"type": "output_text", "text": "so"}]},
        {"type": "function_call", "name": "find", "arguments": "{}"},
    ]
    created = {"type": "response.created", "response": {"output": []}}
    delta = {"type": "response.output_text.delta", "delta": "so"}
    completed = {"type": "response.completed", "response": {"output": output}}
    stream = b"".join(
        b"event: %s\ndata: %s\n\n" % (str(one["type"]).encode(), json.dumps(one).encode())
        for one in (created, delta, completed)
    )
    whole = json.dumps({"object": "response", "output": output}).encode()
    assert texts_of(stream) == texts_of(whole) == ("so", "find{}")
