"""What the real openai SDK makes of every kind of our answers, blocking and not.

Errors become the SDK's exceptions with our code, param and request id; what may go away is asked
again after the time that we say, and nothing else is; a stream ends whole or raises.
"""

from __future__ import annotations

import asyncio
import contextlib
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import openai
import pytest

from tests.service.world import World, running, write_units
from tests.simulation.engine import BASE, SimulatedEngine

HELLO = [{"role": "user", "content": "hello"}]
Ask = Callable[[Any], Any]


@dataclass(frozen=True, kw_only=True)
class Caller:
    """One of the SDK's two clients, used as if it were the blocking one."""

    world: World
    blocks: bool

    def ask(self, ask: Ask, *, owner: str = "support", **options: Any) -> Any:
        """The answer to one call; of a stream, the list of its events."""
        options = {"max_retries": 0, **options}
        if self.blocks:
            answer = ask(self.world.client(owner, **options))
            return list(answer) if isinstance(answer, openai.Stream) else answer
        return asyncio.run(self._ask(ask, owner, options))

    async def _ask(self, ask: Ask, owner: str, options: dict[str, Any]) -> Any:
        options = {"api_key": self.world.key(owner), **options}
        async with openai.AsyncOpenAI(base_url=f"{self.world.url}/v1", **options) as client:
            answer = await ask(client)
            if isinstance(answer, openai.AsyncStream):
                return [event async for event in answer]
            return answer


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    write_units(tmp_path / "units", {"support": "limits: {max_concurrent_requests: 1}\n"})
    with running(tmp_path / "state", SimulatedEngine()) as started:
        yield started


@pytest.fixture(params=[True, False], ids=["blocking", "async"])
def caller(world: World, request: pytest.FixtureRequest) -> Caller:
    return Caller(world=world, blocks=request.param)


def chat(**more: Any) -> Ask:
    asked = {"model": BASE, "messages": HELLO, **more}
    return lambda client: client.chat.completions.create(**asked)


def completion(**more: Any) -> Ask:
    return lambda client: client.completions.create(model=BASE, prompt="hello", **more)


def response(**more: Any) -> Ask:
    return lambda client: client.responses.create(model=BASE, input="hello", **more)


def promotion(client: Any) -> Any:
    body = {"version": 1, "expected_generation": 7}
    return client.post("/adapters/support/promote", body=body, cast_to=object)


def refused(world: World, code: str) -> float:
    found = world.prometheus.get_sample_value("wardrobe_requests_refused_total", {"code": code})
    return found or 0.0


@pytest.mark.parametrize(
    ("ask", "kind", "code", "param"),
    [
        (chat(model="nothing"), openai.NotFoundError, "model_not_found", "model"),
        (chat(extra_body={"cache_salt": "x"}), openai.BadRequestError,
         "unsupported_parameter", "cache_salt"),
        (completion(extra_body={"max_token": 5}), openai.BadRequestError,
         "unknown_parameter", "max_token"),
        (response(store=True), openai.BadRequestError, "unsupported_parameter", "store"),
        (chat(user="x" * 3_000_000), openai.APIStatusError, "request_too_large", None),
    ],
    ids=["404", "400 unsupported", "400 unknown", "400 stored", "413"],
)  # fmt: skip
def test_what_stays_wrong_is_raised_at_once(
    caller: Caller, ask: Ask, kind: type[openai.APIStatusError], code: str, param: str | None
) -> None:
    before = refused(caller.world, code)
    with pytest.raises(kind) as raised:
        caller.ask(ask, max_retries=2)
    error = raised.value
    assert (error.code, error.param) == (code, param)
    assert error.type == "invalid_request_error"
    assert (error.request_id or "").startswith("req_")
    assert refused(caller.world, code) == before + 1


def test_a_wrong_key_is_an_authentication_error(caller: Caller) -> None:
    with pytest.raises(openai.AuthenticationError) as raised:
        caller.ask(chat(), api_key="nobody's", max_retries=2)
    assert (raised.value.code, raised.value.type) == ("invalid_api_key", "authentication_error")
    assert raised.value.response.headers["www-authenticate"] == "Bearer"
    assert refused(caller.world, "invalid_api_key") == 1


def test_a_key_that_may_not_is_told_so(caller: Caller) -> None:
    with pytest.raises(openai.PermissionDeniedError) as raised:
        caller.ask(lambda client: client.files.list(), owner="trainer", max_retries=2)
    assert raised.value.code == "insufficient_permissions"


def test_a_lost_race_is_a_conflict_that_is_not_asked_again(caller: Caller) -> None:
    caller.world.publish("support")
    with pytest.raises(openai.ConflictError) as raised:
        caller.ask(promotion, max_retries=2)
    assert raised.value.code == "version_conflict"
    assert raised.value.response.headers["x-should-retry"] == "false"


def test_who_is_over_a_limit_is_asked_to_wait_and_gets_an_answer_then(caller: Caller) -> None:
    caller.world.engine.token_seconds = 5.0  # until the other has been refused
    other = threading.Thread(target=lambda: caller.world.client().chat.completions.create(
        model=BASE, messages=HELLO))  # fmt: skip
    other.start()
    try:
        deadline = time.monotonic() + 20
        while caller.world.runtime.meters.of("unit:support").requests == 0:
            assert time.monotonic() < deadline
            time.sleep(0.005)
        with pytest.raises(openai.RateLimitError) as raised:
            caller.ask(chat())
        assert raised.value.code == "rate_limit_exceeded"
        assert 1 <= int(raised.value.response.headers["retry-after"]) <= 120
        caller.world.engine.token_seconds = 0.0
        assert caller.ask(chat(), max_retries=5).choices
    finally:
        other.join()


def limited_key(world: World, **limits: int) -> str:
    """A key of support's with these limits of its own, once it is known here."""
    asked = {"name": "shop", "unit": "support", "scopes": ["infer", "base"], "limits": limits}
    answer = world.http().post("/v1/keys", json=asked)
    assert answer.status_code == 200, answer.text
    secret: str = answer.json()["secret"]
    deadline = time.monotonic() + 20
    while True:
        with contextlib.suppress(openai.AuthenticationError):
            world.client(api_key=secret).models.list()
            return secret
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_a_key_over_its_own_rate_is_told_when_there_is_room(caller: Caller) -> None:
    key = limited_key(caller.world, requests_per_minute=1)
    assert caller.ask(chat(), api_key=key).choices
    with pytest.raises(openai.RateLimitError) as raised:
        caller.ask(chat(), api_key=key)
    assert (raised.value.code, raised.value.type) == ("rate_limit_exceeded", "rate_limit_error")
    headers = raised.value.response.headers
    assert 1 <= int(headers["retry-after"]) <= 62
    assert headers["x-ratelimit-limit-requests"] == "1"
    assert headers["x-ratelimit-remaining-requests"] == "0"
    assert caller.ask(chat()).choices, "the unit's other keys notice nothing"


@pytest.mark.parametrize("budget", ["tokens_per_day", "tokens_per_month"])
def test_a_budget_that_is_gone_is_not_asked_again(caller: Caller, budget: str) -> None:
    key = limited_key(caller.world, **{budget: 100})
    assert caller.ask(chat(max_tokens=4), api_key=key).choices
    before = refused(caller.world, "insufficient_quota")
    with pytest.raises(openai.RateLimitError) as raised:
        caller.ask(chat(max_tokens=100), api_key=key, max_retries=2)
    assert (raised.value.code, raised.value.type) == ("insufficient_quota", "insufficient_quota")
    assert raised.value.response.headers["x-should-retry"] == "false"
    assert "retry-after" not in raised.value.response.headers
    assert refused(caller.world, "insufficient_quota") == before + 1


def test_more_than_a_minute_of_a_key_has_is_a_mistake_of_the_request(caller: Caller) -> None:
    key = limited_key(caller.world, tokens_per_minute=50)
    with pytest.raises(openai.BadRequestError) as raised:
        caller.ask(chat(max_tokens=60), api_key=key, max_retries=2)
    assert (raised.value.code, raised.value.param) == ("invalid_request", "max_tokens")


def test_a_full_disk_is_not_asked_again(
    caller: Caller, small_disk: Callable[[int], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(small_disk(512)))
    line = (
        b'{"messages": [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]}\n'
    )
    file = ("a.jsonl", line * 20_000)
    with pytest.raises(openai.InternalServerError) as raised:
        caller.ask(
            lambda client: client.files.create(file=file, purpose="fine-tune"), max_retries=2
        )
    assert (raised.value.status_code, raised.value.code) == (507, "storage_full")
    assert raised.value.response.headers["x-should-retry"] == "false"
    assert raised.value.request.headers["x-stainless-retry-count"] == "0"


def test_a_draining_replica_is_asked_again_after_the_time_it_says(caller: Caller) -> None:
    caller.world.runtime.draining = True
    started = time.monotonic()
    with pytest.raises(openai.InternalServerError) as raised:
        caller.ask(chat(), max_retries=1)
    wait = int(raised.value.response.headers["retry-after"])
    assert (raised.value.status_code, raised.value.code) == (503, "draining")
    assert 1 <= wait <= time.monotonic() - started + 1
    assert refused(caller.world, "draining") == 2


@pytest.mark.parametrize("ask", [chat, completion, response])
def test_an_answer_names_its_version_which_can_be_asked_for(
    caller: Caller, ask: Callable[..., Ask]
) -> None:
    version = caller.world.publish("sales").name
    answer = caller.ask(chat(model=version), owner="sales")
    assert answer.model == version
    again = caller.ask(chat(model=answer.model), owner="sales")
    assert again.model == version
    assert caller.ask(ask()).model == BASE


def test_a_stream_tells_its_usage_where_it_is_asked_to(caller: Caller) -> None:
    events = caller.ask(chat(stream=True, stream_options={"include_usage": True}))
    assert events[-1].choices == []
    assert events[-1].usage.completion_tokens > 0
    assert [event.choices[0].finish_reason for event in events[:-1]][-1] == "stop"
    without = caller.ask(chat(stream=True))
    assert all(event.usage is None for event in without)


def test_a_response_streams_from_created_to_completed(caller: Caller) -> None:
    events = caller.ask(response(stream=True))
    assert (events[0].type, events[-1].type) == ("response.created", "response.completed")
    assert events[-1].response.output_text == caller.ask(response()).output_text


@pytest.mark.parametrize("ask", [chat, completion, response])
def test_an_engine_that_dies_under_a_stream_is_raised(
    caller: Caller, ask: Callable[..., Ask]
) -> None:
    engine = caller.world.engine
    engine.token_seconds = 0.5
    killer = threading.Timer(0.8, engine.core.kill)
    killer.start()
    with pytest.raises(openai.APIError) as raised:
        caller.ask(ask(stream=True))
    assert raised.value.code == "engine_unavailable"
    assert refused(caller.world, "engine_unavailable") == 0


@pytest.mark.parametrize("ask", [chat, completion, response])
def test_a_dead_engine_is_a_503_that_may_be_asked_again(
    caller: Caller, ask: Callable[..., Ask]
) -> None:
    caller.world.engine.core.kill()
    with pytest.raises(openai.InternalServerError) as raised:
        caller.ask(ask())
    assert (raised.value.status_code, raised.value.code) == (503, "engine_unavailable")
    assert int(raised.value.response.headers["retry-after"]) >= 1


@pytest.mark.parametrize("ask", [chat, completion])
def test_so_it_is_where_a_stream_was_asked_for_and_no_word_has_come(
    caller: Caller, ask: Callable[..., Ask]
) -> None:
    caller.world.engine.core.kill()
    with pytest.raises(openai.InternalServerError) as raised:
        caller.ask(ask(stream=True))
    assert (raised.value.status_code, raised.value.code) == (503, "engine_unavailable")
    assert int(raised.value.response.headers["retry-after"]) >= 1
