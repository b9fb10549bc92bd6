"""What callers and operators write down of answers that go wrong."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import httpx2
import pytest

from tests.simulation.callers import Answer, AnswerFailed, Caller, Endpoint, Operator, World
from tests.simulation.history import History, Outcome

NAMED = {"x-adapter-version": "support:1"}


def chunk(word: str, finish: str | None = None, *, model: str = "support:1") -> str:
    choice = {"index": 0, "delta": {"content": word}, "finish_reason": finish}
    return f"data: {json.dumps({'model': model, 'choices': [choice]})}\n\n"


async def taken(*lines: str) -> Answer:
    answer = Answer(streamed=True)
    await answer.read(httpx2.Response(200, headers=NAMED, text="".join(lines)))
    return answer


async def test_a_whole_stream_is_taken_up_with_its_names_and_its_end() -> None:
    answer = await taken(chunk("a"), chunk(" b", "stop"), "data: [DONE]\n\n")
    assert (answer.text, answer.finish, answer.done) == ("a b", "stop", True)
    assert answer.named == {"support:1"}


async def test_a_stream_that_just_ends_is_seen_to_be_cut() -> None:
    cut = await taken(chunk("a"))
    assert (cut.finish, cut.done) == (None, False)


async def test_a_stream_that_names_another_version_midway_is_seen() -> None:
    answer = await taken(chunk("a"), chunk("b", "stop", model="support:2"), "data: [DONE]\n\n")
    assert answer.named == {"support:1", "support:2"}


async def test_an_error_within_a_stream_is_no_answer() -> None:
    error = 'data: {"error": {"message": "x", "code": "draining"}}\n\n'
    with pytest.raises(AnswerFailed, match="in-band draining"):
        await taken(chunk("a"), error, "data: [DONE]\n\n")


Handler = Callable[[bytes], bytes | None]
"""A request's head in, an answer out; None cuts the connection."""


@asynccontextmanager
async def serving(handler: Handler) -> AsyncIterator[str]:
    """A server that answers one request a connection as `handler` says."""

    async def client(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        answer = handler(head)
        if answer is not None:
            writer.write(
                b"HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: "
                + str(len(answer)).encode() + b"\r\n\r\n" + answer
            )  # fmt: skip
        writer.close()

    server = await asyncio.start_server(client, "127.0.0.1", 0)
    async with server:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"


class OneVersion:
    """`support:5`, again and again."""

    def __init__(self) -> None:
        self.given_back: list[str] = []

    async def take(self, alias: str) -> str:
        return f"{alias}:5"

    def give_back(self, alias: str, version: str) -> None:
        del alias
        self.given_back.append(version)


async def operate(handler: Handler | None) -> tuple[History, OneVersion]:
    """One promotion against a server, or against nobody."""
    history, versions = History(), OneVersion()

    async def against(url: str) -> None:
        world = World(
            endpoints=[Endpoint(name="a", url=url)], headers={}, aliases=("support",),
            history=history, stopped=asyncio.Event(),
        )  # fmt: skip
        await Operator(world, seed=1, versions=versions).first()

    if handler is None:
        await against("http://127.0.0.1:9")
    else:
        async with serving(handler) as url:
            await against(url)
    return history, versions


def routed(rest: Callable[[], bytes | None]) -> Handler:
    """Tells the route, and answers a command with `rest`."""
    route = json.dumps({"route": {"generation": 3}}).encode()
    return lambda head: route if head.startswith(b"GET") else rest()


async def test_a_command_whose_answer_is_cut_off_may_have_been_carried_out() -> None:
    history, versions = await operate(routed(lambda: None))
    (command,) = history.commands
    assert command.outcome is Outcome.UNKNOWN
    assert (command.version, command.rollout) == ("support:5", None)
    assert versions.given_back == [], "it may be live"


async def test_a_command_that_nobody_heard_changed_nothing() -> None:
    history, versions = await operate(None)
    assert history.commands[0].outcome is Outcome.REFUSED
    assert versions.given_back == ["support:5"]


async def test_a_command_that_is_complete_names_its_rollout() -> None:
    said = {"state": "complete", "version": "support:5", "id": "12"}
    history, _ = await operate(routed(lambda: json.dumps(said).encode()))
    (command,) = history.commands
    assert (command.outcome, command.rollout) == (Outcome.COMPLETE, 12)


async def test_a_caller_whose_connection_is_cut_has_an_error_and_no_answer() -> None:
    history, stopped = History(), asyncio.Event()

    def cut(head: bytes) -> None:
        del head
        stopped.set()

    async with serving(cut) as url:
        world = World(
            endpoints=[Endpoint(name="a", url=url)], headers={}, aliases=("support",),
            history=history, stopped=stopped,
        )  # fmt: skip
        await Caller(world, seed=1).run()
    (read,) = history.reads
    assert read.error in {"RemoteProtocolError", "ReadError"}
