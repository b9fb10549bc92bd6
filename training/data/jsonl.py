"""An uploaded JSONL file → examples, or every mistake in it with its line number.

Reads line by line with a cap, so that a file of any size costs bounded memory while it is
checked. A UTF-8 byte order mark, CRLF line ends and blank lines are tolerated.
"""

from __future__ import annotations

import codecs
import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import BinaryIO

from adapters.errors import InvalidFile
from training.data.chat import Mistake, parse_example
from training.data.examples import Example

MAX_LINE = 1024 * 1024
"""Bytes of one example; no context window holds more."""
SHOWN = 20
"""Mistakes named in an error; the rest is counted."""


@dataclass(frozen=True, kw_only=True)
class DataLine:
    """An example and the line of the file it stands on (1 is the first)."""

    number: int
    example: Example


@dataclass(frozen=True, kw_only=True)
class Bounds:
    """How many examples a file may hold, and how long a line may be (bytes)."""

    min_examples: int = 1
    max_examples: int
    max_line: int = MAX_LINE


@dataclass
class _Mistakes:
    shown: list[str] = field(default_factory=list)
    count: int = 0

    def add(self, line: int, what: str) -> None:
        self.count += 1
        if len(self.shown) < SHOWN:
            self.shown.append(f"line {line}: {what}")

    def text(self) -> str:
        more = self.count - len(self.shown)
        return "; ".join([*self.shown, *([f"and {more} more"] if more else [])])


def iterate_examples(file: BinaryIO, *, param: str, bounds: Bounds) -> Iterator[DataLine]:
    """Yields examples as they are read.

    Raises InvalidFile (`param`) at the end, naming the lines of all mistakes.
    """
    mistakes = _Mistakes()
    count = 0
    for number, raw in _lines(file, param, bounds.max_line):
        try:
            example = None if raw is not None and not raw.strip() else _parse(raw, bounds.max_line)
        except Mistake as mistake:
            mistakes.add(number, str(mistake))
            continue
        if example is None:
            continue
        count += 1
        if count > bounds.max_examples:
            raise refuse(param, f"has more than the {bounds.max_examples} examples allowed")
        if not mistakes.count:
            yield DataLine(number=number, example=example)
    if mistakes.count:
        raise refuse(param, mistakes.text())
    if count < bounds.min_examples:
        found = "is empty" if not count else f"has {count} example{'s' if count > 1 else ''}"
        raise refuse(param, f"{found}; at least {bounds.min_examples} are needed")


def refuse(param: str, what: str) -> InvalidFile:
    """The error for a file as a whole; `param` is `training_file` or `validation_file`."""
    name = param.replace("_", " ").capitalize()
    return InvalidFile(f"{name}: {what}", param=param, code=f"invalid_{param}")


def _lines(file: BinaryIO, param: str, cap: int) -> Iterator[tuple[int, bytes | None]]:
    """(number, bytes) of each line; None for one longer than `cap`."""
    number = 0
    while raw := file.readline(cap + 1):
        number += 1
        if number == 1:
            _check_start(raw, param)
            raw = raw.removeprefix(codecs.BOM_UTF8)
        if len(raw) <= cap or raw.endswith(b"\n"):
            yield number, raw
            continue
        while raw and not raw.endswith(b"\n"):
            raw = file.readline(cap)
        yield number, None


def _check_start(first: bytes, param: str) -> None:
    """Says at once that a file is of another kind, where every line would be a mistake."""
    if first.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        raise refuse(param, "line 1: is UTF-16; save the file as UTF-8")
    if b"\0" in first:
        raise refuse(param, "line 1: has NUL bytes; this is a binary file, not JSONL")
    if first.strip() in (b"[", b"[{"):
        raise refuse(param, "line 1: begins a JSON list; JSONL has one dictionary on each line")


def _parse(raw: bytes | None, cap: int) -> Example:
    if raw is None:
        raise Mistake(f"is longer than {cap} bytes")
    try:
        text = raw.decode("utf-8")
    except UnicodeDecodeError as error:
        raise Mistake(f"is not UTF-8 text (byte {error.start + 1})") from None
    try:
        record = json.loads(text)
    except json.JSONDecodeError as error:
        hint = "" if raw.endswith(b"\n") else " (is the file cut off?)"
        raise Mistake(f"is not JSON: {error.msg}, column {error.colno}{hint}") from None
    except (ValueError, RecursionError):
        raise Mistake(
            "is not JSON that can be read: too deeply nested or too long a number"
        ) from None
    return parse_example(record)
