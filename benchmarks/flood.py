"""What one unit's flood does to the others.

    python -m benchmarks.flood               tables, about five minutes
    python -m benchmarks.flood --json        no tables
    python -m benchmarks.flood --unlimited   the flood is within its limits: the engine saturates

The last line is one JSON object. Three units with an adapter each are served by the real engine.
Two of them ask at a steady pace. In every other block the third asks at 50 times its share, which
its limit is (`requests_per_minute`); `--unlimited` has it keep as many requests in flight as fifty
of its callers would. Blocks without and with the flood take turns, 60 s of each in all; the ratios
are those of the two calm units' latencies, with 95 % intervals over pairs of blocks. Exit code 1
when it could not be measured; missing a bound is a result.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.table import Table

from adapters.logs import configure_logs
from adapters.registry.open import open_registry
from adapters.settings import Settings
from benchmarks.load import Connection, LoadFailed
from benchmarks.machine import machine, versions
from benchmarks.ratios import Ratio, compare, median, p99
from benchmarks.side_by_side import KEEP_ALIVE_SECONDS
from benchmarks.stand import StandFailed, prepared_settings, publish, running
from service.cli.client import Client

FLOOD, CALM = "flood", ("calm-one", "calm-two")
PATH = "/v1/chat/completions"
TIMES = 50
"""The flood, in shares."""
BOUND = 1.10


@dataclass(frozen=True, kw_only=True)
class Shape:
    """What is asked for."""

    seconds: float
    """Of load without the flood, and as much with it."""
    blocks: int
    pace: float
    """Requests a second of each calm unit."""
    share: float
    """The same of the flood's limit."""
    unlimited: bool
    tokens: int


@dataclass
class Heard:
    """Answers of one unit in one block."""

    first: list[float] = field(default_factory=list)
    whole: list[float] = field(default_factory=list)
    statuses: Counter[int] = field(default_factory=Counter)


class Caller:
    """One unit's clients: as many connections as it takes."""

    def __init__(self, settings: Settings, unit: str, key: str, tokens: int) -> None:
        self._address = ("127.0.0.1", settings.port)
        self._idle: list[Connection] = []
        self._request = _request(settings.port, unit, key, tokens)
        self.heard = Heard()

    async def ask(self) -> None:
        """One request."""
        if self._idle:
            connection = self._idle.pop()
        else:
            loop = asyncio.get_running_loop()
            _, connection = await loop.create_connection(Connection, *self._address)
        first, whole = await connection.exchange(self._request)
        self.heard.statuses[connection.status] += 1
        if connection.status == 200:
            self.heard.first.append(first)
            self.heard.whole.append(whole)
        self._idle.append(connection)

    async def pace(self, per_second: float, until: float) -> None:
        """Asks at this pace, however long answers take."""
        asked: set[asyncio.Task[None]] = set()
        at = time.perf_counter()
        while at < until:
            await asyncio.sleep(max(0.0, at - time.perf_counter()))
            task = asyncio.create_task(self.ask())
            asked.add(task)
            task.add_done_callback(asked.discard)
            at += 1.0 / per_second
        await asyncio.gather(*asked)

    async def press(self, at_once: int, until: float) -> None:
        """Keeps so many requests in flight."""

        async def one() -> None:
            while time.perf_counter() < until:
                await self.ask()

        await asyncio.gather(*(one() for _ in range(at_once)))


def _request(port: int, unit: str, key: str, tokens: int) -> bytes:
    body = json.dumps(
        {
            "model": unit,
            "messages": [{"role": "user", "content": "Where is my parcel, and when?"}],
            "max_tokens": tokens,
            "temperature": 0.0,
            "ignore_eos": True,
            "stream": True,
        }
    )
    lines = (
        f"POST {PATH} HTTP/1.1",
        f"Host: 127.0.0.1:{port}",
        f"Authorization: Bearer {key}",
        "Content-Type: application/json",
        f"Content-Length: {len(body)}",
    )
    return ("\r\n".join(lines) + "\r\n\r\n" + body).encode()


@contextmanager
def served(shape: Shape) -> Iterator[tuple[Settings, Mapping[str, str]]]:
    """The real service with a live version for each unit, and the units' keys.

    Raises StandFailed.
    """
    with prepared_settings() as settings:
        _write_units(settings.units, shape)
        with running(settings, {"WARDROBE_KEEP_ALIVE_SECONDS": KEEP_ALIVE_SECONDS}):
            keys: Mapping[str, str] = json.loads(settings.state_folder.keys.read_text("utf-8"))[
                "units"
            ]
            for unit in (FLOOD, *CALM):
                _put_live(settings, unit, keys[unit])
            yield settings, keys


def _write_units(folder: Path, shape: Shape) -> None:
    for path in folder.glob("*.yaml"):
        path.unlink()
    limits = "" if shape.unlimited else f"{{requests_per_minute: {round(shape.share * 60)}}}"
    for unit in (FLOOD, *CALM):
        said = f"limits: {limits}\n" if unit == FLOOD and limits else ""
        (folder / f"{unit}.yaml").write_text(f"unit: {unit}\naliases: [{unit}]\n{said}", "utf-8")


def _put_live(settings: Settings, unit: str, key: str) -> None:
    registry = open_registry(settings.registry_url)
    try:
        version = publish(settings, registry.versions, unit=unit)
    finally:
        registry.close()
    with Client(settings.url, key) as client:
        if client.promote(unit, version.name)["state"] != "complete":
            raise StandFailed(f"{version.name} did not become live")


async def measure(
    settings: Settings, keys: Mapping[str, str], shape: Shape
) -> tuple[list[Heard], list[Heard], Counter[int]]:
    """What the calm units heard in each block without and with the flood, and the flood's answers.

    Raises LoadFailed where a calm unit was refused.
    """
    callers = {unit: Caller(settings, unit, keys[unit], shape.tokens) for unit in (FLOOD, *CALM)}
    # to warm up; a flood with a limit would have used its minute by then
    await _block(callers, shape, seconds=5.0, flood=shape.unlimited)
    for caller in callers.values():
        caller.heard = Heard()
    idle, flooded, answers = list[Heard](), list[Heard](), Counter[int]()
    for number in range(2 * shape.blocks):
        flood = number % 4 in (1, 2)  # without, with, with, without
        heard = await _block(callers, shape, seconds=shape.seconds / shape.blocks, flood=flood)
        (flooded if flood else idle).append(_calm(heard))
        answers += heard[FLOOD].statuses
    return idle, flooded, answers


async def _block(
    callers: Mapping[str, Caller], shape: Shape, *, seconds: float, flood: bool
) -> Mapping[str, Heard]:
    until = time.perf_counter() + seconds
    work = [callers[unit].pace(shape.pace, until) for unit in CALM]
    if flood and shape.unlimited:
        work.append(callers[FLOOD].press(TIMES, until))
    elif flood:
        work.append(callers[FLOOD].pace(TIMES * shape.share, until))
    await asyncio.gather(*work)
    heard = {unit: caller.heard for unit, caller in callers.items()}
    for caller in callers.values():
        caller.heard = Heard()
    return heard


def _calm(heard: Mapping[str, Heard]) -> Heard:
    together = Heard()
    for unit in CALM:
        if set(heard[unit].statuses) != {200}:
            raise LoadFailed(f"{unit} was answered with {dict(heard[unit].statuses)}")
        together.first += heard[unit].first
        together.whole += heard[unit].whole
    return together


def ratios(idle: Sequence[Heard], flooded: Sequence[Heard]) -> Mapping[str, Ratio]:
    """With the flood over without, by quantity."""
    found = {}
    for name, of in (("p50", median), ("p99", p99)):
        for what, take in (("latency", "whole"), ("ttft", "first")):
            found[f"{what}_{name}"] = compare(
                of,
                [np.array(getattr(block, take)) for block in idle],
                [np.array(getattr(block, take)) for block in flooded],
            )
    return found


def main(words: Sequence[str] | None = None) -> int:
    args = _arguments(words)
    configure_logs("warning")
    shape = Shape(
        seconds=args.seconds,
        blocks=args.blocks,
        pace=args.pace,
        share=args.share,
        unlimited=args.unlimited,
        tokens=args.tokens,
    )
    about = {"machine": machine(), "versions": versions(), "shape": asdict(shape)}
    try:
        with served(shape) as (settings, keys):
            idle, flooded, answers = asyncio.run(measure(settings, keys, shape))
    except (StandFailed, LoadFailed, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    found = ratios(idle, flooded)
    if not args.json:
        _print_table(found)
    print(
        json.dumps(
            {
                **{name: ratio.value for name, ratio in found.items()},
                "bound": BOUND,
                "ratios": {name: asdict(ratio) for name, ratio in found.items()},
                "flood_answers": dict(answers),
                "calm_answers": [sum(len(each.whole) for each in side) for side in (idle, flooded)],
                **about,
            }
        )
    )
    return 0


def _print_table(found: Mapping[str, Ratio]) -> None:
    table = Table("calm units", "idle ms", "flood ms", "ratio", "95 % interval", "bound")
    for name, ratio in found.items():
        table.add_row(
            name,
            f"{ratio.bare * 1000:.1f}",
            f"{ratio.wardrobe * 1000:.1f}",
            f"{ratio.value:.3f}",
            f"{ratio.low:.3f} to {ratio.high:.3f}",
            f"<= {BOUND}" if name.endswith("p99") else "",
        )
    Console().print(table)


def _arguments(words: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="flood", description="What one unit's flood does to the others."
    )
    parser.add_argument("--json", action="store_true", help="nothing but the JSON object")
    parser.add_argument("--unlimited", action="store_true", help="the flood has no rate limit")
    parser.add_argument("--seconds", type=float, default=60.0, help="of each side (default: 60)")
    parser.add_argument("--blocks", type=int, default=6, help="of each side (default: 6)")
    parser.add_argument("--pace", type=float, default=4.0, help="requests a second of a calm unit")
    parser.add_argument("--share", type=float, default=1.0, help="the same of the flood's limit")
    parser.add_argument("--tokens", type=int, default=8, help="of every answer (default: 8)")
    return parser.parse_args(words)


if __name__ == "__main__":
    raise SystemExit(main())
