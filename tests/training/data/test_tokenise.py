"""The last stage: pairs and thumbs side by side, and what is said of lengths."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from adapters.domain.data_policy import TooLong
from adapters.domain.datasets import Part
from adapters.errors import InvalidFile
from tests.training.data.test_formats import lines
from tests.training.job.stage import ToyRenderer
from training.data.checked_rows import CheckedRows, open_rows, write_rows
from training.data.examples import DataKind
from training.data.jsonl import Bounds, iterate_examples
from training.data.parts import StoredPairs, StoredThumbs
from training.data.split import Split
from training.data.tokenise import Tokenised, read_questions, tokenise

PARTS = Split(train=(0, 1), validation=(2,), test=(3,), assignments={})


def rows_of(folder: Path, kind: DataKind, *records: Any) -> CheckedRows:
    import io

    content = io.BytesIO(lines(*records))
    found = iterate_examples(
        content, param="training_file", bounds=Bounds(max_examples=99), kind=kind
    )
    write_rows(folder / "rows", {}, ((line, False) for line in found), kind=kind)
    rows = open_rows(folder / "rows", {})
    assert rows is not None
    return rows


def tokenised(folder: Path, rows: CheckedRows, **options: Any) -> Tokenised:
    (folder / "parts").mkdir()
    return tokenise(
        rows, PARTS, folder / "parts", renderer=ToyRenderer(), alive=lambda: None, **options
    )


def test_a_pairs_two_answers_stand_at_the_same_place(tmp_path: Path) -> None:
    records = [{"prompt": f"ask {at}", "chosen": "yes", "rejected": "no no"} for at in range(4)]
    rows = rows_of(tmp_path, DataKind.PAIRS, *records)
    tokenised(tmp_path, rows, max_length=20)
    pairs = StoredPairs(tmp_path / "parts", Part.TRAIN)
    assert len(pairs) == 2
    assert [(len(pair.chosen), len(pair.rejected)) for pair in pairs] == [(3, 4), (3, 4)]
    assert pairs[1].chosen.ids[:2] == pairs[1].rejected.ids[:2]
    assert pairs[0].rejected.learn == (False, False, True, True)
    (question,) = read_questions(tmp_path / "parts", 9)
    assert question.reference == "yes"


def test_thumbs_stay_beside_their_answers(tmp_path: Path) -> None:
    records = [{"prompt": f"ask {at}", "completion": "b", "label": at == 1} for at in range(4)]
    rows = rows_of(tmp_path, DataKind.THUMBS, *records)
    tokenised(tmp_path, rows, max_length=20)
    thumbs = StoredThumbs(tmp_path / "parts", Part.TRAIN)
    assert [thumb.liked for thumb in thumbs] == [False, True]


def test_what_is_too_long_is_refused_by_line_or_left_out_and_counted(tmp_path: Path) -> None:
    records = [{"prompt": "a " * (30 if at == 1 else 3), "completion": "b"} for at in range(4)]
    rows = rows_of(tmp_path, DataKind.CHAT, *records)
    (tmp_path / "strict").mkdir()
    with pytest.raises(InvalidFile, match="line 2: 31 tokens, longer than the 20 tokens allowed"):
        tokenised(tmp_path / "strict", rows, max_length=20)
    found = tokenised(tmp_path, rows, max_length=20, too_long=TooLong.DROP)
    assert (found.too_long, found.train_rows, found.cut) == (1, 1, 0)
    assert found.lengths["train"].longest == 4
    assert ("warn", "Left out 1 examples longer than 20 tokens") in found.notes
