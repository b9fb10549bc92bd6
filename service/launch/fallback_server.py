"""Answers for the service while its engine is down: the process beside it that needs no engine.

`python -m service.launch.fallback_server VITAL-SIGNS [CERTIFICATE KEY]`, started by the supervisor
with the listening socket. While no API process accepts connections, it does, and says 503 with the
time that a start takes; as soon as one accepts again, it stops. Both take from one socket, so that
nobody is lost between them. It reads of a request no more than a probe's path, keeps no connection,
and bounds what a stranger may cost: bytes, time and connections.
"""

from __future__ import annotations

import asyncio
import os
import resource
import signal
import socket
import ssl
import sys
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import pydantic_core

from adapters.errors import Draining, EngineUnavailable, InvalidRequest, WardrobeError
from service import http_errors
from service.engine.listener import inherited_listener
from service.engine.vital_signs import MAX_FAILED_STARTS, VitalSigns
from service.instance import INSTANCE
from service.launch.tls_context import load_context

LOOK_SECONDS = 0.05
PROBES = (b"/livez", b"/readyz", b"/health")

Tls = Callable[[], ssl.SSLContext | None]
"""What the next connection is encrypted with. Raises OSError, InvalidRequest."""


class TlsFiles:
    """A certificate's files, read again when they have changed."""

    def __init__(self, certificate: Path, key: Path) -> None:
        self._files = (certificate, key)
        self._seen: tuple[int, ...] = ()
        self._context: ssl.SSLContext | None = None

    def __call__(self) -> ssl.SSLContext:
        """The newest pair that fits. Raises OSError, InvalidRequest where there never was one."""
        try:
            seen = tuple(path.stat().st_mtime_ns for path in self._files)
            if self._context is None or seen != self._seen:
                self._context = load_context(*self._files)
                self._seen = seen
        except (OSError, InvalidRequest):
            if self._context is None:
                raise
        return self._context


@dataclass(frozen=True, kw_only=True)
class Bounds:
    """What one stranger, and all of them, may cost."""

    connections: int = 512
    """At once; more wait in the socket's queue."""
    head_bytes: int = 16 * 1024
    head_seconds: float = 10.0
    """For a TLS handshake and the request's head."""
    rest_bytes: int = 64 * 1024 * 1024
    rest_seconds: float = 10.0
    """For reading the answer, and for what is sent behind the head: who closes a connection that
    has unread bytes cuts off its own answer.
    """


class FallbackServer:
    """Accepts from `listener` whenever nobody else does."""

    def __init__(
        self,
        listener: socket.socket,
        signs: VitalSigns,
        *,
        tls: Tls = lambda: None,
        bounds: Bounds = Bounds(),
    ) -> None:
        listener.setblocking(False)
        self._listener = listener
        self._signs = signs
        self._tls = tls
        self._bounds = bounds
        self._connections: set[asyncio.Task[None]] = set()
        self._accepting = False

    async def run(self, stop: asyncio.Event) -> None:
        """Until `stop`; whoever waits then still gets an answer."""
        while not stop.is_set():
            self._take_turn()
            with suppress(TimeoutError):
                await asyncio.wait_for(stop.wait(), LOOK_SECONDS)
        self._accept()
        self._pause()
        if self._connections:
            await asyncio.wait(self._connections, timeout=self._bounds.head_seconds)

    def _take_turn(self) -> None:
        wanted = not self._signs.accepting and len(self._connections) < self._bounds.connections
        if wanted and not self._accepting:
            asyncio.get_running_loop().add_reader(self._listener, self._accept)
            self._accepting = True
        elif self._accepting and not wanted:
            self._pause()

    def _pause(self) -> None:
        asyncio.get_running_loop().remove_reader(self._listener)
        self._accepting = False

    def _accept(self) -> None:
        """Takes who waits, as many as may be here at once; the next turn takes the others.

        Who accepts is looked up for each: after a service has said that it is ready, nobody is told
        that it is not.
        """
        while len(self._connections) < self._bounds.connections and not self._signs.accepting:
            try:
                connection, _ = self._listener.accept()
            except (BlockingIOError, InterruptedError, ConnectionAbortedError):
                return  # nobody waits, or another process was faster
            except OSError:
                break  # no descriptor is left
            task = asyncio.ensure_future(self._serve(connection))
            self._connections.add(task)
            task.add_done_callback(self._connections.discard)
        self._pause()

    async def _serve(self, connection: socket.socket) -> None:
        """One connection, one answer. Whatever a stranger does ends here."""
        loop = asyncio.get_running_loop()
        reader = asyncio.StreamReader(limit=self._bounds.head_bytes, loop=loop)
        protocol = asyncio.StreamReaderProtocol(reader, loop=loop)
        try:
            async with asyncio.timeout(self._bounds.head_seconds):
                transport, _ = await loop.connect_accepted_socket(
                    lambda: protocol, connection, ssl=self._tls()
                )
        except (OSError, TimeoutError, InvalidRequest):  # TLS errors are OSErrors
            connection.close()
            return
        writer = asyncio.StreamWriter(transport, protocol, reader, loop)
        try:
            async with asyncio.timeout(self._bounds.head_seconds):
                head = await _head(reader)
            async with asyncio.timeout(self._bounds.rest_seconds):
                await self._say(reader, writer, head)
        except (OSError, TimeoutError, EOFError):
            pass
        finally:
            transport.abort()

    async def _say(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, head: bytes
    ) -> None:
        method, path = _request_line(head)
        status, body, headers = self.answer(path)
        lines = [f"HTTP/1.1 {status} {_REASONS[status]}".encode(), b"connection: close"]
        lines += [name + b": " + value for name, value in headers]
        lines.append(b"content-length: " + str(len(body)).encode())
        writer.write(b"\r\n".join([*lines, b"", b"" if method == b"HEAD" else body]))
        await writer.drain()
        if writer.can_write_eof():
            writer.write_eof()
        left = self._bounds.rest_bytes
        while left > 0 and (rest := await reader.read(64 * 1024)):
            left -= len(rest)

    def answer(self, path: bytes) -> tuple[int, bytes, http_errors.Headers]:
        """Status, body and headers for a request of `path`."""
        if path in PROBES:
            status, said = self._livez() if path == b"/livez" else self._readyz()
            return status, pydantic_core.to_json(said), [(b"content-type", b"application/json")]
        status, body, headers = http_errors.render(self._error())
        headers.append((b"x-request-id", http_errors.new_request_id().encode()))
        return status, body, headers

    def _error(self) -> WardrobeError:
        if self._signs.leaving:
            return Draining("this replica is shutting down")
        seconds = self._signs.seconds_left()
        return EngineUnavailable(
            f"the engine is being started; it takes about {seconds} s more", retry_after=seconds
        )

    def _livez(self) -> tuple[int, dict[str, str]]:
        """Alive as long as starting the engine again may still help."""
        if self._signs.failed_starts >= MAX_FAILED_STARTS:
            return 503, {"status": "the engine does not start"}
        return 200, {"status": "alive"}

    def _readyz(self) -> tuple[int, dict[str, object]]:
        checks = {
            "engine": "is being started",
            "failed_starts": str(self._signs.failed_starts),
            "draining": "yes" if self._signs.leaving else "no",
        }
        return 503, {
            "status": "not ready",
            "checks": checks,
            "instance": os.environ.get(INSTANCE),
            "process": None,
        }


_REASONS = {200: "OK", 503: "Service Unavailable"}


async def _head(reader: asyncio.StreamReader) -> bytes:
    """A request's head; what is too long for one is told so by no more than the answer.

    Raises EOFError when the client goes away before its end.
    """
    try:
        return await reader.readuntil(b"\r\n\r\n")
    except asyncio.LimitOverrunError:
        return b""


def _request_line(head: bytes) -> tuple[bytes, bytes]:
    """Method and path; what is none of HTTP is asked for nothing."""
    words = head.partition(b"\r\n")[0].split(b" ")
    if len(words) != 3:
        return b"", b""
    return words[0], words[1].partition(b"?")[0]


def raise_descriptor_limit() -> None:
    """As many descriptors as this process may have."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft < hard:
        with suppress(OSError, ValueError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


async def serve(listener: socket.socket, signs: VitalSigns, tls: Tls) -> None:
    """Runs until SIGTERM."""
    stop = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
    await FallbackServer(listener, signs, tls=tls).run(stop)


def main() -> None:
    """Runs it over the socket that was handed on."""
    listener = inherited_listener()
    if listener is None:
        sys.exit("the supervisor starts this process, with the socket it listens on")
    raise_descriptor_limit()
    signs, *pair = map(Path, sys.argv[1:])
    asyncio.run(serve(listener, VitalSigns(signs), TlsFiles(*pair) if pair else lambda: None))


if __name__ == "__main__":
    main()
