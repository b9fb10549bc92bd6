"""CSV → the records that JSONL would have, each with the line it begins on.

The first line names the columns; they are the keys of a format of texts (`training.data.formats`).
A column `metadata.<name>` is that entry of `metadata`. Comma, semicolon or tab.
"""

from __future__ import annotations

import csv
from collections.abc import Iterator, Sequence
from typing import Any

from adapters.domain.data_columns import COLUMNS, METADATA, column_names
from training.data.chat import Mistake

_THUMBS = {"true": True, "1": True, "false": False, "0": False}


def csv_records(
    lines: Iterator[tuple[int, bytes | None]], delimiter: str, cap: int
) -> Iterator[tuple[int, dict[str, Any] | Mistake]]:
    """(line, record) of each row behind the head; a Mistake in the place of one that is none."""
    reader = csv.reader(_texts(lines, cap), delimiter=delimiter, strict=True)
    names: list[str] = []
    begins = 1
    while True:
        try:
            values = next(reader, None)
        except (csv.Error, Mistake) as error:
            # what follows a quotation mark out of place cannot be told apart any more
            said = str(error) if isinstance(error, Mistake) else f"is not CSV: {error}"
            yield begins, Mistake(f"{said}; nothing behind it was read")
            return
        if values is None:
            return
        if not names:
            names = column_names(values)
            unknown = [at for at, name in enumerate(names, 1) if not _is_known(name)]
            if unknown:
                yield 1, Mistake(_unknown(unknown))
        elif values:
            yield begins, _record(names, values)
        begins = reader.line_num + 1


def _texts(lines: Iterator[tuple[int, bytes | None]], cap: int) -> Iterator[str]:
    for number, raw in lines:
        if raw is None:
            raise Mistake(f"is longer than {cap} bytes")
        try:
            yield raw.decode("utf-8")
        except UnicodeDecodeError as error:
            raise Mistake(f"line {number} is not UTF-8 text (byte {error.start + 1})") from None


def _record(names: Sequence[str], values: Sequence[str]) -> dict[str, Any] | Mistake:
    if len(values) != len(names):
        return Mistake(f"has {len(values)} columns where the first line names {len(names)}")
    record: dict[str, Any] = {}
    for name, value in zip(names, values, strict=True):
        if name.startswith(METADATA):
            record.setdefault("metadata", {})[name.removeprefix(METADATA)] = value
        elif name == "label":
            record[name] = _THUMBS.get(value.strip().lower(), value or None)
        else:
            record[name] = value
    return record


def _is_known(name: str) -> bool:
    return name in COLUMNS or name.startswith(METADATA)


def _unknown(places: Sequence[int]) -> str:
    listed = ", ".join(map(str, places))
    return (
        f"column {listed} has a name that is not known: leave it out, or call it "
        f"`{METADATA}<name>` to have examples counted by it"
    )
