"""What swaps do to those who are served meanwhile.

    python -m benchmarks.swaps            a table, about four minutes
    python -m benchmarks.swaps --json     no table

The last line is one JSON object. Clients of the `openai` SDK keep calling one alias, streaming and
not. In every other block its versions are put live in turn, the next as soon as each client could
have been answered by the one before. Every answer is compared with what the version that it names
answers alone. Exit code 1 when one is not that version's, was cut off or failed, or when nothing
could be measured.
"""

from __future__ import annotations

import argparse
import itertools
import json
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import openai
from rich.console import Console
from rich.table import Table

from adapters.errors import WardrobeError
from adapters.logs import configure_logs
from adapters.registry.open import open_registry
from adapters.settings import Settings
from benchmarks.machine import machine, versions
from benchmarks.ratios import Floats, compare, median, p99
from benchmarks.side_by_side import KEEP_ALIVE_SECONDS
from benchmarks.stand import ALIAS, StandFailed, prepared_settings, publish, running
from benchmarks.taught import saying
from examples.demo.callers import FIRST_TOKENS, Callers, references
from examples.demo.data import WHOLE, Example, held_out
from examples.demo.verdict import Call, Flip, Reference, Verdict, judge
from service.cli.client import Client

ANSWERS = (
    "One of us has your parcel in hand.",
    "Two days, then it is with you.",
    "Three steps, and all is well again.",
)
"""Of each version to everything: nobody else's, and sure of every word."""
LESSONS = 16
QUESTIONS = 8
ASKED = 24
"""Of these, the ones that tell the versions apart best."""
SURE = 0.25
"""Nats between the two likeliest tokens that no rounding of bfloat16 makes up for."""
LOOK_EVERY = 0.01

Bounds = tuple[bool, float, float]
"""Of a block: whether there were swaps, and when it began and ended."""


@dataclass(frozen=True, kw_only=True)
class Shape:
    """What is asked for."""

    seconds: float
    """Without swaps, and as long with them."""
    blocks: int
    clients: int


@dataclass(frozen=True, kw_only=True)
class Costumes:
    """One alias's versions, questions that tell them apart, and what each answers to them."""

    questions: Sequence[Example]
    known: Mapping[str, Sequence[Reference]]
    """By version, which are resident; the last one is live."""


@dataclass(frozen=True, kw_only=True)
class Measured:
    """Latencies in seconds, by block, of calls begun in it; and what all calls prove."""

    still: Sequence[Floats]
    swapped: Sequence[Floats]
    flips: Sequence[Flip]
    verdict: Verdict


@contextmanager
def served() -> Iterator[tuple[Settings, Client]]:
    """The real service, and its unit's client. Raises StandFailed."""
    with (
        prepared_settings() as settings,
        running(settings, {"WARDROBE_KEEP_ALIVE_SECONDS": KEEP_ALIVE_SECONDS}),
    ):
        keys = json.loads(settings.state_folder.keys.read_text("utf-8"))["units"]
        with Client(settings.url, keys[ALIAS]) as client:
            yield settings, client


def prepare(settings: Settings, client: Client, shape: Shape) -> Costumes:
    """A version for each answer, put live one after the other. Raises StandFailed, Diverged."""
    held, made = held_out(ALIAS, WHOLE), list[str]()
    lessons, asked = held[:LESSONS], held[LESSONS : LESSONS + ASKED]
    with (
        closing(open_registry(settings.registry_url)) as registry,
        tempfile.TemporaryDirectory(dir=settings.state) as folder,
    ):
        for number, answer in enumerate(ANSWERS):
            work = Path(folder, str(number))
            work.mkdir()
            adapter = saying(answer, lessons, Path(settings.base), work)
            made.append(publish(settings, registry.versions, adapter=adapter).name)
    first = dict[str, list[Reference]]()
    for name in made:
        put_live(client, name)
        first[name] = _asked(client, name, asked, at_once=0)
    apart = which_tell_apart(first)
    if len(apart) < QUESTIONS:
        raise StandFailed(f"only {len(apart)} questions tell the versions apart")
    questions = [asked[at] for at in apart[:QUESTIONS]]
    known = {name: _asked(client, name, questions, at_once=shape.clients) for name in made}
    return Costumes(questions=questions, known=known)


def _asked(
    client: Client, name: str, questions: Sequence[Example], *, at_once: int
) -> list[Reference]:
    return references(client, name, questions, at_once=at_once, max_tokens=FIRST_TOKENS)


def which_tell_apart(known: Mapping[str, Sequence[Reference]]) -> list[int]:
    """Questions whose answers are each one version's and sure, the surest first."""
    found = {}
    for at, answers in enumerate(zip(*known.values(), strict=True)):
        texts = [answer.texts for answer in answers]
        margin = min(answer.margin for answer in answers)
        if margin > SURE and len(frozenset[str]().union(*texts)) == sum(map(len, texts)):
            found[at] = margin
    return sorted(found, key=lambda at: -found[at])


def measure(client: Client, costumes: Costumes, shape: Shape) -> Measured:
    """Raises StandFailed for a swap that does not become complete."""
    callers = Callers(
        client,
        ALIAS,
        costumes.questions,
        count=shape.clients,
        pace=0.0,
        max_tokens=FIRST_TOKENS,
    )
    turns, flips, bounds = itertools.cycle(costumes.known), list[Flip](), list[Bounds]()
    with callers.calling():
        _until_answered(callers, shape, since=time.monotonic())  # to warm up
        for number in range(2 * shape.blocks):
            swaps = number % 4 in (1, 2)  # without, with, with, without
            begun = time.monotonic()
            until = begun + shape.seconds / shape.blocks
            while swaps and time.monotonic() < until:
                flips.append(put_live(client, next(turns)))
                _until_answered(callers, shape, since=flips[-1].complete)
            time.sleep(max(0.0, until - time.monotonic()))
            bounds.append((swaps, begun, time.monotonic()))
    return Measured(
        still=[_latencies(callers.calls, each) for each in bounds if not each[0]],
        swapped=[_latencies(callers.calls, each) for each in bounds if each[0]],
        flips=flips,
        verdict=judge(callers.calls, costumes.known, flips),
    )


def _latencies(calls: Sequence[Call], bounds: Bounds) -> Floats:
    _, begun, ended = bounds
    return np.array([call.ended - call.started for call in calls if begun <= call.started < ended])


def put_live(client: Client, version: str) -> Flip:
    """Promotes a version and notes when. Raises StandFailed, and what the SDK raises."""
    generation = client.adapter(ALIAS)["route"]["generation"]
    begun = time.monotonic()
    rollout = client.promote(ALIAS, version, generation=generation)
    complete = time.monotonic()
    if rollout["state"] != "complete":
        raise StandFailed(f"{version} did not become live: {rollout.get('error')}")
    return Flip(version=version, begun=begun, complete=complete)


def _until_answered(callers: Callers, shape: Shape, *, since: float) -> None:
    """Every call ends, at the latest with an error, so this does, too."""
    while callers.answered(since=since) < shape.clients:
        time.sleep(LOOK_EVERY)


def main(words: Sequence[str] | None = None) -> int:
    args = _arguments(words)
    configure_logs("warning")
    shape = Shape(seconds=args.seconds, blocks=args.blocks, clients=args.clients)
    about = {"machine": machine(), "versions": versions(), "shape": asdict(shape)}
    try:
        with served() as (settings, client):
            measured = measure(client, prepare(settings, client, shape), shape)
    except (StandFailed, WardrobeError, openai.OpenAIError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    found = told(measured)
    if not args.json:
        _print_table(found)
    print(json.dumps({**found, **about}))
    return 0 if found["clean"] else 1


def told(measured: Measured) -> dict[str, Any]:
    """What was measured, as the last line says it."""
    seconds = np.array([flip.complete - flip.begun for flip in measured.flips])
    ratios = {
        f"latency_{name}": compare(of, measured.still, measured.swapped)
        for name, of in (("p50", median), ("p99", p99))
    }
    return {
        "clean": measured.verdict.clean,
        **{name: ratio.value for name, ratio in ratios.items()},
        "swaps": len(seconds),
        "swap_seconds_p50": median(seconds),
        "swap_seconds_max": float(seconds.max()),
        "verdict": {**vars(measured.verdict), "by_version": dict(measured.verdict.by_version)},
        "ratios": {name: asdict(ratio) for name, ratio in ratios.items()},
    }


def _print_table(found: Mapping[str, Any]) -> None:
    table = Table("while versions are swapped", "")
    for name, ratio in found["ratios"].items():
        said = f"{ratio['wardrobe'] * 1000:.1f} for {ratio['bare'] * 1000:.1f} ms without: "
        said += f"{ratio['value']:.3f} ({ratio['low']:.3f} to {ratio['high']:.3f})"
        table.add_row(name, said)
    table.add_row("swaps", str(found["swaps"]))
    table.add_row("command to complete, p50", f"{found['swap_seconds_p50'] * 1000:.0f} ms")
    table.add_row("the longest", f"{found['swap_seconds_max'] * 1000:.0f} ms")
    for name, count in found["verdict"].items():
        table.add_row(name, str(count))
    Console().print(table)


def _arguments(words: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="swaps", description="What swaps do to those who are served meanwhile."
    )
    parser.add_argument("--json", action="store_true", help="nothing but the JSON object")
    parser.add_argument("--seconds", type=float, default=60.0, help="of each side (default: 60)")
    parser.add_argument("--blocks", type=int, default=6, help="of each side (default: 6)")
    parser.add_argument("--clients", type=int, default=8, help="who call all the time (default: 8)")
    return parser.parse_args(words)


if __name__ == "__main__":
    raise SystemExit(main())
