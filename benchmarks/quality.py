"""What a unit's data becomes with default settings: one job, and exact match before and after it.

    python benchmarks/quality.py --train F --valid F --test F --unit U
        [--examples N] [--questions N] [--plain] [--json]

Starts a service and a trainer of its own on a temporary state folder, uploads the files through
the `openai` SDK, runs one fine-tuning job, puts its version live, scores base and adapter on the
test file through the API, and stops everything. With `--plain`, a PEFT script without any of this
then learns the same lines with the same settings (`plain_peft.py`). The last line is one JSON
object. Exit code 1 when the job or the service fails.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
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
from benchmarks.draw import draw
from benchmarks.exam import BadExam, Question, read_exam, score, tokens_needed
from benchmarks.machine import machine, versions
from benchmarks.stand import free_port, write_unit
from examples.demo.house import House
from service.cli.client import Client
from service.launch.base_resolver import resolve_base

EXAMPLE_UNITS = Path(__file__).parents[1] / "examples" / "units"
FOLLOW_EVERY = 0.25
VALIDATION_SHARE = 5
"""Of `--examples` training lines, one validation line for each so many."""
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
    try:
        read_exam(args.test)
        with tempfile.TemporaryDirectory(prefix="wardrobe-quality-") as folder:
            found = _measured(args, Path(folder))
    except (BadExam, JobFailed, OSError, WardrobeError, openai.OpenAIError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    if not args.json:
        print(f"{found['version']}: {found['base']:.1%} → {found['adapter']:.1%} exact match")
    print(json.dumps({"unit": args.unit, **found, "machine": machine(), "versions": versions()}))
    return 0


def _measured(args: argparse.Namespace, folder: Path) -> dict[str, Any]:
    base = resolve_base(Settings())
    files = _material(args, folder)
    questions = read_exam(files.test)
    longest = tokens_needed(questions, base.path)
    with house(args.unit) as (running, alias), running.client(args.unit) as client:
        learned = learn(client, alias, files)
        found = {
            "base_model": base.name,
            **learned,
            **examine(client, alias, questions, max_tokens=longest),
        }
    if args.plain:
        _tell("the same with plain PEFT")
        found["plain_peft"] = plain_peft(base.path, files, found)
    return found


def _material(args: argparse.Namespace, folder: Path) -> Material:
    """The files as they are given, or the parts of them that are asked for."""
    train, valid, test = args.train, args.valid, args.test
    if args.examples:
        train = draw(train, args.examples, folder)
        valid = draw(valid, args.examples // VALIDATION_SHARE, folder)
    if args.questions:
        test = draw(test, args.questions, folder)
    return Material(train=train, valid=valid, test=test)


def plain_peft(base: Path, files: Material, found: Mapping[str, Any]) -> dict[str, Any]:
    """What `plain_peft.py` makes of the lines with the job's recipe. Raises JobFailed."""
    script = Path(__file__).with_name("plain_peft.py")
    words: list[str] = [
        *("--base", str(base), "--train", str(files.train), "--test", str(files.test)),
        *("--recipe", json.dumps(found["recipe"]), "--precision", found["precision"]),
    ]
    done = subprocess.run(
        [sys.executable, str(script), *words], stdout=subprocess.PIPE, text=True, check=False
    )
    if done.returncode:
        raise JobFailed(f"plain PEFT ended with {done.returncode}")
    return dict(json.loads(done.stdout.splitlines()[-1]))


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
    evidence = client.version(version)["evidence"]
    return {
        "version": version,
        "train_examples": evidence["data"]["train_examples"],
        "recipe": evidence["recipe"],
        "precision": evidence["training"]["precision"],
        "train_seconds": evidence["training"]["seconds"],
        "job_seconds": round(ended - created, 1),
        "live_seconds": round(time.monotonic() - created, 1),
    }


def examine(
    client: Client, alias: str, questions: Sequence[Question], *, max_tokens: int
) -> dict[str, Any]:
    """Exact match of the base and of the alias."""
    _tell(f"asking base and {alias} {len(questions)} questions each")
    began = time.monotonic()

    def right(model: str) -> float:
        return round(score(client.openai, model, questions, max_tokens=max_tokens), 4)

    return {
        "base": right(client.base_model()),
        "adapter": right(alias),
        "n_test": len(questions),
        "score_seconds": round(time.monotonic() - began, 1),
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
    parser.add_argument(
        "--examples", type=_count, metavar="N", help="learn from N lines only, drawn by a seed"
    )
    parser.add_argument(
        "--questions",
        type=_count,
        metavar="N",
        help="ask N lines of the test file, drawn by a seed",
    )
    parser.add_argument("--plain", action="store_true", help="the same with plain PEFT beside it")
    parser.add_argument("--json", action="store_true", help="nothing but the JSON object")
    return parser.parse_args(words)


def _file(text: str) -> Path:
    path = Path(text)
    if not path.is_file():
        raise argparse.ArgumentTypeError(f"there is no file {text}")
    return path


def _count(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text} is not a whole number above 0")
    return int(text)


def _unit(text: str) -> str:
    if not is_name(text):
        raise argparse.ArgumentTypeError("1 to 40 of a-z, 0-9 and -, beginning with a letter")
    return text


def _tell(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


if __name__ == "__main__":
    raise SystemExit(main())
