"""How an answer ended, told from its messages as vLLM sends them."""

from __future__ import annotations

import asyncio
import json
from types import SimpleNamespace
from typing import Any

import pytest
from prometheus_client import CollectorRegistry
from starlette.types import ASGIApp, Message, Receive, Send

from service.gateway import engine_errors
from service.gateway.body_allowlist import CHAT, RESPONSES, Endpoint
from service.gateway.gateway import Gateway
from service.gateway.response import Answer, Enveloped
from service.gateway.stream_comments import COMMENT, SILENCE_SECONDS
from service.metrics import Metrics
from service.reconcile.route_table import Target
from tests.service.world import World
from tests.simulation.engine import BASE

START: Message = {"type": "http.response.start", "status": 200, "headers": []}
EVENTS: Message = {**START, "headers": [(b"content-type", b"text/event-stream; charset=utf-8")]}
WORD = b'data: {"choices":[{"delta":{"content":"a"},"finish_reason":null}]}\n\n'
LAST = b'data: {"choices":[{"delta":{},"finish_reason":"stop"}]}\n\n'
CUT = b'data: {"choices":[{"delta":{},"finish_reason":"abort"}]}\n\n'
QUOTED = b'data: {"choices":[{"delta":{"content":"\\"finish_reason\\":\\"abort\\""}}]}\n\n'
ERROR = b'data: {"error": {"message": "the engine died", "code": 500}}\n\n'
TOLD = engine_errors.translate_event(ERROR, question="messages")
DONE = b"data: [DONE]\n\n"
SHORT = 0.01
HELLO = [{"role": "user", "content": "hello"}]
TARGET = Target(model=BASE, alias=BASE, unit=None, version=None, salt="")


def part(body: bytes, *, more: bool = True) -> Message:
    return {"type": "http.response.body", "body": body, "more_body": more}


class Said:
    """An answer, what the client got of it, and how it was counted."""

    def __init__(
        self,
        *,
        draining: bool = False,
        drained: bool = False,
        endpoint: Endpoint = CHAT,
        silence: float = SILENCE_SECONDS,
    ) -> None:
        self.sent: list[Message] = []
        self._more = asyncio.Event()
        self.drain = SimpleNamespace(draining=draining or drained, drained=drained)
        self.answer = Answer(
            self._keep, TARGET, 0.0, endpoint=endpoint, drain=self.drain, silence=silence
        )

    async def _keep(self, message: Message) -> None:
        self.sent.append(message)
        self._more.set()

    async def say(self, *messages: Message) -> None:
        for message in messages:
            await self.answer.send(message)

    async def commented(self, times: int) -> None:
        """Waits for so many comments."""
        async with asyncio.timeout(10):
            while self.body.count(COMMENT) < times:
                self._more.clear()
                await self._more.wait()

    @property
    def status(self) -> int:
        return int(self.sent[0]["status"])

    @property
    def body(self) -> bytes:
        return b"".join(message.get("body", b"") for message in self.sent)

    @property
    def outcome(self) -> str:
        registry = CollectorRegistry()
        self.answer.count(Metrics(registry), "support", {})
        return outcome(registry)


def outcome(registry: CollectorRegistry) -> str:
    """The one outcome that was counted."""
    (found,) = [
        sample.labels["outcome"]
        for metric in registry.collect()
        for sample in metric.samples
        if sample.name == "wardrobe_requests_total"
    ]
    return found


@pytest.mark.parametrize(
    ("bodies", "counted"),
    [
        ((WORD, LAST, DONE), "ok"),
        ((WORD, ERROR, DONE), "engine_error"),
        ((WORD, WORD, ERROR), "engine_error"),
        ((WORD, ERROR, WORD, WORD, DONE), "engine_error"),
    ],
)
async def test_an_error_inside_a_stream_is_no_success(
    bodies: tuple[bytes, ...], counted: str
) -> None:
    said = Said()
    await said.say(START, *map(part, bodies), part(b"", more=False))
    assert said.outcome == counted
    assert said.body == b"".join(TOLD if body is ERROR else body for body in bodies)


@pytest.mark.parametrize(
    ("error", "status", "counted"),
    [(ERROR, 503, "engine_error"), (ERROR.replace(b"500", b"400"), 400, "client_error")],
)
async def test_a_stream_that_begins_with_an_error_is_an_error_with_its_status(
    error: bytes, status: int, counted: str
) -> None:
    said = Said()
    await said.say(EVENTS, part(error), part(DONE), part(b"", more=False))
    assert [message["type"] for message in said.sent] == [START["type"], part(b"")["type"]]
    assert said.status == status
    assert json.loads(said.body)["error"]["type"] != "InternalServerError"
    headers = dict(said.sent[0]["headers"])
    assert headers[b"content-type"] == b"application/json"
    assert (b"retry-after" in headers) is (status == 503)
    assert said.outcome == counted


async def test_a_streams_status_waits_for_its_first_word_and_no_proxy_keeps_it_back() -> None:
    said = Said()
    await said.say(EVENTS)
    assert said.sent == []
    await said.say(part(WORD))
    assert [message["type"] for message in said.sent] == [START["type"], part(b"")["type"]]
    assert dict(said.sent[0]["headers"])[b"x-accel-buffering"] == b"no"
    whole = Said()
    await whole.say(START, part(b"{}", more=False))
    assert b"x-accel-buffering" not in dict(whole.sent[0]["headers"])


async def test_a_stream_that_is_long_in_coming_begins_with_comments() -> None:
    said = Said(silence=SHORT)
    await said.say(EVENTS)
    await said.commented(2)
    await said.say(part(WORD))
    before = said.body
    await asyncio.sleep(10 * SHORT)
    assert said.body == before, "once it has begun, its words are enough"
    await said.say(part(LAST), part(DONE), part(b"", more=False))
    assert [message["type"] for message in said.sent].count(START["type"]) == 1
    assert said.status == 200
    assert said.body.replace(COMMENT, b"") == WORD + LAST + DONE
    assert said.body.endswith(WORD + LAST + DONE)
    assert said.outcome == "ok"


@pytest.mark.parametrize("told", [True, False], ids=["vLLM says so", "vLLM raises"])
async def test_an_engine_that_fails_behind_a_comment_ends_the_stream_with_an_error(
    told: bool,
) -> None:
    said = Said(silence=SHORT)
    await said.say(EVENTS)
    await said.commented(1)
    if told:
        await said.say(part(ERROR), part(DONE), part(b"", more=False))
    else:
        await said.answer.fail()
    assert said.status == 200
    (event,) = [line for line in said.body.split(b"\n\n") if line.startswith(b"data: {")]
    assert json.loads(event.removeprefix(b"data: "))["error"]["type"] == "service_unavailable_error"
    assert said.outcome == "engine_error"


@pytest.mark.parametrize("start", [EVENTS, START], ids=["a stream that has ended", "no stream"])
async def test_a_comment_is_sent_in_nothing_but_a_stream_under_way(start: Message) -> None:
    said = Said(silence=SHORT)
    await said.say(start)
    if start is EVENTS:
        said.answer.close()
    await asyncio.sleep(10 * SHORT)
    assert said.sent == []


async def test_a_comment_under_way_is_sent_before_the_first_word() -> None:
    said, held = Said(silence=SHORT), asyncio.Event()
    keep = said._keep

    async def slowly(message: Message) -> None:
        if message["type"] == START["type"]:
            await held.wait()
        await keep(message)

    said.answer = Answer(slowly, TARGET, 0.0, endpoint=CHAT, drain=said.drain, silence=SHORT)
    await said.say(EVENTS)
    await asyncio.sleep(5 * SHORT)
    word = asyncio.create_task(said.say(part(WORD)))
    await asyncio.sleep(SHORT)
    held.set()
    await word
    assert said.sent[0]["type"] == START["type"]
    assert said.body == COMMENT + WORD


@pytest.mark.parametrize(("status", "short"), [(200, [WORD, TOLD, b""]), (500, [])])
async def test_only_the_bodies_of_a_good_answer_take_the_short_way(
    status: int, short: list[bytes]
) -> None:
    said, bodies = Said(), list[bytes]()

    async def take(message: Message) -> None:
        bodies.append(message["body"])

    said.answer = Answer(said._keep, TARGET, 0.0, endpoint=CHAT, drain=said.drain, bodies=take)
    await said.say({**START, "status": status}, part(WORD), part(ERROR), part(b"", more=False))
    assert bodies == short
    assert said.body == (b"" if short else said.sent[-1]["body"])
    assert said.outcome == "engine_error"


async def test_a_stream_that_just_ends_was_cut_by_the_client() -> None:
    said = Said()
    await said.say(START, part(WORD))
    assert said.outcome == "disconnected"


async def test_an_exception_after_the_first_byte_is_the_engines() -> None:
    said = Said()
    await said.say(START, part(WORD))
    await said.answer.fail()
    assert said.outcome == "engine_error"


async def test_what_happens_behind_the_last_byte_changes_nothing() -> None:
    said = Said()
    await said.say(START, part(LAST), part(b"", more=False))
    said.answer.client_gone()
    await said.answer.fail()
    assert said.outcome == "ok"


async def test_a_stream_cut_off_by_a_drain_ends_with_an_error_the_sdk_raises() -> None:
    said = Said(draining=True)
    await said.say(START, *map(part, (WORD, QUOTED, CUT, DONE)), part(b"", more=False))
    assert said.status == 200
    assert said.body.startswith(WORD + QUOTED)
    event = said.body.removeprefix(WORD + QUOTED).removesuffix(DONE)
    assert json.loads(event.removeprefix(b"data: "))["error"]["code"] == "draining"
    assert said.outcome == "engine_error"


async def test_a_whole_answer_cut_off_by_a_drain_is_a_503_that_may_be_repeated() -> None:
    said = Said(draining=True)
    await said.say(START, part(b'{"choices":[{"finish_reason":"abort"}]}', more=False))
    assert said.status == 503
    assert (b"retry-after", b"5") in said.sent[0]["headers"]
    assert json.loads(said.body)["error"]["code"] == "draining"
    assert said.outcome == "engine_error"


async def test_a_stream_cut_off_before_its_first_word_is_a_503_too() -> None:
    said = Said(draining=True)
    await said.say(START, part(CUT), part(DONE), part(b"", more=False))
    assert [message["type"] for message in said.sent] == [START["type"], part(b"")["type"]]
    assert said.status == 503


async def test_answers_that_finish_during_a_drain_are_untouched() -> None:
    said = Said(draining=True)
    await said.say(START, part(LAST), part(DONE), part(b"", more=False))
    assert (said.status, said.body, said.outcome) == (200, LAST + DONE, "ok")


# -- of `/v1/responses`, whose endings vLLM does not mark

USAGE = b'"usage":{"input_tokens":7,"output_tokens":3,"total_tokens":10}'
FORGED = b'"tools":[{"parameters":{"usage":{"input_tokens":900,"output_tokens":900}}}]'
COMPLETED = b'{"type":"response.completed","response":{%s,%s}}' % (FORGED, USAGE)


def code_of(event: bytes) -> str:
    return str(json.loads(event.removeprefix(b"data: "))["error"]["code"])


async def test_a_stream_that_an_exception_ends_says_so_to_the_sdk() -> None:
    said = Said(endpoint=RESPONSES)
    await said.say(EVENTS, part(b"event: response.created\ndata: {}\n\n"))
    await said.answer.fail()
    last = said.sent[-1]
    assert code_of(last["body"]) == "engine_unavailable"
    assert not last.get("more_body", False)
    assert said.outcome == "engine_error"


async def test_nothing_is_added_to_an_answer_that_is_no_stream() -> None:
    said = Said(endpoint=RESPONSES)
    await said.say(START, part(b'{"id":'))
    await said.answer.fail()
    assert said.body == b'{"id":'


async def test_a_response_that_ends_when_the_drain_is_over_was_cut_off() -> None:
    said = Said(endpoint=RESPONSES)
    await said.say(EVENTS, part(b"event: response.created\ndata: {}\n\n"))
    said.drain.draining = said.drain.drained = True
    await said.say(part(b"event: response.completed\ndata: {}\n\n"), part(b"", more=False))
    assert code_of(said.sent[-1]["body"]) == "draining"
    assert not said.sent[-1]["more_body"]
    whole = Said(drained=True, endpoint=RESPONSES)
    await whole.say(START, part(b"{}", more=False))
    assert whole.status == 503


async def test_a_response_that_ends_while_answers_are_waited_for_is_whole() -> None:
    said = Said(draining=True, endpoint=RESPONSES)
    await said.say(EVENTS, part(b"event: response.completed\ndata: {}\n\n", more=False))
    assert (said.status, said.outcome) == (200, "ok")


@pytest.mark.parametrize(
    "body",
    [b"{%s,%s}" % (FORGED, USAGE), b"event: response.completed\ndata: " + COMPLETED + b"\n\n"],
)
async def test_a_responses_tokens_are_those_that_it_holds_itself(body: bytes) -> None:
    said = Said(endpoint=RESPONSES)
    await said.say(START, part(body), part(b"", more=False))
    registry = CollectorRegistry()
    said.answer.count(Metrics(registry), "support", {})
    labels = {"unit": "support", "alias": BASE, "version": "base"}
    found = [
        registry.get_sample_value("wardrobe_tokens_total", {**labels, "kind": kind})
        for kind in ("prompt", "completion")
    ]
    assert found == [7, 3]


# -- on a route of ours


@pytest.mark.parametrize(
    ("status", "body", "seen", "code"),
    [
        # vLLM's handlers make this of a ValueError, which is a bug of ours and no caller's mistake
        (400, b'{"error":{"message":"secret","code":400}}', 500, "internal_error"),
        (500, b"Internal Server Error", 500, "internal_error"),
        (400, b'{"detail":"Missing boundary in multipart."}', 400, "invalid_request"),
        (404, b'{"detail":"Not Found"}', 404, "not_found"),
        (400, b"[]", 400, "invalid_request"),
        (409, b'{"error":{"message":"moved","code":"version_conflict"}}', 409, "version_conflict"),
    ],
)
async def test_an_error_of_the_frameworks_is_said_in_our_envelope(
    status: int, body: bytes, seen: int, code: str
) -> None:
    sent: list[Message] = []

    async def send(message: Message) -> None:
        sent.append(message)

    enveloped = Enveloped(send)
    await enveloped.send({**START, "status": status})
    await enveloped.send(part(body, more=False))
    assert sent[0]["status"] == seen
    assert json.loads(sent[1]["body"])["error"]["code"] == code
    assert b"secret" not in sent[1]["body"]


# -- through the gateway


async def gives_up(scope: Any, receive: Receive, send: Send) -> None:
    """As vLLM for a client that went away: FastAPI sends `null` for a handler without an answer."""
    while (await receive())["type"] != "http.disconnect":
        pass
    await send(dict(START))
    await send(part(b"null", more=False))


async def breaks(scope: Any, receive: Receive, send: Send) -> None:
    """Half a stream, then an exception."""
    await send(dict(START))
    await send(part(WORD))
    raise RuntimeError("broken")


async def ask(world: World, app: ASGIApp) -> None:
    """One request whose client goes away behind its body."""
    content = json.dumps({"model": BASE, "messages": HELLO}).encode()
    messages: list[Message] = [
        {"type": "http.request", "body": content},
        {"type": "http.disconnect"},
    ]

    async def receive() -> Message:
        return messages.pop(0) if len(messages) > 1 else messages[0]

    async def send(message: Message) -> None:
        pass

    key = f"Bearer {world.key('support')}".encode()
    scope = {
        "type": "http",
        "method": "POST",
        "path": "/v1/chat/completions",
        "headers": [(b"authorization", key)],
        "app": SimpleNamespace(state=SimpleNamespace(wardrobe=world.runtime)),
    }
    await Gateway(app)(scope, receive, send)


async def test_a_client_that_goes_away_before_its_answer_is_counted_as_gone(world: World) -> None:
    await ask(world, gives_up)
    assert outcome(world.prometheus) == "disconnected"


async def test_an_exception_in_the_middle_of_an_answer_is_counted_as_one(world: World) -> None:
    with pytest.raises(RuntimeError):
        await ask(world, breaks)
    assert outcome(world.prometheus) == "engine_error"
