"""The training and validation parts on disk: flat arrays of integers, mapped and never loaded.

    <part>.ids.bin    token ids of all rows, one after another, uint32
    <part>.learn.bin  1 where a token carries loss, uint8
    <part>.ends.bin   where each row ends in them, uint64
    <part>.rows.bin   16 bytes for each row: the id of the example it renders
    <part>.weights.bin  of weighted rows alone: by what the loss of each is multiplied, float32

Pairs have a second set of files, `<part>.rejected.…`, whose rows stand at the same places; thumbs
have `<part>.liked.bin`, 1 where the row's answer was liked. All little-endian.
A row costs memory only while somebody looks at it.
"""

from __future__ import annotations

from array import array
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self, overload

import numpy as np
import numpy.typing as npt

from adapters.domain.datasets import Part
from training.data.render import Rendered

ROW_ID_BYTES = 16
_FIELDS = ("ids", "learn", "ends", "rows")


class PartWriter:
    """Writes the rows of a part as they come."""

    def __init__(self, folder: Path, part: str, *, weighted: bool = False) -> None:
        """Raises OSError."""
        self._open = ExitStack()
        self._weights = _Weights(_path(folder, part, "weights")) if weighted else None
        if self._weights is not None:
            self._open.callback(self._weights.write)
        self._files = {
            field: self._open.enter_context(_path(folder, part, field).open("xb"))
            for field in _FIELDS
        }
        self.rows = self.tokens = 0

    def add(self, row: bytes, rendered: Rendered) -> None:
        """Appends one row of the example with the id `row`. Raises OSError."""
        self.rows += 1
        self.tokens += len(rendered.ids)
        self._files["ids"].write(np.array(rendered.ids, "<u4").tobytes())
        self._files["learn"].write(np.array(rendered.learn, "u1").tobytes())
        self._files["ends"].write(np.array([self.tokens], "<u8").tobytes())
        self._files["rows"].write(row)
        if self._weights is not None:
            self._weights.add(rendered)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._open.close()


class _Weights:
    """Weights of rows, scaled so that their mean over all learnt tokens is 1: the learning rate
    then means what it means without them.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._each, self._learnt = array("f"), array("I")

    def add(self, rendered: Rendered) -> None:
        self._each.append(rendered.weight)
        self._learnt.append(sum(rendered.learn))

    def write(self) -> None:
        """Raises OSError."""
        each, learnt = np.asarray(self._each, "<f4"), np.asarray(self._learnt, "<f8")
        mean = float((each * learnt).sum() / learnt.sum()) if learnt.sum() else 1.0
        self._path.write_bytes((each / mean).astype("<f4").tobytes())


class StoredRows(Sequence[Rendered]):
    """The rows of a part, read from their file when they are asked for."""

    def __init__(self, folder: Path, part: str) -> None:
        """Maps the files. Raises OSError, and ValueError for files that nobody wrote so."""
        self._ids = _mapped(_path(folder, part, "ids"), "<u4")
        self._learn = _mapped(_path(folder, part, "learn"), "u1")
        self._ends = _mapped(_path(folder, part, "ends"), "<u8")
        self._rows = _mapped(_path(folder, part, "rows"), "u1")
        weights = _path(folder, part, "weights")
        self._weights = _mapped(weights, "<f4") if weights.is_file() else None

    def __len__(self) -> int:
        return len(self._ends)

    @overload
    def __getitem__(self, at: int) -> Rendered: ...

    @overload
    def __getitem__(self, at: slice) -> Sequence[Rendered]: ...

    def __getitem__(self, at: int | slice) -> Rendered | Sequence[Rendered]:
        if isinstance(at, slice):
            return [self[one] for one in range(*at.indices(len(self)))]
        start, end = self._bounds(at)
        return Rendered(
            ids=tuple(self._ids[start:end].tolist()),
            learn=tuple(map(bool, self._learn[start:end].tolist())),
            weight=1.0 if self._weights is None else float(self._weights[at]),
        )

    def __iter__(self) -> Iterator[Rendered]:
        return (self[at] for at in range(len(self)))

    @property
    def lengths(self) -> list[int]:
        """Tokens of each row, without reading any."""
        found: list[int] = np.diff(self._ends.astype(np.int64), prepend=0).tolist()
        return found

    def row_id(self, at: int) -> str:
        """The id of the example that a row renders."""
        return bytes(self._rows[at * ROW_ID_BYTES : (at + 1) * ROW_ID_BYTES]).hex()

    def _bounds(self, at: int) -> tuple[int, int]:
        if not -len(self) <= at < len(self):
            raise IndexError(at)
        place = at % len(self)
        return int(self._ends[place - 1]) if place else 0, int(self._ends[place])


@dataclass(frozen=True, kw_only=True)
class Pair:
    """One prompt with the answer that was preferred, and with the one that was not."""

    chosen: Rendered
    rejected: Rendered


@dataclass(frozen=True, kw_only=True)
class Thumb:
    """One prompt with an answer, and what somebody's thumb said of it."""

    answered: Rendered
    liked: bool


class StoredPairs(Sequence[Pair]):
    """The pairs of a part, read from their files when they are asked for."""

    def __init__(self, folder: Path, part: Part) -> None:
        """Raises as `StoredRows` does."""
        self.chosen, self.rejected = StoredRows(folder, part), StoredRows(folder, rejected_of(part))

    def __len__(self) -> int:
        return len(self.chosen)

    @overload
    def __getitem__(self, at: int) -> Pair: ...

    @overload
    def __getitem__(self, at: slice) -> Sequence[Pair]: ...

    def __getitem__(self, at: int | slice) -> Pair | Sequence[Pair]:
        if isinstance(at, slice):
            return [self[one] for one in range(*at.indices(len(self)))]
        return Pair(chosen=self.chosen[at], rejected=self.rejected[at])


class StoredThumbs(Sequence[Thumb]):
    """The liked and disliked answers of a part, read when they are asked for."""

    def __init__(self, folder: Path, part: Part) -> None:
        """Raises as `StoredRows` does."""
        self.answered, self._liked = StoredRows(folder, part), _mapped(liked_of(folder, part), "u1")

    def __len__(self) -> int:
        return len(self.answered)

    @overload
    def __getitem__(self, at: int) -> Thumb: ...

    @overload
    def __getitem__(self, at: slice) -> Sequence[Thumb]: ...

    def __getitem__(self, at: int | slice) -> Thumb | Sequence[Thumb]:
        if isinstance(at, slice):
            return [self[one] for one in range(*at.indices(len(self)))]
        return Thumb(answered=self.answered[at], liked=bool(self._liked[at]))


def rejected_of(part: Part) -> str:
    """Under which name the rejected answers of a part are kept."""
    return f"{part}.rejected"


def liked_of(folder: Path, part: Part) -> Path:
    """Where the thumbs of a part are kept."""
    return _path(folder, part, "liked")


def _mapped(path: Path, dtype: str) -> npt.NDArray[Any]:
    return np.memmap(path, dtype=dtype, mode="r")


def _path(folder: Path, part: str, field: str) -> Path:
    return folder / f"{part}.{field}.bin"
