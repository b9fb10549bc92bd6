"""Jobs in end-to-end tests: created and followed with the real SDK."""

from __future__ import annotations

from typing import Any

from tests.e2e.stack import EXAMPLES, Stack, wait_for


def lines(unit: str, split: str, count: int) -> bytes:
    """The first `count` examples of a split."""
    content = (EXAMPLES / unit / f"{split}.jsonl").read_bytes()
    return b"".join(content.splitlines(keepends=True)[:count])


def start_job(stack: Stack, unit: str, *, examples: int = 400, **options: Any) -> Any:
    """Uploads a part of a unit's example data and creates a job."""
    client = stack.client(unit)
    train = client.files.create(
        file=("train.jsonl", lines(unit, "train", examples)), purpose="fine-tune"
    )
    valid = client.files.create(file=("valid.jsonl", lines(unit, "valid", 80)), purpose="fine-tune")
    return client.fine_tuning.jobs.create(
        model="wardrobe-base", training_file=train.id, validation_file=valid.id, **options
    )


def follow(stack: Stack, job: Any, *, seconds: float = 240) -> Any:
    """The job once it has ended."""
    client = stack.client(job.x_unit)

    def ended() -> Any:
        now = client.fine_tuning.jobs.retrieve(job.id)
        return now if now.status in {"succeeded", "failed", "cancelled"} else None

    return wait_for(ended, seconds=seconds, what=f"job {job.id} ends")
