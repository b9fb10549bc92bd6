"""Upload a unit's files, train an adapter, follow the job, chat with the result.

Run: OPENAI_BASE_URL=http://localhost:8000/v1 OPENAI_API_KEY=<the unit's key> \
     python finetune.py <base model> examples/data/support [alias]

The alias is one of the unit's own, and the first of them where none is given: the job builds the
next version of that adapter.
"""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path

from openai import OpenAI
from openai.types.fine_tuning import FineTuningJob

ENDED = ("succeeded", "failed", "cancelled")
STILL = (*ENDED, "paused")
"""Nothing more happens by itself; the SDK's own list of statuses does not know `paused`."""


def start(client: OpenAI, base: str, folder: Path, alias: str | None) -> FineTuningJob:
    training = client.files.create(file=folder / "train.jsonl", purpose="fine-tune")
    validation = client.files.create(file=folder / "valid.jsonl", purpose="fine-tune")
    return client.fine_tuning.jobs.create(
        model=base, training_file=training.id, validation_file=validation.id, suffix=alias
    )


def follow(client: OpenAI, job_id: str, *, pause: float = 2.0) -> FineTuningJob:
    """Print each event once, oldest first, until the job has ended or is paused."""
    printed: set[str] = set()
    while True:
        job = client.fine_tuning.jobs.retrieve(job_id)  # before its events, so that none is missed
        # Iterating the page fetches the further ones too.
        events = list(client.fine_tuning.jobs.list_events(job_id, limit=100))
        for event in reversed(events):
            if event.id not in printed:
                printed.add(event.id)
                print(f"{event.level:5} {event.message}", flush=True)
        if job.status in STILL:
            return job
        time.sleep(pause)


def first_exchange(path: Path) -> tuple[str, str, str]:
    """System, user and assistant text of the file's first line."""
    with path.open() as lines:
        messages = json.loads(next(lines))["messages"]
    system, user, assistant = (message["content"] for message in messages)
    return system, user, assistant


def main(base: str, folder: str, alias: str | None = None) -> None:
    client = OpenAI()  # reads OPENAI_BASE_URL and OPENAI_API_KEY
    data = Path(folder)
    job = follow(client, start(client, base, data, alias).id)
    if job.status not in ENDED:
        sys.exit(f"{job.id} is paused: client.fine_tuning.jobs.resume({job.id!r}) goes on")
    if job.fine_tuned_model is None:
        sys.exit(f"{job.status}: {job.error.message if job.error else 'no model'}")
    system, user, wanted = first_exchange(data / "test.jsonl")
    answer = client.chat.completions.create(
        model=job.fine_tuned_model,
        messages=[{"role": "system", "content": system}, {"role": "user", "content": user}],
        temperature=0,
    )
    print(f"asked   {user}\nwanted  {wanted}")
    print(f"{job.fine_tuned_model} says {answer.choices[0].message.content}")


if __name__ == "__main__":
    main(*sys.argv[1:])
