"""One caller's request takes nobody else down, changes nothing for others, and is in no log."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import pairwise
from typing import Any

import openai
import pytest

from adapters.settings import Settings
from service.launch.base_resolver import resolve_base
from tests.e2e.stack import Stack
from tests.hostile_schemas import FITTING, NO_GRAMMAR, TOO_MUCH, WORST, Schema

VALIDATOR = pytest.importorskip("jsonschema").Draft202012Validator
pytestmark = pytest.mark.timeout(3600)

HELLO = [{"role": "user", "content": "hello"}]
CANARY = "canary7719"
UNNOTICED_SECONDS = 1.0
"""The longest that another unit's stream may pause; a step of this engine takes a tenth of it."""


def asking(schema: Schema, **more: Any) -> dict[str, Any]:
    """A chat request for an answer of this schema."""
    return {
        "model": "wardrobe-base",
        "messages": HELLO,
        "max_tokens": 120,
        "temperature": 1,
        "response_format": {
            "type": "json_schema",
            "json_schema": {"name": "answer", "schema": schema, "strict": True},
        },
        **more,
    }


def post(stack: Stack, body: Mapping[str, Any], owner: str = "support") -> Any:
    return stack.http(owner).post("/v1/chat/completions", json=body)


def check_nobody_is_disturbed(stack: Stack, work: Callable[[], None]) -> None:
    """The same engine lives on, and another unit's stream does not pause for long meanwhile.

    A pause that the work causes comes back whenever it is done; a busy machine's does not.
    """
    core = stack.engine_core().pid
    found: list[float] = []
    while not found or (found[-1] > UNNOTICED_SECONDS and len(found) < 5):
        found.append(longest_pause(stack, work))
        assert stack.engine_core().pid == core
        assert stack.ready()
    print(f"\nlongest pauses of another unit's stream: {found}")
    assert min(found) < UNNOTICED_SECONDS


def longest_pause(stack: Stack, work: Callable[[], None]) -> float:
    """In seconds, of a stream of `sales` while the work is done."""
    stop, pauses = threading.Event(), [0.0]

    def listen() -> None:
        client = stack.client("sales")
        while not stop.is_set():
            stream = client.chat.completions.create(
                model="wardrobe-base", messages=HELLO, stream=True, max_tokens=200,
                extra_body={"ignore_eos": True},
            )  # fmt: skip
            times = [time.monotonic() for _ in stream]
            pauses.extend(after - before for before, after in pairwise(times))

    other = threading.Thread(target=listen)
    other.start()
    try:
        work()
    finally:
        stop.set()
        other.join()
    return max(pauses)


@pytest.mark.parametrize("streaming", [False, True])
def test_no_schema_takes_the_service_down_or_holds_it_up(stack: Stack, streaming: bool) -> None:
    def send_all() -> None:
        for name, schema in {**TOO_MUCH, **NO_GRAMMAR}.items():
            answer = post(stack, asking(schema, stream=streaming))
            assert answer.status_code == 400, (name, answer.text[:300])
            error = answer.json()["error"]
            assert error["param"] == error["code"] == "response_format", (name, error)
            assert "(((" not in error["message"]

    check_nobody_is_disturbed(stack, send_all)


def test_the_worst_schemas_within_the_bounds_hold_nobody_up(stack: Stack) -> None:
    def send_all() -> None:
        for name, schema in WORST.items():
            started = time.monotonic()
            answer = post(stack, asking(schema, max_tokens=40))
            print(f"{name}: {time.monotonic() - started:.2f} s")
            assert answer.status_code == 200, (name, answer.text[:300])

    check_nobody_is_disturbed(stack, send_all)


@pytest.mark.parametrize(
    "field",
    [
        {"response_format": {"type": "structural_tag", "structures": [], "triggers": []}},
        {"structured_outputs": {"regex": "((a{99}){99}){99}"}},
        {"structured_outputs": {"grammar": "root ::= root"}},
        {"guided_regex": "(a{99}){99}"},
    ],
)
def test_no_other_door_leads_to_a_grammar(stack: Stack, field: dict[str, Any]) -> None:
    body = {"model": "wardrobe-base", "messages": HELLO, **field}
    assert post(stack, body).status_code == 400


def no_white_space(stack: Stack) -> dict[str, float]:
    """A bias against it. Between JSON's parts any number of blanks may stand, and this base may not
    find the end of them.
    """
    base = resolve_base(Settings(state=stack.state.root, base="tiny"))
    told = json.loads((base.path / "tokenizer.json").read_bytes())
    blanks = {"Ġ", "ĉ", "Ċ", "č"}  # as a byte-level tokenizer writes blank, tab and both line ends
    return {
        str(number): -100
        for token, number in told["model"]["vocab"].items()
        if set(token) <= blanks
    }


@pytest.mark.parametrize("schemas", [FITTING, FITTING[::-1]], ids=["in this order", "reversed"])
def test_answers_keep_to_their_schema_whatever_was_asked_before(
    stack: Stack, schemas: Sequence[Schema]
) -> None:
    dense = {"logit_bias": no_white_space(stack)}
    for schema in schemas:
        for _ in range(3):
            answer = post(stack, asking(schema, **dense))
            assert answer.status_code == 200, (schema, answer.text)
            choice = answer.json()["choices"][0]
            assert choice["finish_reason"] == "stop", (schema, choice)
            VALIDATOR(schema).validate(json.loads(choice["message"]["content"]))
        plain = post(stack, asking(schema, response_format={"type": "json_object"}))
        assert plain.status_code == 200, plain.text


@pytest.mark.parametrize(
    "part",
    [
        {"type": "text", "text": "hi", "uuid": "u", "image_url": "http://169.254.169.254/"},
        {"type": "text", "text": "hi", "image_url": {"url": "http://169.254.169.254/"}},
        {"type": "text", "text": "hi", "video_url": "http://169.254.169.254/"},
        {"type": "text", "text": "hi", "audio_url": "http://169.254.169.254/"},
        {"type": "text", "text": "hi", "input_audio": {"data": "AAAA", "format": "wav"}},
        {"type": "text", "text": "hi", "image_embeds": "AAAA"},
        {"type": "text", "text": None, "image_pil": "AAAA"},
        {"type": "image_url", "image_url": {"url": "file:///etc/passwd"}},
    ],
)
def test_no_part_of_a_message_leads_to_media(stack: Stack, part: dict[str, Any]) -> None:
    body = {"model": "wardrobe-base", "messages": [{"role": "user", "content": [part]}]}
    answer = post(stack, body)
    assert answer.status_code == 400, answer.text
    assert answer.json()["error"]["param"].startswith("messages.0.content.0")


def odd_bodies() -> Iterator[dict[str, Any]]:
    """Bodies that hold the canary wherever a text can stand; some are answered, some refused."""
    said = {"role": "user", "content": CANARY}
    call = {"id": CANARY, "type": "function", "function": {"name": CANARY, "arguments": "{}"}}
    bad = {**call, "function": {"name": CANARY, "arguments": f"{{{CANARY}"}}
    for messages in (
        [said],
        [{"role": "user", "content": [{"type": "text", "text": None, CANARY: CANARY}]}],
        [{"role": "user", "content": [{"type": "text", "txt": CANARY}]}],
        [{"role": CANARY, "content": CANARY}],
        [said, {"role": "assistant", "tool_calls": [call]},
         {"role": "tool", "tool_call_id": CANARY, "content": CANARY}],
        [said, {"role": "assistant", "tool_calls": [bad]}],
        [CANARY],
        [said, {"role": "assistant", "content": [{"type": "refusal", "refusal": CANARY}]}, said],
        [{**said, "content": f"{CANARY} " * 2000}],
    ):  # fmt: skip
        yield {"messages": messages}
    for more in (
        {"max_tokens": CANARY}, {"temperature": -3}, {"stop": [CANARY]}, {"user": CANARY},
        {"top_p": 7}, {"tool_choice": CANARY}, {CANARY: CANARY}, {"response_format": CANARY},
        {"tools": [{"type": "function", "function": {"name": CANARY, "description": CANARY}}]},
        {"tools": [{"type": "function", "function": {"name": CANARY}}], "tool_choice": "required"},
    ):  # fmt: skip
        yield {"messages": [said], **more}
    for schema in (
        {"type": "object", "properties": {CANARY: {"const": CANARY}}, "required": [CANARY]},
        {"type": "string", "pattern": f"(?={CANARY})"},
        {"type": "string", "pattern": f"(({CANARY}.*){{1,60}}){{1,60}}"},
        {"enum": [CANARY] * 2000},
        {CANARY: CANARY},
        {"$ref": f"#/$defs/{CANARY}"},
    ):
        yield {**asking(schema), "messages": [said]}


def test_no_word_of_an_odd_request_is_in_a_log_or_in_another_answer(stack: Stack) -> None:
    seen = set()
    for body in odd_bodies():
        for streaming in (False, True):
            whole = {"model": "wardrobe-base", "max_tokens": 40, "stream": streaming, **body}
            answer = post(stack, whole)
            seen.add(answer.status_code)
            if answer.status_code >= 400 and CANARY not in body:
                assert CANARY not in answer.text, answer.text
    assert seen == {200, 400}
    completions = stack.http("support")
    for prompt in ([1, CANARY], CANARY, [CANARY, None], {CANARY: 1}, [[1], CANARY]):
        completions.post(
            "/v1/completions", json={"model": "wardrobe-base", "prompt": prompt, "max_tokens": 2}
        )
    assert CANARY not in stack.logs()
    assert CANARY not in (stack.folder / "up.log").read_text()


def test_a_long_prompt_of_the_wrong_kind_is_refused_at_once(stack: Stack) -> None:
    def send_all() -> None:
        for prompt in ([1] * 120_000 + ["x"], [[1]] * 50_000, ["x"] * 50_000):
            with pytest.raises(openai.BadRequestError) as refused:
                stack.client().completions.create(model="wardrobe-base", prompt=prompt)
            assert refused.value.param == "prompt"

    check_nobody_is_disturbed(stack, send_all)


def test_the_engines_own_words_never_reach_a_caller(stack: Stack) -> None:
    answer = post(stack, {"model": "wardrobe-base", "messages": HELLO, "temperature": -3})
    error = answer.json()["error"]
    assert answer.status_code == 400
    assert error["param"] == "temperature"
    assert error["message"] == "the engine refuses `temperature`"
    long = post(
        stack, {"model": "wardrobe-base", "messages": [{**HELLO[0], "content": "a " * 9000}]}
    )
    assert long.json()["error"]["code"] == "context_length_exceeded"
    assert "1024 tokens" in long.json()["error"]["message"]


def test_the_log_says_what_the_installed_engine_lacks(stack: Stack) -> None:
    assert "GHSA-5r3c-5x4v-8gjh" in stack.logs()
