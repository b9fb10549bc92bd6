"""An uploaded file → examples, or every mistake in it with its line number.

JSONL, or CSV where the first line names columns. Reads line by line with a cap, so that a file of
any size costs bounded memory while it is checked. A UTF-8 byte order mark, CRLF line ends and blank
lines are tolerated.
"""

from __future__ import annotations

import codecs
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import chain
from typing import Any, BinaryIO

from adapters.domain.data_columns import delimiter_of
from adapters.errors import InvalidFile
from training.data.chat import Mistake
from training.data.csv_rows import csv_records
from training.data.examples import DataKind, Example
from training.data.formats import parse_example

MAX_LINE = 1024 * 1024
"""Bytes of one example; no context window holds more."""
SHOWN = 20
"""Mistakes named in an error; the rest is counted."""
LISTED = 1000
"""Mistakes listed for whoever checks a file; the rest is counted."""


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


@dataclass(frozen=True, kw_only=True)
class Problem:
    """What is wrong with a file, and on which line; None is the file as a whole.

    A dry run also tells of the model and the recipe so.
    """

    param: str
    """`training_file` or `validation_file`; else a parameter of the job."""
    line: int | None
    what: str

    def __str__(self) -> str:
        return self.what if self.line is None else f"line {self.line}: {self.what}"


class InvalidLines(InvalidFile):
    """Files with mistakes; `problems` lists the first thousand of each, `counts` are of all."""

    def __init__(self, problems: Sequence[Problem], counts: Mapping[str, int]) -> None:
        """`counts` are by parameter."""
        self.problems, self.counts = tuple(problems), dict(counts)
        first = next(iter(counts))
        said = ". ".join(_told(param, problems, count) for param, count in counts.items())
        super().__init__(said, param=first, code=f"invalid_{first}")


def _told(param: str, problems: Sequence[Problem], count: int) -> str:
    shown = [str(problem) for problem in problems if problem.param == param][:SHOWN]
    more = [f"and {count - len(shown)} more"] if count > len(shown) else []
    return f"{param.replace('_', ' ').capitalize()}: {'; '.join([*shown, *more])}"


@dataclass
class Problems:
    """Collects what is wrong with one file."""

    param: str
    listed: list[Problem] = field(default_factory=list)
    count: int = 0

    def add(self, line: int | None, *what: str) -> None:
        self.count += len(what)
        room = LISTED - len(self.listed)
        self.listed += [Problem(param=self.param, line=line, what=each) for each in what[:room]]

    def stop(self) -> None:
        """Raises InvalidLines where there is one."""
        if self.count:
            raise InvalidLines(self.listed, {self.param: self.count})


def iterate_examples(
    file: BinaryIO, *, param: str, bounds: Bounds, kind: DataKind = DataKind.CHAT
) -> Iterator[DataLine]:
    """Yields examples of one kind as they are read, those between mistakes too: whoever looks for
    more in them tells it together with the mistakes.

    Raises InvalidFile (`param`) at the end, naming the lines of all mistakes.
    """
    problems = Problems(param)
    count = 0
    for number, record in _records(file, param, bounds.max_line):
        try:
            example = _example(record, kind)
        except Mistake as mistake:
            problems.add(number, *mistake.all)
            continue
        count += 1
        if count > bounds.max_examples:
            problems.add(None, f"has more than the {bounds.max_examples} examples allowed")
            break
        yield DataLine(number=number, example=example)
    problems.stop()
    if count < bounds.min_examples:
        found = "is empty" if not count else f"has {count} example{'s' if count > 1 else ''}"
        raise refuse(param, f"{found}; at least {bounds.min_examples} are needed")


def refuse(param: str, what: str) -> InvalidLines:
    """The error for a file as a whole; `param` is `training_file` or `validation_file`."""
    return InvalidLines([Problem(param=param, line=None, what=what)], {param: 1})


def joined(errors: Sequence[InvalidLines]) -> InvalidLines:
    """The errors of several files, or of several looks at one, as one; by their lines."""
    counts: dict[str, int] = {}
    for error in errors:
        for param, count in error.counts.items():
            counts[param] = counts.get(param, 0) + count
    order = list(counts)
    problems = sorted(
        (each for error in errors for each in error.problems),
        key=lambda each: (order.index(each.param), each.line or 0),
    )
    return InvalidLines(problems, counts)


def _example(record: Any, kind: DataKind) -> Example:
    if isinstance(record, Mistake):
        raise record
    example = parse_example(record)
    if example.kind is not kind:
        raise Mistake(_OTHER_KIND[example.kind].format(wanted=_WANTED[kind]))
    return example


_WANTED = {
    DataKind.CHAT: "method `supervised` learns from conversations",
    DataKind.PAIRS: "method `dpo` learns from pairs",
    DataKind.THUMBS: "method `kto` learns from answers with a `label`",
}
_OTHER_KIND = {
    DataKind.CHAT: "is a conversation without a preference; {wanted}",
    DataKind.PAIRS: "is a preference pair; {wanted}",
    DataKind.THUMBS: "is an answer with a `label`; {wanted}",
}


def _records(file: BinaryIO, param: str, cap: int) -> Iterator[tuple[int, Any]]:
    """(line, record) of each example; a Mistake in the place of one that cannot be read."""
    lines = _lines(file, param, cap)
    first = next(lines, None)
    if first is None:
        return
    lines = chain([first], lines)
    delimiter = delimiter_of(first[1]) if first[1] is not None else None
    if delimiter is not None:
        yield from csv_records(lines, delimiter, cap)
        return
    for number, raw in lines:
        if raw is None or raw.strip():
            yield number, _decoded(raw, cap)


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


def _decoded(raw: bytes | None, cap: int) -> Any:
    """A line's record, or the Mistake that it is."""
    if raw is None:
        return Mistake(f"is longer than {cap} bytes")
    try:
        return json.loads(raw.decode("utf-8"))
    except UnicodeDecodeError as error:
        return Mistake(f"is not UTF-8 text (byte {error.start + 1})")
    except json.JSONDecodeError as error:
        hint = "" if raw.endswith(b"\n") else " (is the file cut off?)"
        return Mistake(f"is not JSON: {error.msg}, column {error.colno}{hint}")
    except (ValueError, RecursionError):
        return Mistake("is not JSON that can be read: too deeply nested or too long a number")
