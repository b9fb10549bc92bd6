"""Stages one and two of a dataset: uploaded files, read and checked once.

    rows.jsonl    one checked example a line, in few words
    rows.npz      where each line begins, its number in the upload, its digests
    redacted.json digests of what was taken out of them, where something was
    rows.json     what it was made from, written last

Lies in a job's scratch: whoever checks the upload leaves it for whoever trains. The examples stay
on disk; what is kept in memory is what splitting needs.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np

from adapters.domain.names import Digest
from adapters.durable_files import write_private
from adapters.hashing import RunningSha256
from training.data.example_json import from_line, to_line
from training.data.examples import DataKind, Example
from training.data.jsonl import DataLine
from training.data.redacted import REDACTED_FILE, Taken, write_redacted
from training.data.trace import Trace, trace

TEXTS, INDEX, HEAD = "rows.jsonl", "rows.npz", "rows.json"
FORMAT = 3
"""Grows with every change of what is checked or how it is written: rows are then read anew."""


@dataclass(frozen=True, kw_only=True)
class CheckedRows:
    """Every example of a job's files, in their order."""

    folder: Path
    digest: Digest
    """Of the examples' texts."""
    traces: tuple[Trace, ...]
    begins: tuple[int, ...]
    """Where each example's line begins; its end at last."""
    kind: DataKind = DataKind.CHAT
    found: Mapping[str, Any] = field(default_factory=dict)
    """What the stages have found that made these rows; numbers, never content."""

    def examples(self, indices: Iterable[int]) -> Iterator[tuple[Trace, Example]]:
        """Reads the examples at `indices` one after another. Raises OSError."""
        with (self.folder / TEXTS).open("rb") as file:
            for at in indices:
                file.seek(self.begins[at])
                line = file.read(self.begins[at + 1] - self.begins[at])
                yield self.traces[at], from_line(line)


def write_rows(
    folder: Path,
    made_from: Mapping[str, Any],
    lines: Iterable[tuple[DataLine, bool]],
    *,
    kind: DataKind = DataKind.CHAT,
    found: Callable[[], Mapping[str, Any]] = dict,
    taken: Callable[[], Iterable[Taken]] = tuple,
) -> CheckedRows:
    """Writes examples as they come, each with whether the validation file holds it.

    `found` is asked at the end what was found in them, `taken` what was taken out. Raises OSError,
    and what `lines` raises.
    """
    folder.mkdir(parents=True, exist_ok=True)
    for name in (HEAD, REDACTED_FILE):
        (folder / name).unlink(missing_ok=True)
    running, traces, begins = RunningSha256(), [], [0]

    def texts() -> Iterator[bytes]:
        for line, brought in lines:
            traces.append(trace(line, brought=brought))
            yield to_line(line.example)

    with (folder / TEXTS).open("wb") as file:
        for text in running.over(texts()):
            file.write(text)
            begins.append(begins[-1] + len(text))
    rows = CheckedRows(
        folder=folder,
        digest=running.digest,
        traces=tuple(traces),
        begins=tuple(begins),
        kind=kind,
        found=found(),
    )
    _write_index(rows)
    write_redacted(folder, taken())
    head = {"made_from": _named(made_from), "digest": rows.digest}
    head |= {"kind": rows.kind, "found": rows.found}
    write_private(folder / HEAD, json.dumps(head).encode())
    return rows


def open_rows(folder: Path, made_from: Mapping[str, Any]) -> CheckedRows | None:
    """What was left there; None where it is not whole or was made from something else."""
    try:
        head = json.loads((folder / HEAD).read_text("utf-8"))
        if head["made_from"] != _named(made_from):
            return None
        index = np.load(folder / INDEX, allow_pickle=False)
        begins = index["begins"].tolist()
        if (folder / TEXTS).stat().st_size != begins[-1]:
            return None
        traces = tuple(_traces(index))
    except (OSError, ValueError, KeyError):
        return None
    return CheckedRows(
        folder=folder,
        digest=Digest(head["digest"]),
        traces=traces,
        begins=tuple(begins),
        kind=DataKind(head["kind"]),
        found=head["found"],
    )


def _named(made_from: Mapping[str, Any]) -> dict[str, Any]:
    return {"format": FORMAT, **made_from}


def _write_index(rows: CheckedRows) -> None:
    asked = [each for item in rows.traces for each in item.asked]
    np.savez(
        rows.folder / INDEX,
        begins=np.array(rows.begins, np.int64),
        numbers=np.array([item.number for item in rows.traces], np.int64),
        brought=np.array([item.brought for item in rows.traces], np.bool_),
        rows=_as_bytes(item.row for item in rows.traces),
        asked=_as_bytes(asked),
        turns=np.cumsum([0, *(len(item.asked) for item in rows.traces)]),
    )


def _traces(index: Mapping[str, Any]) -> Iterator[Trace]:
    rows, asked = index["rows"].tobytes(), index["asked"].tobytes()
    numbers, brought = index["numbers"].tolist(), index["brought"].tolist()
    for at, (first, last) in enumerate(pairwise(index["turns"].tolist())):
        yield Trace(
            number=numbers[at],
            row=rows[at * 16 : at * 16 + 16],
            asked=tuple(asked[turn * 16 : turn * 16 + 16] for turn in range(first, last)),
            brought=brought[at],
        )


def _as_bytes(digests: Iterable[bytes]) -> Any:
    return np.frombuffer(b"".join(digests), np.uint8)
