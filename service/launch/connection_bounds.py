"""Ends connections whose request never comes, or whose answer nobody reads: uvicorn waits for ever,
and takes a head of any size. It does the reverse as well: it closes connections whose request is on
its way, at its own end, and amid a body whose answer is written, which the system may then withhold
from its client.

vLLM's own flags for that bound h11, and uvicorn parses with httptools where that is installed. So
its protocol is replaced by one that counts; bodies are bounded in `service.gateway.request_body`.
"""

from __future__ import annotations

import asyncio
from typing import Any, cast

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

HEAD_SECONDS = 30.0
"""From the first byte of a connection, or of its next request, until the head is whole."""
REST_BYTES = 1024 * 1024
"""What must come of a body in `HEAD_SECONDS` whose request has been answered already, as a refused
one is: an upload may go on until its client looks, one byte a minute may not.
"""
MAX_HEAD_BYTES = 64 * 1024
"""Beside what comes in one read with them (asyncio reads 256 KiB at most)."""
LAST_SECONDS = 0.5
"""What a new connection's first request may still take to come when the server ends."""
UNREAD_SECONDS = 60.0
"""Between two looks at an answer that waits to be read."""
READ_BYTES = 64 * 1024
"""What must have been read of it then, or all. Who reads no faster holds a version, a turn in the
engine and a place of its unit, or a connection that is closed for all but the system; and a drain
waits for it.
"""


class _ToTheBodysEnd:
    """The transport that uvicorn writes one request's answer to; closing it waits for the body."""

    def __init__(self, protocol: BoundedHttp) -> None:
        self._protocol = protocol
        self._cycle = protocol.cycle
        self.write = protocol.transport.write
        self.is_closing = protocol.transport.is_closing

    def close(self) -> None:
        """Of the server, behind an answer or in the place of its rest."""
        unread = self._cycle.response_complete and self._cycle.more_body
        if unread and not self.is_closing():
            self._protocol.close_behind_body()
        else:
            self._protocol.transport.close()


class BoundedHttp(HttpToolsProtocol):
    """uvicorn's protocol, with an end to a request's head and to an answer that nobody reads."""

    head_seconds = HEAD_SECONDS
    unread_seconds = UNREAD_SECONDS
    last_seconds = LAST_SECONDS
    _ending = False
    _closing = False
    """Behind the body."""
    _timer: asyncio.TimerHandle | None = None
    _head_bytes: int | None = 0
    """Of a head that is not whole; None behind it."""
    _rest_bytes = 0
    """Behind a head, since it was last looked."""
    _unread: asyncio.TimerHandle | None = None
    _answers = 0

    def connection_made(self, transport: Any) -> None:
        """Of asyncio."""
        super().connection_made(transport)
        self._wait()

    def connection_lost(self, exc: Exception | None) -> None:
        """Of asyncio."""
        self._wait_no_longer()
        self.resume_writing()
        super().connection_lost(exc)

    def pause_writing(self) -> None:
        """Of asyncio: more is written than the client takes."""
        super().pause_writing()
        self._watch_unread()

    def resume_writing(self) -> None:
        """Of asyncio: it has taken most of it."""
        if self._unread is not None:
            self._unread.cancel()
            self._unread = None
        super().resume_writing()

    def _watch_unread(self) -> None:
        if self._unread is None:
            unread = self.transport.get_write_buffer_size()
            self._unread = self.loop.call_later(
                self.unread_seconds, self._look_at_unread, unread, self._answers
            )

    def _look_at_unread(self, unread: int, answers: int) -> None:
        """`unread` bytes waited at the last look, behind so many answers."""
        self._unread = None
        left = self.transport.get_write_buffer_size()
        if left and unread - left < READ_BYTES and answers == self._answers:
            self.transport.abort()
        elif left:
            self._watch_unread()

    def data_received(self, data: bytes) -> None:
        """Of asyncio."""
        super().data_received(data)
        if self._head_bytes is not None:
            self._head_bytes += len(data)
            if self._head_bytes > MAX_HEAD_BYTES:
                self._give_up()
        else:
            self._rest_bytes += len(data)

    def on_message_begin(self) -> None:
        """Of the parser: the first byte of a request."""
        super().on_message_begin()
        self._head_bytes = 0
        self._wait()

    def on_headers_complete(self) -> None:
        """Of the parser."""
        self._head_bytes = None
        self._wait_no_longer()
        if self._closing:
            return  # it came in one piece with the end of the last
        super().on_headers_complete()
        if self.cycle is not None:
            self.cycle.transport = cast(asyncio.Transport, _ToTheBodysEnd(self))
        if self._ending:
            super().shutdown()  # which ends it behind the answer

    def on_message_complete(self) -> None:
        """Of the parser."""
        self._wait_no_longer()
        super().on_message_complete()
        if self._closing:
            self.transport.close()

    def close_behind_body(self) -> None:
        """Ends the answer for its client now, and the connection when the rest of the body has
        come: closed with bytes unread, the system resets it, and may take the answer back.
        """
        self._closing = True
        if self.transport.can_write_eof():
            self.transport.write_eof()

    def on_response_complete(self) -> None:
        """Of the server. What is left of a body that nobody waits for is read and thrown away: who
        is cut off amid it does not see the answer.
        """
        super().on_response_complete()
        self._answers += 1
        if self.transport.get_write_buffer_size():  # closing it waits for that without an end
            self._watch_unread()
        if self.cycle.response_complete and self.cycle.more_body:
            self._watch_rest()

    def _watch_rest(self) -> None:
        self._wait_no_longer()
        self._rest_bytes = 0
        self._timer = self.loop.call_later(self.head_seconds, self._look_at_rest)

    def _look_at_rest(self) -> None:
        if self._rest_bytes < REST_BYTES:
            self._give_up()
        else:
            self._watch_rest()

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
        """Without a word: whoever is there has asked for nothing yet, or has been answered."""
        self._wait_no_longer()
        if not self.transport.is_closing():
            self.transport.close()
