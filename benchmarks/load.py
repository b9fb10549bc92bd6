"""A closed-loop load generator in a process of its own, cheap enough to share the machine.

`python -m benchmarks.load` reads one plan (JSON) from its input and writes what it measured to its
output. Each worker has one connection and one request in flight. Requests are bytes made up front;
answers are not parsed beyond what tells that they are whole, so that the generator's share of the
two cores stays small.
"""

from __future__ import annotations

import asyncio
import gc
import json
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import cast

import uvloop

WHOLE = b'"finish_reason":"length"'
"""Every answer is as long as it may be (`ignore_eos`), and says so."""
VERSION_HEADER = b"\r\nx-adapter-version: "
END_OF_CHUNKS = b"\r\n0\r\n\r\n"
ANSWER_SECONDS = 600.0


class LoadFailed(Exception):
    """An answer was not what it must be, so nothing measured with it means anything."""


@dataclass(frozen=True, kw_only=True)
class Block:
    """One stretch of load from one side: each worker sends `rounds` requests, one by one."""

    side: str
    rounds: int


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What to do. `requests` are whole HTTP/1.1 requests by side; workers take them in turn."""

    host: str
    port: int
    workers: int
    requests: dict[str, list[str]]
    blocks: list[Block]


@dataclass(frozen=True, kw_only=True)
class Measured:
    """One block. Times in seconds, by request; the first byte is the first of the body."""

    side: str
    seconds: float
    first: list[float]
    whole: list[float]
    named: int
    """Answers that name the version they come from: Wardrobe's all do, the bare engine's none."""


class Connection(asyncio.Protocol):
    """One keep-alive connection with at most one request in flight."""

    def __init__(self) -> None:
        self._transport: asyncio.WriteTransport | None = None
        self._done: asyncio.Future[None] | None = None
        self._answer = bytearray()
        self._body_at = -1
        self._length: int | None = None
        self.first_at = 0.0
        self.named = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # uvloop's transports are no subclasses of asyncio's
        self._transport = cast(asyncio.WriteTransport, transport)

    def connection_lost(self, error: Exception | None) -> None:
        self._transport = None
        if self._done and not self._done.done():
            self._done.set_exception(LoadFailed("the connection was closed before the answer"))

    def data_received(self, data: bytes) -> None:
        self._answer += data
        if self._body_at < 0 and not self._read_head():
            return
        if not self.first_at and len(self._answer) > self._body_at:
            self.first_at = time.perf_counter()
        if self._is_whole() and self._done and not self._done.done():
            self._done.set_result(None)

    def _read_head(self) -> bool:
        end = self._answer.find(b"\r\n\r\n")
        if end < 0:
            return False
        head = self._answer[: end + 2].lower()
        self._body_at = end + 4
        self.named = VERSION_HEADER in head
        _, found, rest = head.partition(b"\r\ncontent-length: ")
        self._length = int(rest.partition(b"\r\n")[0]) if found else None
        return True

    def _is_whole(self) -> bool:
        if self._length is None:
            return self._answer.endswith(END_OF_CHUNKS)
        return len(self._answer) >= self._body_at + self._length

    @property
    def status(self) -> int:
        """Of the answer."""
        return int(self._answer[9:12])

    async def ask(self, request: bytes) -> tuple[float, float]:
        """Seconds to the first byte of the body and to its end. Raises LoadFailed."""
        times = await self.exchange(request)
        if self.status != 200 or WHOLE not in self._answer:
            raise LoadFailed(f"not a whole answer: {bytes(self._answer[-300:])!r}")
        return times

    async def exchange(self, request: bytes) -> tuple[float, float]:
        """As `ask`, whatever the answer is."""
        if self._transport is None:
            raise LoadFailed("the connection was closed between two requests")
        self._answer, self._body_at, self.first_at = bytearray(), -1, 0.0
        self._done = asyncio.get_running_loop().create_future()
        began = time.perf_counter()
        self._transport.write(request)
        try:
            await asyncio.wait_for(self._done, ANSWER_SECONDS)
        except TimeoutError:
            raise LoadFailed(f"no answer within {ANSWER_SECONDS:.0f} s") from None
        return self.first_at - began, time.perf_counter() - began

    def close(self) -> None:
        if self._transport:
            self._transport.close()


async def run(plan: Plan) -> list[Measured]:
    """Every block of the plan, one after another. Raises LoadFailed, OSError."""
    loop = asyncio.get_running_loop()
    made = [
        await loop.create_connection(Connection, plan.host, plan.port) for _ in range(plan.workers)
    ]
    connections = [connection for _, connection in made]
    requests = {side: [text.encode() for text in texts] for side, texts in plan.requests.items()}
    try:
        return [await _block(block, connections, requests[block.side]) for block in plan.blocks]
    finally:
        for connection in connections:
            connection.close()


async def _block(
    block: Block, connections: Sequence[Connection], requests: Sequence[bytes]
) -> Measured:
    first: list[float] = []
    whole: list[float] = []
    named = 0

    async def worker(number: int, connection: Connection) -> None:
        nonlocal named
        for turn in range(block.rounds):
            request = requests[(number + turn * len(connections)) % len(requests)]
            to_first, to_end = await connection.ask(request)
            first.append(to_first)
            whole.append(to_end)
            named += connection.named

    gc.collect()
    gc.disable()
    began = time.perf_counter()
    await asyncio.gather(*(worker(*each) for each in enumerate(connections)))
    seconds = time.perf_counter() - began
    gc.enable()
    return Measured(side=block.side, seconds=seconds, first=first, whole=whole, named=named)


def main() -> int:
    """Plan in, measurements out; a failure is one line on standard error and exit code 1."""
    words = json.load(sys.stdin)
    blocks = [Block(**block) for block in words.pop("blocks")]
    try:
        measured = uvloop.run(run(Plan(**words, blocks=blocks)))
    except (LoadFailed, OSError) as error:
        print(f"load: {error}", file=sys.stderr)
        return 1
    json.dump([asdict(block) for block in measured], sys.stdout)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
