"""What a unit's data becomes with default settings: one job, and exact match before and after it.

    python benchmarks/quality.py --train F --valid F --test F --unit U [--json]

Starts a service and a trainer of its own on a temporary state folder, uploads the files through
the `openai` SDK, runs one fine-tuning job, puts its version live, scores base and adapter on the
test file through the API, and stops everything. The last line is one JSON object. Exit code 1 when
the job or the service fails.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import openai

from adapters.domain.names import Unit, is_name
from adapters.domain.units import load_units
from adapters.errors import WardrobeError
from adapters.settings import Settings
from adapters.state_folder import StateFolder
from benchmarks.exam import BadExam, Question, read_exam, score
from benchmarks.machine import machine, versions
from benchmarks.stand import free_port, write_unit
from examples.demo.house import House
from service.cli.client import Client

EXAMPLE_UNITS = Path(__file__).parents[1] / "examples" / "units"
FOLLOW_EVERY = 0.25
_SUMMARY = "What a unit's data becomes with default settings, by exact match."


class JobFailed(Exception):
    """The fine-tuning job did not end as it should."""


@dataclass(frozen=True, kw_only=True)
class Material:
    """The files of one job."""

    train: Path
    valid: Path
    test: Path


def main(words: Sequence[str] | None = None) -> int:
    args = _arguments(words)
    files = Material(train=args.train, valid=args.valid, test=args.test)
    try:
        questions = read_exam(files.test)
        with house(args.unit) as (running, alias), running.client(args.unit) as client:
            learned = learn(client, alias, files)
            found = {**learned, **examine(client, alias, questions)}
    except (BadExam, JobFailed, OSError, WardrobeError, openai.OpenAIError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    if not args.json:
        print(f"{found['version']}: {found['base']:.1%} → {found['adapter']:.1%} exact match")
    print(json.dumps({"unit": args.unit, **found, "machine": machine(), "versions": versions()}))
    return 0


@contextmanager
def house(unit: str) -> Iterator[tuple[House, str]]:
    """A fresh service and trainer, and the unit's first alias; everything is gone afterwards.

    Raises WardrobeError where it does not start or stop as it should.
    """
    with tempfile.TemporaryDirectory(prefix="wardrobe-quality-") as folder:
        root = Path(folder)
        units = EXAMPLE_UNITS
        if Unit(unit) not in load_units(units).by_name:
            units = root / "units"
            write_unit(units, unit)
        alias = load_units(units).by_name[Unit(unit)].aliases[0]
        settings = Settings().model_copy(update={"units": units, "port": free_port()})
        (root / "state").mkdir(mode=0o700)
        _tell("starting a service and a trainer")
        running = House.open(StateFolder(root / "state"), settings)
        try:
            running.wait_until_ready(lambda: None)
            yield running, alias
        finally:
            _tell("stopping them")
            running.close()


def learn(client: Client, alias: str, files: Material) -> dict[str, Any]:
    """One job with default settings, its version live, and how long that took.

    `train_seconds` is the fine-tuning alone, `job_seconds` the job from create to success with its
    gates, `live_seconds` from create to the first answer by the new version. Raises JobFailed.
    """
    sdk = client.openai
    with files.train.open("rb") as train, files.valid.open("rb") as valid:
        uploaded = [sdk.files.create(file=file, purpose="fine-tune").id for file in (train, valid)]
    created = time.monotonic()
    job = sdk.fine_tuning.jobs.create(
        model=client.base_model(), training_file=uploaded[0], validation_file=uploaded[1]
    )
    for event in client.follow(job.id, every=FOLLOW_EVERY):
        _tell(f"[{time.monotonic() - created:6.1f} s] {event.message}")
    job = sdk.fine_tuning.jobs.retrieve(job.id)
    if job.status != "succeeded" or job.fine_tuned_model is None:
        reason = job.error.message if job.error else "no reason was given"
        raise JobFailed(f"the job {job.status}: {reason}")
    ended = time.monotonic()
    version = job.fine_tuned_model
    if client.adapter(alias)["route"]["stable"] != version:
        client.promote(alias, version)
    _first_answer(client, alias, version)
    return {
        "version": version,
        "train_seconds": client.version(version)["evidence"]["training"]["seconds"],
        "job_seconds": round(ended - created, 1),
        "live_seconds": round(time.monotonic() - created, 1),
    }


def examine(client: Client, alias: str, questions: Sequence[Question]) -> dict[str, Any]:
    """Exact match of the base and of the alias."""
    _tell(f"asking base and {alias} {len(questions)} questions each")
    return {
        "base": round(score(client.openai, client.base_model(), questions), 4),
        "adapter": round(score(client.openai, alias, questions), 4),
        "n_test": len(questions),
    }


def _first_answer(client: Client, alias: str, version: str) -> None:
    answer = client.openai.chat.completions.create(
        model=alias, messages=[{"role": "user", "content": "Hello"}], max_tokens=1
    )
    if answer.model != version:
        raise JobFailed(f"{alias} is answered by {answer.model}, not by {version}")


def _arguments(words: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="quality.py", description=_SUMMARY)
    for split in ("train", "valid", "test"):
        parser.add_argument(
            f"--{split}", type=_file, required=True, metavar="FILE", help=f"{split} split, JSONL"
        )
    parser.add_argument("--unit", type=_unit, required=True, help="the business unit")
    parser.add_argument("--json", action="store_true", help="nothing but the JSON object")
    return parser.parse_args(words)


def _file(text: str) -> Path:
    path = Path(text)
    if not path.is_file():
        raise argparse.ArgumentTypeError(f"there is no file {text}")
    return path


def _unit(text: str) -> str:
    if not is_name(text):
        raise argparse.ArgumentTypeError("1 to 40 of a-z, 0-9 and -, beginning with a letter")
    return text


def _tell(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


if __name__ == "__main__":
    raise SystemExit(main())
