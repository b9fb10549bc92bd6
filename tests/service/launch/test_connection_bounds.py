"""Requests that never come, over real connections."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest
import uvicorn

from service.launch.connection_bounds import (
    MAX_HEAD_BYTES,
    READ_BYTES,
    REST_BYTES,
    BoundedHttp,
)

READ_AT_ONCE = 256 * 1024
"""By asyncio."""


class Hasty(BoundedHttp):
    head_seconds = 0.3


async def answer(scope: Any, receive: Callable[[], Any], send: Callable[[Any], Any]) -> None:
    while (await receive()).get("more_body"):
        pass
    headers = [(b"content-length", b"2")]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": b"ok"})


@asynccontextmanager
async def server_of(
    protocol: type[asyncio.Protocol], app: Any = answer
) -> AsyncIterator[tuple[uvicorn.Server, int]]:
    listening = socket.create_server(("127.0.0.1", 0))
    server = uvicorn.Server(uvicorn.Config(app, http=protocol, log_level="error", lifespan="off"))
    task = asyncio.create_task(server.serve(sockets=[listening]))
    while not server.started:  # noqa: ASYNC110
        await asyncio.sleep(0.01)
    try:
        yield server, listening.getsockname()[1]
    finally:
        server.should_exit = True
        await task


@asynccontextmanager
async def serving(protocol: type[asyncio.Protocol], app: Any = answer) -> AsyncIterator[int]:
    async with server_of(protocol, app) as (_, port):
        yield port


async def exchange(port: int, *pieces: bytes, pause: float = 0.0) -> bytes:
    """All that comes back until the server closes or falls silent for a while."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    came = b""
    try:
        for piece in pieces:
            writer.write(piece)
            await writer.drain()
            await asyncio.sleep(pause)
        async with asyncio.timeout(10):
            while read := await reader.read(65536):
                came += read
                if came.endswith(b"ok"):
                    break
    except ConnectionError:
        pass
    finally:
        writer.close()
    return came


@pytest.mark.parametrize("sent", [b"", b"GET / HTTP/1.1\r\n", b"GET / HTTP/1.1\r\nHost: x\r\nA: "])
async def test_a_head_that_never_ends_ends_its_connection(sent: bytes) -> None:
    async with serving(Hasty) as port:
        started = asyncio.get_running_loop().time()
        assert await exchange(port, sent) == b""
        assert 0.2 < asyncio.get_running_loop().time() - started < 8


async def test_so_does_that_of_the_next_request() -> None:
    whole = b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"
    async with serving(Hasty) as port:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(whole)
        assert b"200" in await reader.readuntil(b"ok")
        writer.write(whole[:20])
        async with asyncio.timeout(10):
            assert await reader.read() == b""
        writer.close()


async def refuse(scope: Any, receive: Callable[[], Any], send: Callable[[Any], Any]) -> None:
    """Without a look at the body."""
    headers = [(b"content-length", b"2")]
    await send({"type": "http.response.start", "status": 401, "headers": headers})
    await send({"type": "http.response.body", "body": b"no"})


POST = b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 1000000\r\n\r\n"
POST_AND_CLOSE = POST.replace(b"Host", b"Connection: close\r\nHost")


@pytest.mark.parametrize("post", [POST, POST_AND_CLOSE])
async def test_what_follows_a_refusal_drop_by_drop_ends_its_connection(post: bytes) -> None:
    async with serving(Hasty, refuse) as port:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(post)
        assert b"401" in await reader.readuntil(b"no")
        ended = asyncio.create_task(reader.read())
        async with asyncio.timeout(30):
            while not ended.done():
                writer.write(b"x")
                await asyncio.sleep(0.05)
        with contextlib.suppress(ConnectionError):
            assert await ended == b""
        writer.close()


async def test_who_sends_the_rest_of_a_body_may_ask_again_on_its_connection() -> None:
    async with server_of(BoundedHttp, refuse) as (server, port):
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        for _ in range(2):
            writer.write(POST)
            assert b"401" in await reader.readuntil(b"no")
            (connection,) = await connected(server)
            connection._rest_bytes = REST_BYTES
            connection._look_at_rest()  # so much has come: it goes on
            assert connection._timer is not None
            writer.write(b"x" * 1_000_000)
            while connection._timer is not None:  # noqa: ASYNC110
                await asyncio.sleep(0.01)
        writer.close()


async def test_a_connection_that_is_to_close_closes_behind_the_body_not_amid_it() -> None:
    """Amid it, the system resets it, and takes back an answer that its client has not read."""
    async with serving(BoundedHttp, refuse) as port:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(POST_AND_CLOSE)
        async with asyncio.timeout(10):
            said = await reader.read()  # whose end is seen at once
            assert said.startswith(b"HTTP/1.1 401")
            assert said.endswith(b"no")
            writer.write(b"x" * 1_000_000)
            await writer.drain()
            writer.close()
            await writer.wait_closed()  # raises where it was reset


async def test_what_comes_in_one_piece_with_a_bodys_end_behind_a_closing_answer_is_not_asked() -> (
    None
):
    """Where it is the server that closes: behind a client's own word the parser takes no more."""
    asked = []

    async def close(scope: Any, receive: Any, send: Any) -> None:
        asked.append(scope["method"])
        headers = [(b"content-length", b"2"), (b"connection", b"close")]
        await send({"type": "http.response.start", "status": 401, "headers": headers})
        await send({"type": "http.response.body", "body": b"no"})

    async with server_of(BoundedHttp, close) as (server, port):
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(POST)
        async with asyncio.timeout(10):
            await reader.read()
            writer.write(b"x" * 1_000_000 + b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
            while server.server_state.connections:  # noqa: ASYNC110
                await asyncio.sleep(0.01)
        assert asked == ["POST"]
        writer.close()


async def test_a_header_of_64_mib_is_not_taken() -> None:
    piece = b"x" * READ_AT_ONCE
    async with serving(BoundedHttp) as port:
        _, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(b"GET / HTTP/1.1\r\nHost: x\r\nA: ")
        taken = 0
        with contextlib.suppress(ConnectionError):
            while taken < 64 * 1024 * 1024:
                writer.write(piece)
                await writer.drain()
                taken += len(piece)
        assert taken < 32 * 1024 * 1024
        writer.close()


class Patient(BoundedHttp):
    last_seconds = 60.0


@pytest.mark.parametrize("before", [b"", b"GET / HTTP/1.1\r\nHost: x\r\n", None])
async def test_whoever_has_begun_to_ask_is_answered_by_a_server_that_ends(
    before: bytes | None,
) -> None:
    """None: who has been answered, and is asking again."""
    whole = b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"
    async with server_of(Patient) as (server, port):
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        if before is None:
            writer.write(whole)
            assert b"200" in await reader.readuntil(b"ok")
            before = whole[:20]
        writer.write(before)
        (connection,) = await connected(server)
        while connection._head_bytes != len(before):  # noqa: ASYNC110
            await asyncio.sleep(0.01)
        server.should_exit = True
        while server.servers[0].is_serving():  # noqa: ASYNC110
            await asyncio.sleep(0.01)
        writer.write(whole[len(before) :])
        async with asyncio.timeout(10):
            said = await reader.read()
        assert said.endswith(b"ok")
        assert b"connection: close" in said
        writer.close()


async def test_one_that_says_nothing_does_not_hold_up_the_servers_end() -> None:
    class Impatient(BoundedHttp):
        last_seconds = 0.1

    async with server_of(Impatient) as (server, port):
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        await connected(server)
        server.should_exit = True
        async with asyncio.timeout(10):
            assert await reader.read() == b""
        writer.close()


def stream_until_gone(ended: asyncio.Queue[str]) -> Any:
    """An application that goes on until it hears that its client is gone."""

    async def stream(scope: Any, receive: Callable[[], Any], send: Callable[[Any], Any]) -> None:
        await receive()
        await send({"type": "http.response.start", "status": 200, "headers": []})
        heard = asyncio.create_task(receive())
        while not heard.done():
            piece = b"x" * READ_AT_ONCE
            await send({"type": "http.response.body", "body": piece, "more_body": True})
            await asyncio.sleep(0)
        ended.put_nowait((await heard)["type"])

    return stream


async def test_an_answer_that_nobody_reads_ends_its_connection_and_its_request() -> None:
    class Impatient(BoundedHttp):
        unread_seconds = 0.3

    ended: asyncio.Queue[str] = asyncio.Queue()
    async with serving(Impatient, stream_until_gone(ended)) as port:
        reader, writer = await asyncio.open_connection("127.0.0.1", port, limit=1024)
        writer.write(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
        async with asyncio.timeout(10):
            assert await ended.get() == "http.disconnect"
        with contextlib.suppress(ConnectionError):
            while await reader.read(READ_AT_ONCE):
                pass
        writer.close()


async def test_who_reads_again_in_time_is_given_the_whole_time_again() -> None:
    ended: asyncio.Queue[str] = asyncio.Queue()
    async with server_of(BoundedHttp, stream_until_gone(ended)) as (server, port):
        reader, writer = await asyncio.open_connection("127.0.0.1", port, limit=1024)
        writer.write(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
        (connection,) = await connected(server)
        for _ in range(2):
            while connection._unread is None:  # noqa: ASYNC110
                await asyncio.sleep(0.01)
            while connection._unread is not None:
                assert await reader.read(READ_AT_ONCE)
        writer.close()
        assert await ended.get() == "http.disconnect"


class Unread(BoundedHttp):
    """Looks at once whether what is written has been read, and pauses nobody who writes."""

    unread_seconds = 0.3

    def connection_made(self, transport: Any) -> None:
        transport.set_write_buffer_limits(high=2**30)
        super().connection_made(transport)


LONG = b"x" * (16 * 1024 * 1024)


async def answer_at_length(
    scope: Any, receive: Callable[[], Any], send: Callable[[Any], Any]
) -> None:
    """In one piece, more than the system keeps for a client that does not read."""
    headers = [(b"content-length", str(len(LONG)).encode())]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": LONG})


@pytest.mark.parametrize("after", [b"", b"Connection: close\r\n"])
async def test_a_whole_answer_that_nobody_reads_does_not_keep_its_connection(after: bytes) -> None:
    """Neither one that may be asked again nor one that is closing already."""
    async with server_of(Unread, answer_at_length) as (server, port):
        _, writer = await asyncio.open_connection("127.0.0.1", port, limit=1024)
        writer.write(b"GET / HTTP/1.1\r\nHost: x\r\n" + after + b"\r\n")
        await connected(server)
        async with asyncio.timeout(30):
            while server.server_state.connections:  # noqa: ASYNC110
                await asyncio.sleep(0.01)
        writer.close()


async def test_who_reads_slowly_and_steadily_reads_to_the_end() -> None:
    async with server_of(BoundedHttp, answer_at_length) as (server, port):
        reader, writer = await asyncio.open_connection("127.0.0.1", port, limit=1024)
        writer.write(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
        (connection,) = await connected(server)
        while connection._unread is None:  # noqa: ASYNC110
            await asyncio.sleep(0.01)
        await reader.readuntil(b"\r\n\r\n")
        came = 0
        while connection._unread is not None:
            before = connection.transport.get_write_buffer_size()
            while before - connection.transport.get_write_buffer_size() < READ_BYTES:
                came += len(await reader.read(READ_AT_ONCE))
                if connection._unread is None:  # little is left, and nobody waits for it
                    break
            else:
                connection._unread.cancel()
                connection._look_at_unread(before, connection._answers)
                assert not connection.transport.is_closing()
        while came < len(LONG):
            came += len(await reader.read(READ_AT_ONCE))
        writer.close()


async def connected(server: uvicorn.Server) -> list[Any]:
    """The server's connections, once there is one."""
    while not server.server_state.connections:  # noqa: ASYNC110
        await asyncio.sleep(0.01)
    return list(server.server_state.connections)


async def test_what_is_within_the_bounds_is_answered() -> None:
    head = b"POST / HTTP/1.1\r\nHost: x\r\nA: " + b"x" * (MAX_HEAD_BYTES // 2)
    body = b"y" * (4 * READ_AT_ONCE)
    rest = b"\r\nContent-Length: %d\r\n\r\n" % len(body)
    async with serving(Hasty) as port:
        assert (await exchange(port, head, rest + body)).endswith(b"ok")
        # a body may take its time here: it is bounded where it is read
        assert (await exchange(port, head + rest, body[:9], body[9:], pause=0.4)).endswith(b"ok")
