"""Ends connections whose request never comes: uvicorn waits for ever, and takes a head of any size.
At its own end it does the reverse: it closes connections whose request is on its way.

vLLM's own flags for that bound h11, and uvicorn parses with httptools where that is installed. So
its protocol is replaced by one that counts; bodies are bounded in `service.gateway.request_body`.
"""

from __future__ import annotations

import asyncio
from typing import Any

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

HEAD_SECONDS = 30.0
"""From the first byte of a connection, or of its next request, until the head is whole."""
MAX_HEAD_BYTES = 64 * 1024
"""Beside what comes in one read with them (asyncio reads 256 KiB at most)."""
LAST_SECONDS = 0.5
"""What a new connection's first request may still take to come when the server ends."""


class BoundedHttp(HttpToolsProtocol):
    """uvicorn's protocol, with an end to a request's head."""

    head_seconds = HEAD_SECONDS
    last_seconds = LAST_SECONDS
    _ending = False
    _timer: asyncio.TimerHandle | None = None
    _head_bytes: int | None = 0
    """Of a head that is not whole; None behind it."""

    def connection_made(self, transport: Any) -> None:
        """Of asyncio."""
        super().connection_made(transport)
        self._wait()

    def connection_lost(self, exc: Exception | None) -> None:
        """Of asyncio."""
        self._wait_no_longer()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Of asyncio."""
        super().data_received(data)
        if self._head_bytes is not None:
            self._head_bytes += len(data)
            if self._head_bytes > MAX_HEAD_BYTES:
                self._give_up()

    def on_message_begin(self) -> None:
        """Of the parser: the first byte of a request."""
        super().on_message_begin()
        self._head_bytes = 0
        self._wait()

    def on_headers_complete(self) -> None:
        """Of the parser."""
        self._head_bytes = None
        self._wait_no_longer()
        super().on_headers_complete()
        if self._ending:
            super().shutdown()  # which ends it behind the answer

    def shutdown(self) -> None:
        """Of the server, at its end. Whoever has just connected, or has begun to ask, is answered;
        who has been answered connects anew.
        """
        if self._head_bytes is None:
            super().shutdown()
        else:
            self._ending = True
            self._wait_no_longer()
            self._timer = self.loop.call_later(self.last_seconds, self._give_up)

    def _wait(self) -> None:
        if self._timer is None:
            self._timer = self.loop.call_later(self.head_seconds, self._give_up)

    def _wait_no_longer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _give_up(self) -> None:
        """Without a word: whoever is there has not asked for anything yet."""
        self._wait_no_longer()
        if not self.transport.is_closing():
            self.transport.close()
