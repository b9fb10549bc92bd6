"""What a dataset costs in memory does not grow with what its examples say."""

from __future__ import annotations

import gc
import json
import tracemalloc
from collections.abc import Iterator
from pathlib import Path

from adapters.domain.datasets import Part
from tests.training.job.stage import ToyRenderer
from training.data.checked_rows import open_rows, write_rows
from training.data.jsonl import Bounds, iterate_examples
from training.data.parts import StoredRows
from training.data.split import split
from training.data.tokenise import tokenise

WORDS = "a text of twelve words that is said again and again and "
TEXT = WORDS * 80
"""4 KB: keeping it, or its tokens as Python numbers, breaks the bound at once."""
BOUND = 2000
"""Bytes for each example: digests, places, and which part it belongs to."""


class Upload:
    """A file of so many examples that is never whole anywhere."""

    def __init__(self, count: int) -> None:
        self._lines = self._made(count)

    def readline(self, _most: int = -1) -> bytes:
        return next(self._lines, b"")

    def _made(self, count: int) -> Iterator[bytes]:
        for number in range(count):
            asked = {"role": "user", "content": f"question {number}: {TEXT}"}
            record = {"messages": [asked, {"role": "assistant", "content": "yes"}]}
            yield json.dumps(record).encode() + b"\n"


def peak_of(folder: Path, count: int) -> int:
    """Bytes held at the worst moment from the upload to the last row that trains."""
    gc.collect()
    tracemalloc.start()
    try:
        build(folder, count)
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


def build(folder: Path, count: int) -> None:
    upload = Upload(count)
    bounds = Bounds(max_examples=count)
    lines = iterate_examples(upload, param="training_file", bounds=bounds)  # type: ignore[arg-type]
    write_rows(folder / "rows", {}, ((line, False) for line in lines))
    rows = open_rows(folder / "rows", {})
    assert rows is not None
    parts = split(rows.traces, adapter="support", known={})
    (folder / "parts").mkdir()
    tokenise(
        rows,
        parts,
        folder / "parts",
        renderer=ToyRenderer(),
        max_length=10_000,
        alive=lambda: None,
    )
    assert sum(len(row) for row in StoredRows(folder / "parts", Part.TRAIN)) > 900 * len(
        parts.train
    )


def test_an_example_costs_the_same_however_much_it_says(tmp_path: Path) -> None:
    few, many = 200, 1000
    for count in (few, many):
        (tmp_path / str(count)).mkdir()
    grown = peak_of(tmp_path / str(many), many) - peak_of(tmp_path / str(few), few)
    assert grown < BOUND * (many - few), f"{grown / (many - few):.0f} bytes for each example"
