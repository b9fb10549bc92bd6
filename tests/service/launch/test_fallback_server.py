"""Who answers while the engine is down: what it says, and what a stranger can do to it."""

from __future__ import annotations

import asyncio
import json
import socket
import ssl
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, closing, suppress
from pathlib import Path
from typing import Any

import httpx2
import openai
import pytest

from service.engine.listener import open_listener
from service.engine.vital_signs import MAX_FAILED_STARTS, RestartReason, VitalSigns
from service.launch.fallback_server import Bounds, FallbackServer, Tls, TlsFiles
from tests.servers.certificates import write_pair

TOLD = range(30, 61)
"""Seconds of a first start that are left; a slow machine has used some up."""
CHAT = b"POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\n"


class Front:
    """A listening socket, a fallback server at it, and who may accept instead."""

    def __init__(self, listener: socket.socket, folder: Path) -> None:
        self.listener = listener
        self.port = int(listener.getsockname()[1])
        self.signs = VitalSigns(folder / "signs")
        """The supervisor's and the API process's view."""
        self.signs.begin()
        self.path = folder / "signs"

    @asynccontextmanager
    async def fallback(
        self, tls: Tls = lambda: None, **bounds: Any
    ) -> AsyncIterator[FallbackServer]:
        with closing(VitalSigns(self.path)) as seen:
            server = FallbackServer(self.listener, seen, tls=tls, bounds=Bounds(**bounds))
            stop = asyncio.Event()
            running = asyncio.create_task(server.run(stop))
            try:
                yield server
            finally:
                stop.set()
                await asyncio.wait_for(running, 30)

    async def say(self, words: bytes, *, seconds: float = 10.0) -> bytes:
        """All that is answered to these bytes, until the connection ends."""
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
        try:
            writer.write(words)
            return await asyncio.wait_for(reader.read(), seconds)
        finally:
            writer.close()
            with suppress(OSError):
                await writer.wait_closed()

    async def get(self, path: str) -> tuple[int, Any]:
        answer = await self.say(f"GET {path} HTTP/1.1\r\nhost: x\r\n\r\n".encode())
        head, _, body = answer.partition(b"\r\n\r\n")
        return int(head.split()[1]), json.loads(body)


@pytest.fixture
def front(tmp_path: Path) -> Iterator[Front]:
    with closing(open_listener("127.0.0.1", 0)) as listener:
        made = Front(listener, tmp_path)
        with closing(made.signs):
            yield made


async def test_a_caller_is_told_in_our_envelope_when_to_come_back(front: Front) -> None:
    async with front.fallback():
        answer = await front.say(CHAT + b"content-length: 2\r\n\r\n{}")
    head, _, body = answer.partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 503 ")
    headers = dict(line.split(b": ", 1) for line in head.lower().split(b"\r\n")[1:])
    assert headers[b"connection"] == b"close"
    assert int(headers[b"retry-after"]) in TOLD
    assert headers[b"x-request-id"].startswith(b"req_")
    error = json.loads(body)["error"]
    assert set(error) == {"message", "type", "param", "code"}
    assert (error["type"], error["code"]) == ("service_unavailable_error", "engine_unavailable")


async def test_the_sdk_raises_what_it_may_repeat(front: Front) -> None:
    async with front.fallback():
        client = openai.AsyncOpenAI(
            base_url=f"http://127.0.0.1:{front.port}/v1", api_key="wr-x", max_retries=0
        )
        async with client:
            with pytest.raises(openai.InternalServerError) as raised:
                await client.chat.completions.create(
                    model="support", messages=[{"role": "user", "content": "hi"}]
                )
    assert raised.value.status_code == 503
    assert raised.value.code == "engine_unavailable"
    assert int(raised.value.response.headers["retry-after"]) in TOLD
    assert raised.value.request_id


async def test_a_large_body_is_heard_to_its_end_so_that_its_sender_hears_the_answer(
    front: Front,
) -> None:
    async with front.fallback(), httpx2.AsyncClient(trust_env=False) as client:
        url = f"http://127.0.0.1:{front.port}/v1/files"
        answer = await client.post(url, content=b"x" * (8 * 1024 * 1024))
    assert answer.status_code == 503


async def test_probes_are_told_the_truth(front: Front) -> None:
    async with front.fallback():
        assert await front.get("/livez") == (200, {"status": "alive"})
        assert await front.get("/livez?verbose") == (200, {"status": "alive"})
        status, said = await front.get("/readyz")
        assert (status, said["status"]) == (503, "not ready")
        assert (await front.get("/health"))[0] == 503


async def test_only_when_starting_again_does_not_help_a_probe_may_end_the_pod(
    front: Front,
) -> None:
    async with front.fallback():
        for _ in range(MAX_FAILED_STARTS):
            assert (await front.get("/livez"))[0] == 200
            front.signs.note_start()
            front.signs.note_end(RestartReason.EXIT, was_ready=False, delay=1.0)
        assert (await front.get("/livez"))[0] == 503
        front.signs.note_start()
        front.signs.note_ready()
        assert (await front.get("/livez"))[0] == 200


async def test_on_the_way_out_it_says_draining(front: Front) -> None:
    async with front.fallback():
        front.signs.note_leaving()
        status, said = await front.get("/v1/models")
    assert (status, said["error"]["code"]) == (503, "draining")


async def test_who_connects_before_anybody_accepts_waits_and_is_answered(front: Front) -> None:
    async with asyncio.timeout(20):
        waiting = [asyncio.create_task(front.get("/v1/models")) for _ in range(50)]
        await asyncio.sleep(0.2)
        assert not any(task.done() for task in waiting)
        async with front.fallback():
            answers = await asyncio.gather(*waiting)
    assert {status for status, _ in answers} == {503}


async def test_it_leaves_the_socket_at_once_to_who_accepts_and_takes_it_up_when_that_ends(
    front: Front,
) -> None:
    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: 2\r\n\r\n{}")
        writer.close()

    async with front.fallback():
        assert (await front.get("/v1/models"))[0] == 503
        front.signs.accept()
        at_once = asyncio.create_task(front.get("/v1/models"))
        await asyncio.sleep(0.2)
        assert not at_once.done(), "told that nobody is there"
        service = await asyncio.start_server(answer, sock=front.listener.dup())
        assert (await at_once)[0] == 200
        assert {(await front.get("/v1/models"))[0] for _ in range(50)} == {200}
        front.signs.cease()
        service.close()
        assert {(await front.get("/v1/models"))[0] for _ in range(50)} == {503}


async def test_nobody_is_refused_or_cut_off_while_the_socket_changes_hands(front: Front) -> None:
    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: 2\r\n\r\n{}")
        writer.close()

    stop = asyncio.Event()
    seen: list[int] = []

    async def call() -> None:
        while not stop.is_set():
            seen.append((await front.get("/v1/models"))[0])

    async with front.fallback():
        callers = [asyncio.create_task(call()) for _ in range(8)]
        for _ in range(10):
            service = await asyncio.start_server(answer, sock=front.listener.dup())
            front.signs.accept()
            await asyncio.sleep(0.12)
            service.close()
            front.signs.cease()
            await asyncio.sleep(0.12)
        stop.set()
        await asyncio.gather(*callers)
    assert set(seen) == {200, 503}


async def test_a_head_that_never_ends_is_given_up_and_holds_up_nobody(front: Front) -> None:
    async with front.fallback(head_seconds=0.5):
        slow = [asyncio.create_task(front.say(b"GET /livez HT")) for _ in range(20)]
        await asyncio.sleep(0.1)
        assert (await front.get("/livez"))[0] == 200
        assert set(await asyncio.gather(*slow)) == {b""}


async def test_a_body_that_never_ends_is_given_up(front: Front) -> None:
    async with front.fallback(rest_seconds=0.5):
        reader, writer = await asyncio.open_connection("127.0.0.1", front.port)
        writer.write(CHAT + b"content-length: 99\r\n\r\n{")
        assert (await reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 503")
        async with asyncio.timeout(5):
            with suppress(ConnectionError):
                await reader.read()
        writer.close()


@pytest.mark.parametrize(
    "words",
    [
        b"x" * 40_000 + b"\r\n\r\n",
        b"\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n",
        b"GET /livez\r\n\r\n",
        b"GET  /livez HTTP/1.1\r\n\r\n",
        b"POST http://evil.example/livez HTTP/1.1\r\n\r\n",
    ],
)
async def test_what_is_no_request_for_a_probe_is_answered_like_any_other(
    front: Front, words: bytes
) -> None:
    async with front.fallback():
        answer = await front.say(words)
    assert answer.startswith(b"HTTP/1.1 503 ")
    assert b"evil" not in answer


async def test_more_connections_than_are_served_at_once_wait_their_turn(front: Front) -> None:
    async with front.fallback(connections=4, head_seconds=0.3):
        slow = [asyncio.create_task(front.say(b"GET")) for _ in range(12)]
        await asyncio.sleep(0.05)
        assert (await asyncio.wait_for(front.get("/livez"), 20))[0] == 200
        assert set(await asyncio.gather(*slow)) == {b""}


async def test_clients_that_vanish_leave_nothing_behind(front: Front) -> None:
    async with front.fallback() as server:
        for _ in range(50):
            with socket.create_connection(("127.0.0.1", front.port)) as connection:
                connection.sendall(CHAT)
        async with asyncio.timeout(10):
            await front.get("/livez")
            while server._connections:  # noqa: ASYNC110
                await asyncio.sleep(0.01)


async def test_at_its_end_whoever_waits_in_the_socket_is_still_answered(front: Front) -> None:
    front.signs.accept()  # by a service that does not get to it
    async with front.fallback():
        waiting = [asyncio.create_task(front.get("/v1/models")) for _ in range(20)]
        await asyncio.sleep(0.2)
        front.signs.cease()
    assert {status for status, _ in await asyncio.gather(*waiting)} == {503}


async def test_with_a_certificate_it_answers_encrypted_and_takes_up_a_new_one(
    front: Front, tmp_path: Path
) -> None:
    pair = write_pair(tmp_path, "one")

    async def status() -> int:
        trusted = ssl.create_default_context(cafile=str(pair[0]))
        async with httpx2.AsyncClient(trust_env=False, verify=trusted) as client:
            return (await client.get(f"https://127.0.0.1:{front.port}/v1/models")).status_code

    async with front.fallback(TlsFiles(*pair), head_seconds=2.0):
        assert await status() == 503
        assert await front.say(CHAT + b"\r\n") == b"", "plain words are no handshake"
        write_pair(tmp_path, "two")
        assert await status() == 503
        pair[1].write_text("half written")
        assert await status() == 503, "the pair that fitted serves on"


def test_files_that_never_were_a_pair_are_an_error(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        TlsFiles(tmp_path / "none", tmp_path / "none")()
