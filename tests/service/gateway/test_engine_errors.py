"""Errors as callers read them."""

from __future__ import annotations

import json

import pytest

from service.gateway import engine_errors


def engine_error(message: str, param: str | None, code: int = 400) -> bytes:
    return json.dumps({"error": {"message": message, "param": param, "code": code}}).encode()


@pytest.mark.parametrize(
    ("place", "param"),
    [
        ("temperature", "temperature"),
        ("body.messages.0.ChatCompletionDeveloperMessageParam.content", "messages"),
        ("body.max_tokens", "max_tokens"),
        ("SECRET", None),
        ("body.SECRET.messages", None),
        (None, None),
    ],
)
@pytest.mark.parametrize("status", [400, 422])
def test_of_an_engines_refusal_only_the_field_is_told(
    status: int, place: str | None, param: str | None
) -> None:
    told, body, _ = engine_errors.translate(
        status, engine_error("input_value='SECRET'", place), question="messages"
    )
    error = json.loads(body)["error"]
    assert told == 400
    assert error["param"] == param
    assert error["message"] == f"the engine refuses {f'`{param}`' if param else 'this request'}"


@pytest.mark.parametrize(
    ("said", "param"),
    [
        ("min_p must be in [0, 1], got SECRET.", "min_p"),
        ("n must be 1 when using greedy sampling, got 2.", "n"),
        ("stop cannot contain an empty string.", "stop"),
        ("SECRET must be in [0, 1]", None),
        ("SECRET: n must be 1", None),
        ("n", None),
    ],
)
def test_a_field_that_a_refusal_begins_with_is_told_though_it_is_not_named(
    said: str, param: str | None
) -> None:
    _, body, _ = engine_errors.translate(400, engine_error(said, None), question="messages")
    error = json.loads(body)["error"]
    assert error["param"] == param
    assert "SECRET" not in error["message"]


@pytest.mark.parametrize(
    ("said", "length"),
    [
        ("This model's maximum context length is 1024 tokens. However, SECRET", " of 1024 tokens"),
        ("exceeds the context length (1024). SECRET", ""),
    ],
)
def test_a_prompt_that_is_too_long_is_told_with_the_models_length(said: str, length: str) -> None:
    _, body, _ = engine_errors.translate(400, engine_error(said, "input_tokens"), question="prompt")
    error = json.loads(body)["error"]
    assert (error["code"], error["param"]) == ("context_length_exceeded", "prompt")
    assert error["message"].endswith(f"context length{length}")
    assert "SECRET" not in error["message"]


def test_a_token_that_the_model_does_not_have_is_told_by_the_prompts_field() -> None:
    said = engine_error("Token id 999999 is out of vocabulary", None)
    status, body, _ = engine_errors.translate(400, said, question="prompt")
    error = json.loads(body)["error"]
    assert (status, error["code"], error["param"]) == (400, "invalid_request", "prompt")
    assert error["message"] == "`prompt` holds a token that the model does not have"


@pytest.mark.parametrize(
    ("event", "code"),
    [
        (engine_error("SECRET", None, 500), "engine_unavailable"),
        (engine_error("SECRET", "body.stop", 400), "invalid_request"),
        (b'{"error": "SECRET"}', "engine_unavailable"),
        (b'{"error"', "engine_unavailable"),
    ],
)
def test_an_error_within_a_stream_is_in_our_envelope_too(event: bytes, code: str) -> None:
    told = engine_errors.translate_event(b"data: " + event + b"\n\n", question="messages")
    assert told.startswith(b"data: ")
    assert told.endswith(b"\n\n")
    assert json.loads(told.removeprefix(b"data: "))["error"]["code"] == code
    assert b"SECRET" not in told


@pytest.mark.parametrize("body", [b"", b"<html>SECRET", b"[1]", b'{"error": 5}'])
def test_whatever_an_engine_says_it_becomes_one_of_our_errors(body: bytes) -> None:
    for status in (400, 404, 418, 500, 503):
        _, said, _ = engine_errors.translate(status, body, question="messages")
        assert set(json.loads(said)["error"]) == {"message", "type", "param", "code"}
        assert b"SECRET" not in said
