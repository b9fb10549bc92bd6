"""What is known of an example without its texts: its id, and what it asks.

Two examples ask the same when their user turns are the same, but for case, width and spaces.
"""

from __future__ import annotations

import hashlib
import json
import unicodedata
from dataclasses import dataclass

from training.data.example_json import to_json
from training.data.examples import Example
from training.data.jsonl import DataLine


@dataclass(frozen=True, kw_only=True, slots=True)
class Trace:
    """What splitting needs of an example: small, so that 100,000 of them are 30 MB."""

    number: int
    """Its line."""
    row: bytes
    """Digest of everything it says: its id, the same in every dataset that holds it."""
    asked: tuple[bytes, ...]
    """Digests of its first user turn, its first two, … and at last of all of them."""
    brought: bool = False
    """Whether it stands in the validation file."""

    @property
    def param(self) -> str:
        """Which parameter of the job names its file."""
        return "validation_file" if self.brought else "training_file"


def trace(line: DataLine, *, brought: bool = False) -> Trace:
    """The digests of one example."""
    asked, seen = [], hashlib.blake2b(digest_size=16)
    for text in asking(line.example):
        seen.update(normalised(text).encode("utf-8") + b"\0")
        asked.append(seen.digest())
    return Trace(number=line.number, row=_row_id(line.example), asked=tuple(asked), brought=brought)


def asking(example: Example) -> list[str]:
    """The texts by which an example asks: its user's turns, or what stands before an answer that
    nobody asked for.
    """
    turns = [message.content for message in example.messages if message.role == "user"]
    return turns or [message.content for message in example.prompt]


def normalised(text: str) -> str:
    """A text without what makes no difference to what it asks."""
    return " ".join(unicodedata.normalize("NFKC", text).casefold().split())


def _row_id(example: Example) -> bytes:
    said = json.dumps(to_json(example)).encode()
    return hashlib.blake2b(said, digest_size=16).digest()
