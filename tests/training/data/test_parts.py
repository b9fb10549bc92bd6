"""Rows of a part come back from their files as they were written."""

from __future__ import annotations

import tempfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from adapters.domain.datasets import Part
from training.data.parts import PartWriter, StoredRows
from training.data.render import Rendered

tokens = st.lists(st.tuples(st.integers(0, 2**32 - 1), st.booleans()), min_size=1, max_size=30)
rendered = tokens.map(
    lambda pairs: Rendered(
        ids=tuple(token for token, _ in pairs), learn=tuple(learn for _, learn in pairs)
    )
)


def written(folder: Path, rows: list[Rendered]) -> StoredRows:
    with PartWriter(folder, Part.TRAIN) as part:
        for at, row in enumerate(rows):
            part.add(bytes([at]) * 16, row)
    return StoredRows(folder, Part.TRAIN)


@settings(max_examples=50, deadline=None)
@given(st.lists(rendered, min_size=1, max_size=20))
def test_what_was_written_is_what_is_read(rows: list[Rendered]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        stored = written(Path(folder), rows)
        assert list(stored) == rows
        assert stored.lengths == [len(row) for row in rows]
        assert stored[-1] == rows[-1]
        assert stored[:2] == rows[:2]
        assert [stored.row_id(at) for at in range(len(rows))] == [
            (bytes([at]) * 16).hex() for at in range(len(rows))
        ]


def test_weights_come_back_with_a_mean_of_one_over_the_learnt_tokens(tmp_path: Path) -> None:
    rows = [
        Rendered(ids=(1, 2, 3), learn=(False, False, True), weight=1.0),
        Rendered(ids=(1, 2, 3), learn=(False, True, True), weight=4.0),
        Rendered(ids=(1, 2, 3), learn=(False, False, True), weight=2.0),
    ]
    with PartWriter(tmp_path, Part.TRAIN, weighted=True) as part:
        for at, row in enumerate(rows):
            part.add(bytes([at]) * 16, row)
    weights = [row.weight for row in StoredRows(tmp_path, Part.TRAIN)]
    assert weights == pytest.approx([4 / 11, 16 / 11, 8 / 11])
    assert sum(w * sum(row.learn) for w, row in zip(weights, rows, strict=True)) == pytest.approx(4)


def test_a_place_beyond_the_last_row_is_none(tmp_path: Path) -> None:
    stored = written(tmp_path, [Rendered(ids=(1, 2), learn=(False, True))])
    for at in (1, -2):
        with pytest.raises(IndexError):
            stored[at]
