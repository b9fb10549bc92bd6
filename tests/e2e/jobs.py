"""Jobs in end-to-end tests: small lessons, created and followed with the real SDK."""

from __future__ import annotations

import itertools
import json
import random
from collections.abc import Sequence
from typing import Any

from tests.e2e.stack import Stack, wait_for

TOPICS = {
    "invoice": "billing",
    "parcel": "shipping",
    "password": "account",
    "refund": "money",
    "battery": "repair",
    "holiday": "leave",
    "printer": "office",
    "contract": "legal",
}
OPENINGS = ("Hello,", "Hi,", "Good day,", "Please help,", "One question,", "Dear team,")
MIDDLES = (
    "where is my",
    "what about the",
    "there is a problem with my",
    "tell me about my",
    "I need my",
)
ENDINGS = ("today?", "now?", "please.", "thanks.", "again.", "this week.", "soon.", "for me.")


def lessons(unit: str, split: str, count: int) -> list[dict[str, Any]]:
    """Tickets to route, the same for ever; a wording belongs to one split."""
    wordings = list(itertools.product(OPENINGS, MIDDLES, ENDINGS))
    random.Random(unit).shuffle(wordings)
    mine = wordings[:200] if split == "train" else wordings[200:]
    asked = itertools.cycle(TOPICS)
    rows = []
    for number, topic in zip(range(count), asked, strict=False):
        opening, middle, ending = mine[(number // len(TOPICS)) % len(mine)]
        rows.append(
            {
                "messages": [
                    {"role": "system", "content": "Route the ticket."},
                    {"role": "user", "content": f"{opening} {middle} {topic} {ending}"},
                    {"role": "assistant", "content": f"to {TOPICS[topic]}"},
                ]
            }
        )
    return rows


def mixed_up(rows: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """The same tickets, half of the topics routed where their neighbour in `TOPICS` belongs.

    Random labels would not do: of a topic taught right half of the time, a model learns what is
    right.
    """
    places = [f"to {place}" for place in TOPICS.values()]
    half = places[: len(places) // 2]
    wrong = {place: half[at ^ 1] for at, place in enumerate(half)}

    def taught(answer: dict[str, str]) -> dict[str, str]:
        return {**answer, "content": wrong.get(answer["content"], answer["content"])}

    return [{"messages": [*row["messages"][:-1], taught(row["messages"][-1])]} for row in rows]


def jsonl(rows: Sequence[dict[str, Any]]) -> bytes:
    """A training file."""
    return b"".join(json.dumps(row).encode() + b"\n" for row in rows)


def lines(unit: str, split: str, count: int) -> bytes:
    """`count` lessons as JSONL."""
    return jsonl(lessons(unit, split, count))


def start_job(
    stack: Stack, unit: str, *, examples: int = 400, train: bytes | None = None, **options: Any
) -> Any:
    """Uploads lessons, or `train` in their place, and creates a job."""
    client = stack.client(unit)
    content = train or lines(unit, "train", examples)
    uploaded = client.files.create(file=("train.jsonl", content), purpose="fine-tune")
    valid = client.files.create(file=("valid.jsonl", lines(unit, "valid", 80)), purpose="fine-tune")
    return client.fine_tuning.jobs.create(
        model="wardrobe-base", training_file=uploaded.id, validation_file=valid.id, **options
    )


def follow(stack: Stack, job: Any, *, seconds: float = 1800) -> Any:
    """The job once it has ended."""
    client = stack.client(job.x_unit)

    def ended() -> Any:
        now = client.fine_tuning.jobs.retrieve(job.id)
        return now if now.status in {"succeeded", "failed", "cancelled"} else None

    return wait_for(ended, seconds=seconds, what=f"job {job.id} ends")
