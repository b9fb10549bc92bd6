"""The same engine with and without Wardrobe, in short blocks that take turns (ABBA).

Whatever else the machine does meets both sides alike: they share the process, the engine, the
connections and the minute. What is compared is therefore a ratio, and the interval beside it says
how much of it is noise.
"""

from __future__ import annotations

import json
import secrets
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np

from benchmarks import ratios
from benchmarks.load import Block, Measured, Plan
from benchmarks.ratios import Floats, Ratio
from benchmarks.stand import ALIAS, Stand, StandFailed, serving
from benchmarks.switch import HEADER, SECRET

BARE, WARDROBE = "bare", "wardrobe"
TURNS = (BARE, WARDROBE, WARDROBE, BARE)
PATH = "/v1/chat/completions"
LOAD_SECONDS = 3600.0
KEEP_ALIVE_SECONDS = "600"
"""A worker that has done its rounds waits for the others with its connection open."""
PROMPTS = 16
BLOCK_SECONDS = 0.4
"""Short enough that both sides of a pair meet the same noise, long beside one request."""
MIN_PAIRS = 4


@dataclass(frozen=True, kw_only=True)
class Shape:
    """What one cell is about."""

    concurrency: int
    stream: bool
    tokens: int

    @property
    def name(self) -> str:
        return f"{self.concurrency} × {'stream' if self.stream else 'whole'}"


@dataclass(frozen=True, kw_only=True)
class Cell:
    """What one cell measured. TTFT is a stream's only."""

    shape: Shape
    requests: int
    """Of each side."""
    blocks: int
    throughput: Ratio
    latency_p50: Ratio
    latency_p99: Ratio
    ttft_p50: Ratio | None


@dataclass(frozen=True)
class Bench:
    """The service under test and this run's secret."""

    stand: Stand
    secret: str

    def request(self, shape: Shape, side: str, number: int) -> str:
        """A whole HTTP request; the sides differ in the model's name and one header's value."""
        body = json.dumps(
            {
                "model": self.stand.version if side == BARE else ALIAS,
                "messages": [
                    {"role": "system", "content": "You answer customers in one sentence."},
                    {"role": "user", "content": f"Order {number}: where is my parcel, and when?"},
                ],
                "max_tokens": shape.tokens,
                "temperature": 0.0,
                "ignore_eos": True,
                "stream": shape.stream,
            }
        )
        switch = self.secret if side == BARE else "-" * len(self.secret)
        lines = (
            f"POST {PATH} HTTP/1.1",
            f"Host: 127.0.0.1:{self.stand.settings.port}",
            f"Authorization: Bearer {self.stand.keys[ALIAS]}",
            f"{HEADER.decode()}: {switch}",
            "Content-Type: application/json",
            f"Content-Length: {len(body.encode())}",
        )
        return "\r\n".join(lines) + "\r\n\r\n" + body

    def plan(self, shape: Shape, blocks: Sequence[Block]) -> Plan:
        return Plan(
            host="127.0.0.1",
            port=self.stand.settings.port,
            workers=shape.concurrency,
            requests={
                side: [self.request(shape, side, number) for number in range(PROMPTS)]
                for side in (BARE, WARDROBE)
            },
            blocks=list(blocks),
        )


@contextmanager
def bench() -> Iterator[Bench]:
    """A service with the switch in front. Raises StandFailed."""
    secret = secrets.token_urlsafe(32)
    environment = {SECRET: secret, "WARDROBE_KEEP_ALIVE_SECONDS": KEEP_ALIVE_SECONDS}
    with serving("--middleware benchmarks.switch.Switch", environment) as stand:
        yield Bench(stand, secret)


def measure(
    bench: Bench, shapes: Sequence[Shape], *, seconds: float, tell: Callable[[str], None]
) -> list[Cell]:
    """About `seconds` for each shape. Raises StandFailed."""
    cells = []
    for shape in shapes:
        rounds, quads = shared_out(seconds, round_seconds=_round_seconds(bench, shape))
        blocks = [Block(side=side, rounds=rounds) for side in TURNS * quads]
        cells.append(summarise(shape, generate(bench.plan(shape, blocks))))
        tell(f"{shape.name}: {_said(cells[-1])}")
    return cells


def _round_seconds(bench: Bench, shape: Shape) -> float:
    """How long one request of every worker takes; finding out warms both sides up."""
    trial = [Block(side=side, rounds=max(2, PROMPTS // shape.concurrency)) for side in TURNS]
    measured = generate(bench.plan(shape, trial))
    return min(block.seconds for block in measured) / trial[0].rounds


def shared_out(seconds: float, *, round_seconds: float) -> tuple[int, int]:
    """Rounds of a block, and how often the sides take their turns, so that all takes `seconds`.

    More where one round is so slow that the fewest pairs take longer.
    """
    rounds = max(2, round(BLOCK_SECONDS / round_seconds))
    turns = seconds / (rounds * round_seconds * len(TURNS))
    return rounds, max(MIN_PAIRS // 2, round(turns))


def generate(plan: Plan) -> list[Measured]:
    """Runs the load generator as a process of its own. Raises StandFailed."""
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.load"],
        input=json.dumps(_words(plan)),
        stdout=subprocess.PIPE,
        text=True,
        timeout=LOAD_SECONDS,
        check=False,
    )
    if done.returncode:
        raise StandFailed("the load could not be put on (see above)")
    return [Measured(**block) for block in json.loads(done.stdout)]


def _words(plan: Plan) -> Mapping[str, object]:
    return {**vars(plan), "blocks": [vars(block) for block in plan.blocks]}


def summarise(shape: Shape, measured: Sequence[Measured]) -> Cell:
    """Ratios over all blocks. Raises StandFailed where a block came from the wrong side."""
    sides = {side: [block for block in measured if block.side == side] for side in (BARE, WARDROBE)}
    for side, blocks in sides.items():
        for block in blocks:
            expected = len(block.whole) if side == WARDROBE else 0
            if block.named != expected:
                raise StandFailed(
                    f"{block.named} answers of {side} named a version, not {expected}"
                )
    bare, ours = sides[BARE], sides[WARDROBE]
    whole = [[np.array(block.whole) for block in side] for side in (bare, ours)]
    first = [[np.array(block.first) for block in side] for side in (bare, ours)]
    rates = [[_rate(block) for block in side] for side in (bare, ours)]
    return Cell(
        shape=shape,
        requests=sum(len(block.whole) for block in bare),
        blocks=len(bare),
        throughput=ratios.compare(ratios.median, *rates),
        latency_p50=ratios.compare(ratios.median, *whole),
        latency_p99=ratios.compare(ratios.p99, *whole),
        ttft_p50=ratios.compare(ratios.median, *first) if shape.stream else None,
    )


def _said(cell: Cell) -> str:
    """One line for whoever waits."""
    found = {"throughput": cell.throughput, "p50": cell.latency_p50, "p99": cell.latency_p99}
    if cell.ttft_p50:
        found["TTFT"] = cell.ttft_p50
    return ", ".join(
        f"{name} {ratio.value:.3f} ({ratio.low:.3f} to {ratio.high:.3f})"
        for name, ratio in found.items()
    )


def _rate(block: Measured) -> Floats:
    """Requests a second, as one sample."""
    return np.array([len(block.whole) / block.seconds])
