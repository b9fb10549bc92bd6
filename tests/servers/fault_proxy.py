"""Proxies that stand between a client and a real server and harm what passes.

`TcpFaultProxy` knows bytes only, so that any protocol goes through it, PostgreSQL's too: it delays,
resets and refuses connections. `HttpFaultProxy` knows requests and answers, and harms single ones.
"""

from __future__ import annotations

import http.client
import os
import socket
import struct
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Self

Applies = Callable[[str, str], bool]
"""Whether a fault applies to a request, by method and path."""
_AT_ONCE = struct.pack("ii", 1, 0)
"""To linger for no time: closing resets the connection."""


@dataclass(frozen=True, kw_only=True)
class Fault:
    """What happens to one request; what is not said happens as without the proxy."""

    delay_s: float = 0.0
    status: int | None = None
    """Answered by the proxy with this; the server never sees the request."""
    body: bytes = b"<Error><Code>SlowDown</Code></Error>"
    drop: bool = False
    """The connection is reset; the server never sees the request."""
    lose_answer: bool = False
    """The server does what it is asked, and the connection is reset instead of its answer."""
    reset_after: int | None = None
    """The connection is reset after so many bytes of the answer's body."""
    cut: int | None = None
    """The answer's body ends after so many bytes, and its headers say that this is right."""
    flip: bool = False
    """One bit in the middle of the answer's body is another."""


@dataclass
class _Armed:
    fault: Fault
    times: int
    applies: Applies


class HttpFaultProxy:
    """Passes HTTP on to a port of this machine, with the faults that tests ask for."""

    def __init__(self, upstream: int) -> None:
        self._upstream = upstream
        self._armed: list[_Armed] = []
        self._lock = threading.Lock()
        self.requests: list[tuple[str, str]] = []
        """Method and path of all that came, in order."""
        proxy = self

        class Handler(_Relaying):
            owner = proxy

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.02,))

    @property
    def endpoint(self) -> str:
        return f"http://127.0.0.1:{self._server.server_address[1]}"

    def harm(self, fault: Fault, *, times: int = 1, applies: Applies = lambda *_: True) -> None:
        """Harms the next so many requests to which it applies, after what was asked before."""
        with self._lock:
            self._armed.append(_Armed(fault, times, applies))

    def heal(self) -> None:
        """Takes back all harm that has not happened yet."""
        with self._lock:
            self._armed.clear()

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join(10.0)

    def fault_for(self, method: str, path: str) -> Fault:
        with self._lock:
            self.requests.append((method, path))
            for armed in self._armed:
                if armed.times > 0 and armed.applies(method, path):
                    armed.times -= 1
                    return armed.fault
        return Fault()

    def ask(
        self, method: str, path: str, headers: dict[str, str], body: bytes
    ) -> tuple[int, list[tuple[str, str]], bytes]:
        """The real server's answer."""
        connection = http.client.HTTPConnection("127.0.0.1", self._upstream, timeout=30.0)
        try:
            connection.request(method, path, body=body, headers=headers)
            answer = connection.getresponse()
            return answer.status, answer.getheaders(), answer.read()
        finally:
            connection.close()


class _Relaying(BaseHTTPRequestHandler):
    owner: HttpFaultProxy
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True

    def handle(self) -> None:
        with suppress(ConnectionError):
            super().handle()

    def _relay(self) -> None:
        body = self.rfile.read(int(self.headers.get("content-length", "0")))
        fault = self.owner.fault_for(self.command, self.path)
        time.sleep(fault.delay_s)
        if fault.drop:
            return self._reset()
        if fault.status is not None:
            return self._answer(fault.status, [], fault.body, Fault())
        headers = {name: value for name, value in self.headers.items() if name != "connection"}
        status, answered, content = self.owner.ask(self.command, self.path, headers, body)
        if fault.lose_answer:
            return self._reset()
        return self._answer(status, answered, content, fault)

    def _answer(
        self, status: int, headers: list[tuple[str, str]], content: bytes, fault: Fault
    ) -> None:
        if fault.cut is not None:
            content = content[: fault.cut]
        if fault.flip and content:
            middle = len(content) // 2
            content = content[:middle] + bytes([content[middle] ^ 1]) + content[middle + 1 :]
        self.send_response_only(status)
        for name, value in headers:
            if name.lower() not in ("content-length", "connection", "transfer-encoding"):
                self.send_header(name, value)
        said = {name.lower(): value for name, value in headers}.get("content-length", "0")
        self.send_header("Content-Length", said if self.command == "HEAD" else str(len(content)))
        self.end_headers()
        if fault.reset_after is not None:
            self.wfile.write(content[: fault.reset_after])
            return self._reset()
        if self.command != "HEAD":
            self.wfile.write(content)
        return None

    def _reset(self) -> None:
        self.close_connection = True
        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _AT_ONCE)
        # taken from the server, which would end the connection in good order first
        os.close(self.connection.detach())

    do_GET = do_PUT = do_POST = do_DELETE = do_HEAD = _relay  # noqa: N815

    def log_message(self, format: str, *args: object) -> None:
        pass


class TcpFaultProxy:
    """Passes connections on to a port of this machine; knows nothing of what they say."""

    def __init__(self, upstream: int) -> None:
        self._upstream = upstream
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._open: set[socket.socket] = set()
        self._thread = threading.Thread(target=self._accept, daemon=True)
        self.refusing = False
        """While set, new connections are reset at once."""
        self.delay_s = 0.0
        """How long every piece of bytes waits, either way."""

    @property
    def port(self) -> int:
        return int(self._listener.getsockname()[1])

    def cut(self) -> None:
        """Resets every connection that is open now."""
        harmed, self._open = self._open, set()
        for connection in harmed:
            _reset(connection)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.refusing = True
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self.cut()
        self._thread.join(10.0)

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            if self.refusing:
                _reset(client)
                continue
            try:
                server = socket.create_connection(("127.0.0.1", self._upstream), timeout=10.0)
            except OSError:
                _reset(client)
                continue
            server.settimeout(None)
            self._open |= {client, server}
            for ends in ((client, server), (server, client)):
                threading.Thread(target=self._pump, args=ends, daemon=True).start()

    def _pump(self, source: socket.socket, sink: socket.socket) -> None:
        with suppress(OSError):
            while piece := source.recv(1 << 16):
                time.sleep(self.delay_s)
                sink.sendall(piece)
        # What is being cut is reset by who cuts it; ending it in good order would hide that.
        for end in {source, sink} & self._open:
            self._open.discard(end)
            with suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)
                end.close()


def _reset(connection: socket.socket) -> None:
    """Closes with a reset: what was not read yet is lost, and the other side is told so."""
    with suppress(OSError):
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _AT_ONCE)
        connection.shutdown(socket.SHUT_RD)
    connection.close()
