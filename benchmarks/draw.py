"""A part of a JSONL file, drawn by a seed: the same lines on every machine."""

from __future__ import annotations

import random
from pathlib import Path

SEED = 17


def draw(source: Path, count: int, folder: Path) -> Path:
    """A file of `count` lines of `source`, or of all where it has fewer; raises OSError."""
    lines = [line for line in source.read_bytes().splitlines(keepends=True) if line.strip()]
    drawn = random.Random(SEED).sample(lines, min(count, len(lines)))
    target = folder / source.name
    target.write_bytes(b"".join(drawn))
    return target
