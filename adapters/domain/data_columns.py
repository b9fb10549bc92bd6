"""The columns of training data in CSV: by them a file is told from anything else."""

from __future__ import annotations

import csv
from collections.abc import Sequence

COLUMNS = frozenset(
    {
        "prompt",
        "completion",
        "label",
        "instruction",
        "context",
        "input",
        "response",
        "output",
        "system",
        "chosen",
        "rejected",
    }
)
METADATA = "metadata."
"""A column of this name and another one is an entry of `metadata`."""
DELIMITERS = ",;\t"


def delimiter_of(first: bytes) -> str | None:
    """What separates the columns of a file that begins with this line; None where it is no CSV."""
    text = first.decode("utf-8", "replace").strip()
    for delimiter in DELIMITERS:
        names = column_names(next(csv.reader([text], delimiter=delimiter), []))
        if len(COLUMNS.intersection(names)) > 1:
            return delimiter
    return None


def column_names(values: Sequence[str]) -> list[str]:
    """The names of a head as they are compared."""
    return [value.strip().lower().removeprefix("\ufeff") for value in values]
