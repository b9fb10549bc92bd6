"""Peak memory of a job's process while it builds a dataset and reads it as a fine-tuner does.

    python -m benchmarks.dataset_memory [--examples 100000] [--json]

Makes examples of about 70 words each and a tokenizer for them, uploads them to a registry and a
store of its own, and starts a process like a job's: everything imported that a job imports, the
base's real chat template and tokenizer, all stages from the upload to the published artifact, then
every row of both parts once. No base model is loaded and nothing is trained: what a model needs
comes on top and has nothing to do with how many examples there are.
"""

from __future__ import annotations

import argparse
import json
import random
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from adapters.admission.base_model import BaseModel
from adapters.domain.jobs import Job
from adapters.domain.names import Digest, JobId, Unit, new_file_id, new_job_id
from adapters.domain.principals import SYSTEM
from adapters.domain.recipes import Hyperparameters, Recipe
from adapters.domain.units import UnitConfig, UnitLimits
from adapters.registry import Registry
from adapters.registry.open import open_registry
from adapters.registry.ports import NewFile, NewJob
from adapters.store.folder import FolderStore
from training.base.tokenizer import train_tokenizer
from training.data.render import ChatRenderer
from training.evaluate.through_service import ServiceAnswers, service_client
from training.finetune.fine_tuner import LoraFineTuner, import_slow_modules
from training.job.context import JobContext
from training.job.dataset import prepare_dataset
from training.job.progress import Reporter

UNIT = "memory"
ASKED, ANSWERED = 40, 30
"""Words of a question and of an answer."""
BOUND_MB = 2048.0


def main() -> int:
    """Prints the peak after each stage; 1 where it is over two gigabytes."""
    arguments = argparse.ArgumentParser(prog="python -m benchmarks.dataset_memory")
    arguments.add_argument("--examples", type=int, default=100_000)
    arguments.add_argument("--json", action="store_true", help="print one JSON object")
    arguments.add_argument("--job", help=argparse.SUPPRESS)
    arguments.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    chosen = arguments.parse_args()
    if chosen.job:
        print(json.dumps(measured(chosen.folder, JobId(chosen.job))))
        return 0
    with tempfile.TemporaryDirectory() as folder:
        job = lay_out(Path(folder), chosen.examples)
        command = [sys.executable, "-m", "benchmarks.dataset_memory"]
        child = subprocess.run(
            [*command, "--folder", folder, "--job", job.id], check=True, stdout=subprocess.PIPE
        )
    found = {"examples": chosen.examples, **json.loads(child.stdout.splitlines()[-1])}
    print(json.dumps(found) if chosen.json else "\n".join(f"{k:24}{v}" for k, v in found.items()))
    return int(found["peak_mb"] > BOUND_MB)


def lay_out(folder: Path, examples: int) -> Job:
    """A registry with one running job, a store with its upload, and a base without weights."""
    draw = random.Random(7)
    letters = "abcdefghijklmnopqrstuvwxyz"
    words = ["".join(draw.choices(letters, k=draw.randint(2, 9))) for _ in range(4000)]
    train_tokenizer([" ".join(words)], vocabulary=2048).save_pretrained(folder / "base")
    registry, store = opened(folder)
    digest, size = store.put_file(lines(draw, words, examples), max_bytes=1 << 34)
    file = registry.files.add(
        NewFile(
            id=new_file_id(),
            unit=Unit(UNIT),
            filename="train.jsonl",
            purpose="fine-tune",
            size_bytes=size,
            digest=digest,
        ),
        by=SYSTEM,
    )
    new = NewJob(
        id=new_job_id(),
        unit=Unit(UNIT),
        adapter=UNIT,
        model="base",
        training_file=file.id,
        validation_file=None,
        seed=1,
        hyperparameters=Hyperparameters(),
    )
    registry.jobs.create(new, SYSTEM, idempotency_key=None)
    job = registry.jobs.accept(new.id, error=None)
    registry.close()
    return job


def lines(draw: random.Random, words: list[str], count: int) -> Iterator[bytes]:
    """Examples that are all different."""
    for number in range(count):
        asked = " ".join(draw.choices(words, k=ASKED))
        record = {
            "messages": [
                {"role": "system", "content": "You answer for the help desk."},
                {"role": "user", "content": f"{number} {asked}"},
                {"role": "assistant", "content": " ".join(draw.choices(words, k=ANSWERED))},
            ]
        }
        yield json.dumps(record).encode() + b"\n"


def opened(folder: Path) -> tuple[Registry, FolderStore]:
    """The registry and the store below `folder`."""
    return open_registry(f"sqlite:///{folder / 'registry.sqlite3'}"), FolderStore(folder / "store")


def measured(folder: Path, job_id: JobId) -> dict[str, float | int]:
    """What a job's process needs; numbers are megabytes and seconds."""
    import_slow_modules()
    registry, store = opened(folder)
    base = BaseModel(
        path=folder / "base", name="base", fingerprint=Digest("b" * 64), shapes={"none": (1, 1)}
    )
    job = registry.jobs.claim(owner="benchmark", lease_seconds=86_400.0)
    if job is None or job.lease is None:
        raise SystemExit("there is no job to run")
    context = JobContext(
        registry=registry,
        store=store,
        units=folder,
        base=base,
        renderer=ChatRenderer(base.path),
        fine_tuner=LoraFineTuner(base.path, precision="float32"),
        answers=ServiceAnswers(service_client("http://localhost", "none")),
        workdir=folder / "job",
        clock=time.monotonic,
        sleep=time.sleep,
        stopping=lambda: False,
    )
    before, began = peak_mb(), time.monotonic()
    dataset = prepare_dataset(
        context,
        job,
        job.lease.fence,
        unit=UnitConfig(unit=UNIT, aliases=(UNIT,), limits=UnitLimits(max_examples=10_000_000)),
        recipe=Recipe(),
        reporter=Reporter(registry.jobs, job_id, job.lease.fence),
    )
    built, seconds = peak_mb(), time.monotonic() - began
    tokens = sum(len(row) for part in (dataset.train, dataset.validation) for row in part)
    return {
        "imported_mb": before,
        "built_mb": built,
        "peak_mb": peak_mb(),
        "build_seconds": round(seconds, 1),
        "train_rows": len(dataset.train),
        "tokens": tokens,
    }


def peak_mb() -> float:
    """The most that this process has held so far."""
    return round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024, 1)


if __name__ == "__main__":
    sys.exit(main())
