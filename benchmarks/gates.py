"""How often the `task` gate errs, and how often it lets an honest version through.

    python -m benchmarks.gates                       # simulated scores: a table, minutes
    WARDROBE_BASE=tiny python -m benchmarks.gates --trained --seeds 10  # real jobs: half an hour

Simulated: versions whose true scores are known are compared with the live one as a job compares
them, many times over. The rate of a version that is worse by the whole margin is the gate's error:
it should be one in twenty. The rate of an honest retraining is its power.

Trained: for each seed one job makes an adapter, a second one retrains it on the same data, and a
third one on the same data with half of its answers shuffled among the questions. All gates decide,
through the serving engine. Prints what became of each, and the counts. (The first must be a good
one for the others to say anything: where little has been learnt, half of the answers teach as much
as all.)
"""

from __future__ import annotations

import argparse
import json
import random
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from adapters.domain.bounds import lower_bound
from adapters.settings import Settings
from adapters.state_folder import StateFolder
from benchmarks.stand import free_port
from examples.demo.data import file_of
from examples.demo.house import House
from service.cli.client import Client

UNIT = "planted"
EPOCHS = 8.0
MARGINS = (0.05, 0.1)
NUMBERS = (32, 64, 128)


@dataclass(frozen=True)
class Case:
    """Shares of examples that the candidate alone, and the live version alone, gets right."""

    name: str
    up: float
    down: float


CASES = (
    Case("the same answers", 0.0, 0.0),
    Case("honest, 5 % of answers differ", 0.025, 0.025),
    Case("honest, 10 % differ", 0.05, 0.05),
    Case("honest, 20 % differ", 0.1, 0.1),
    Case("worse by 0.05", 0.025, 0.075),
    Case("worse by 0.1", 0.025, 0.125),
    Case("worse by 0.2", 0.025, 0.225),
    Case("worse by 0.3", 0.025, 0.325),
)


def main(words: Sequence[str] | None = None) -> int:
    """Prints the table, or the fates of trained versions."""
    args = _arguments(words)
    if args.trained:
        seeds = range(args.first, args.first + args.seeds)
        found = trained(seeds, args.examples, args.unit)
        sys.stdout.write(json.dumps(found) + "\n")
        return 0
    sys.stdout.write(
        "| | "
        + " | ".join(f"{number} examples, margin {margin:g}" for number, margin in _columns())
        + " |\n"
    )
    for case in CASES:
        rates = (f"{rate:.0%}" for rate in _rates(case, args.times))
        sys.stdout.write(f"| {case.name} | {' | '.join(rates)} |\n")
        sys.stdout.flush()
    return 0


# -- simulated


def _columns() -> list[tuple[int, float]]:
    return [(number, margin) for number in NUMBERS for margin in MARGINS]


def _rates(case: Case, times: int) -> list[float]:
    """The share of comparisons that the gate lets through, column by column."""
    rates = []
    for number in NUMBERS:
        lows = _bounds(case, number, times)
        rates += [sum(low >= -margin for low in lows) / times for margin in MARGINS]
    return rates


def _bounds(case: Case, number: int, times: int) -> list[float]:
    draw = random.Random(f"{case.name} {number}")
    weights = (case.up, case.down, 1.0 - case.up - case.down)
    return [
        lower_bound(draw.choices((1.0, -1.0, 0.0), weights, k=number), confidence=0.95)
        for _ in range(times)
    ]


# -- trained


def trained(seeds: Sequence[int], examples: int, data: str) -> dict[str, Any]:
    """What became of the retrained and of the shuffled version of each seed."""
    with tempfile.TemporaryDirectory(prefix="wardrobe-gates-") as folder:
        root = Path(folder)
        units = root / "units"
        units.mkdir()
        aliases = [f"seed-{seed}" for seed in seeds]
        unit = {"unit": UNIT, "aliases": aliases, "recipe": {"n_epochs": EPOCHS}}
        (units / f"{UNIT}.yaml").write_text(json.dumps(unit), "utf-8")
        (root / "state").mkdir(mode=0o700)
        settings = Settings().model_copy(update={"units": units, "port": free_port()})
        running = House.open(StateFolder(root / "state"), settings)
        try:
            running.wait_until_ready(lambda: None)
            with running.client(UNIT) as client:
                fates = [_fates(client, seed, examples, data) for seed in seeds]
        finally:
            running.close()
    return {
        "seeds": len(seeds),
        "examples": examples,
        "data": data,
        "retrained_live": sum(fate["retrained"]["live"] for fate in fates),
        "shuffled_live": sum(fate["shuffled"]["live"] for fate in fates),
        "fates": fates,
    }


def _fates(client: Client, seed: int, examples: int, data: str) -> dict[str, Any]:
    """Shuffled comes last: a rejected try would count against the honest one."""
    lines = file_of(data, "train").read_text("utf-8").splitlines()
    random.Random(seed).shuffle(lines)
    rows = [json.loads(line) for line in lines[:examples]]
    _tell(f"seed {seed}")
    fates = {
        "first": _job(client, seed, rows, data, run=0),
        "retrained": _job(client, seed, rows, data, run=1),
        "shuffled": _job(client, seed, half_shuffled(rows, seed), data, run=2),
    }
    for name, fate in fates.items():
        _tell(f"  {name}: {'live' if fate['live'] else 'not live'} {fate['error'] or ''}")
    return {"seed": seed, **fates}


def half_shuffled(rows: Sequence[dict[str, Any]], seed: int) -> list[dict[str, Any]]:
    """The same questions, and half of the answers under another question."""
    draw = random.Random(seed)
    chosen = draw.sample(range(len(rows)), len(rows) // 2)
    answers = [rows[at]["messages"][-1] for at in chosen]
    draw.shuffle(answers)
    changed = list(rows)
    for at, answer in zip(chosen, answers, strict=True):
        changed[at] = {"messages": [*rows[at]["messages"][:-1], answer]}
    return changed


def _job(
    client: Client, seed: int, rows: Sequence[dict[str, Any]], data: str, *, run: int
) -> dict[str, Any]:
    sdk, alias = client.openai, f"seed-{seed}"
    train = b"".join(json.dumps(row).encode() + b"\n" for row in rows)
    valid = file_of(data, "valid").read_bytes() + file_of(data, "test").read_bytes()
    uploaded = [
        sdk.files.create(file=(name, content), purpose="fine-tune").id
        for name, content in (("train.jsonl", train), ("valid.jsonl", valid))
    ]
    job = sdk.fine_tuning.jobs.create(
        model=client.base_model(),
        training_file=uploaded[0],
        validation_file=uploaded[1],
        suffix=alias,
        seed=1000 * seed + run,
    )
    list(client.follow(job.id))
    ended = sdk.fine_tuning.jobs.retrieve(job.id)
    newest = client.versions(alias)[0]
    return {
        "live": client.adapter(alias)["route"]["stable"] == newest["id"],
        "error": ended.error.message if ended.error else None,
        "test": newest["evidence"].get("test"),
        "gates": {
            f"{gate['gate']} {gate['against'] or ''}".strip(): [
                gate["outcome"],
                round(gate["measured"], 4),
                gate["bound"],
            ]
            for gate in newest["gates"]
        },
    }


def _arguments(words: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.gates")
    parser.add_argument("--times", type=int, default=400, help="simulated comparisons of a cell")
    parser.add_argument("--trained", action="store_true", help="real jobs instead")
    parser.add_argument("--seeds", type=int, default=10, help="how many")
    parser.add_argument("--first", type=int, default=0, help="the first of them")
    parser.add_argument("--examples", type=int, default=900, help="training examples of a job")
    parser.add_argument("--unit", default="support", help="whose example data")
    return parser.parse_args(words)


def _tell(line: str) -> None:
    sys.stderr.write(f"{line}\n")
    sys.stderr.flush()


if __name__ == "__main__":
    raise SystemExit(main())
