"""The load generator against a small server: what it counts, times and refuses."""

from __future__ import annotations

import asyncio
import dataclasses
import json
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

import pytest

from benchmarks.load import Block, LoadFailed, Measured, Plan, run
from benchmarks.side_by_side import BARE, TURNS, WARDROBE, Shape, shared_out, summarise
from benchmarks.stand import StandFailed

WHOLE = b'{"finish_reason":"length"}'
DELAY = 0.02


def plain(body: bytes = WHOLE, *, status: bytes = b"200 OK", header: bytes = b"") -> list[bytes]:
    length = str(len(body)).encode()
    return [b"HTTP/1.1 " + status + b"\r\nContent-Length: " + length + header + b"\r\n\r\n", body]


def chunked(*parts: bytes) -> list[bytes]:
    framed = [b"%x\r\n%b\r\n" % (len(part), part) for part in parts]
    return [b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", *framed, b"0\r\n\r\n"]


@asynccontextmanager
async def server(pieces: list[bytes]) -> AsyncIterator[int]:
    """Answers every request with `pieces`, a moment between each two; with none it hangs up."""
    writers: list[asyncio.StreamWriter] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writers.append(writer)
        with suppress(asyncio.IncompleteReadError):
            while pieces and await reader.readuntil(b"\r\n\r\n"):
                for piece in pieces:
                    writer.write(piece)
                    await asyncio.sleep(DELAY)
        writer.close()

    listening = await asyncio.start_server(serve, "127.0.0.1", 0)
    try:
        yield listening.sockets[0].getsockname()[1]
    finally:
        listening.close()
        for writer in writers:
            writer.close()
            with suppress(ConnectionError):
                await writer.wait_closed()


def plan(port: int, *, workers: int = 2, rounds: int = 3) -> Plan:
    return Plan(
        host="127.0.0.1",
        port=port,
        workers=workers,
        requests={BARE: ["GET / HTTP/1.1\r\n\r\n"]},
        blocks=[Block(side=BARE, rounds=rounds)],
    )


async def test_every_request_of_every_worker_is_timed() -> None:
    async with server(plain()) as port:
        (block,) = await run(plan(port))
    assert len(block.first) == len(block.whole) == 6
    assert block.named == 0
    assert block.seconds >= 3 * DELAY


async def test_the_first_byte_of_a_stream_comes_before_its_end() -> None:
    async with server(chunked(b"data: one\n\n", b"data: " + WHOLE + b"\n\n")) as port:
        (block,) = await run(plan(port, workers=1))
    for first, whole in zip(block.first, block.whole, strict=True):
        assert first >= DELAY * 0.8
        assert whole - first >= 2 * DELAY * 0.8


async def test_answers_that_name_their_version_are_counted() -> None:
    async with server(plain(header=b"\r\nX-Adapter-Version: support:1")) as port:
        (block,) = await run(plan(port))
    assert block.named == 6


@pytest.mark.parametrize(
    "pieces",
    [
        plain(status=b"503 Service Unavailable"),
        plain(b'{"finish_reason":"stop"}'),
        chunked(b'data: {"error":{}}\n\n'),
    ],
    ids=["refused", "too short", "an error in a stream"],
)
async def test_an_answer_that_is_not_whole_ends_the_run(pieces: list[bytes]) -> None:
    async with server(pieces) as port:
        with pytest.raises(LoadFailed, match="not a whole answer"):
            await run(plan(port, workers=1))


async def test_a_closed_connection_ends_the_run() -> None:
    async with server([]) as port:
        with pytest.raises(LoadFailed, match="closed"):
            await run(plan(port, workers=1))


async def test_it_runs_as_a_process_of_its_own() -> None:
    async with server(plain()) as port:
        words = dataclasses.asdict(plan(port))
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "benchmarks.load"),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
        )
        output, _ = await process.communicate(json.dumps(words).encode())
    (block,) = json.loads(output)
    assert process.returncode == 0
    assert len(Measured(**block).whole) == 6


def block(side: str, *, seconds: float, named: int) -> Measured:
    return Measured(
        side=side, seconds=seconds, first=[0.01] * 4, whole=[seconds / 4] * 4, named=named
    )


def test_a_cell_compares_the_two_sides() -> None:
    measured = [block(BARE, seconds=1.0, named=0), block(WARDROBE, seconds=1.25, named=4)] * 4
    cell = summarise(Shape(concurrency=1, stream=True, tokens=16), measured)
    assert cell.throughput.value == pytest.approx(0.8)
    assert cell.latency_p50.value == cell.latency_p99.value == pytest.approx(1.25)
    assert cell.ttft_p50 is not None
    assert cell.ttft_p50.value == 1.0
    assert (cell.requests, cell.blocks) == (16, 4)


@pytest.mark.parametrize(("bare", "ours"), [(4, 4), (0, 0), (0, 3)])
def test_blocks_that_took_the_wrong_way_are_no_result(bare: int, ours: int) -> None:
    measured = [block(BARE, seconds=1.0, named=bare), block(WARDROBE, seconds=1.0, named=ours)]
    with pytest.raises(StandFailed, match="named a version"):
        summarise(Shape(concurrency=1, stream=False, tokens=16), measured)


@pytest.mark.parametrize("round_seconds", [0.003, 0.05, 0.4, 2.5])
def test_a_cell_takes_the_time_it_was_given_however_slow_one_round_is(round_seconds: float) -> None:
    rounds, quads = shared_out(40.0, round_seconds=round_seconds)
    assert rounds * round_seconds * len(TURNS) * quads == pytest.approx(40.0, rel=0.3)


def test_a_cell_has_its_pairs_even_where_they_take_longer() -> None:
    assert shared_out(1.0, round_seconds=5.0) == (2, 2)
