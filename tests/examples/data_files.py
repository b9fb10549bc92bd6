"""Reads the committed example files for the tests of this folder."""

from __future__ import annotations

import json
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).parents[2]
DATA = ROOT / "examples" / "data"
UNITS = ("support", "sales", "hr")
SPLITS = ("train", "valid", "test")


class Row(NamedTuple):
    """One line of a file."""

    system: str
    user: str
    answer: str


def rows(unit: str, split: str) -> list[Row]:
    lines = (DATA / unit / f"{split}.jsonl").read_text(encoding="utf-8").splitlines()
    return [Row(*(m["content"] for m in json.loads(line)["messages"])) for line in lines]
