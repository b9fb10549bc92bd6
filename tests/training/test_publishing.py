"""Laying out what is published."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from adapters.admission.checks import WEIGHTS_FILE
from tests.training.stage import MODULE, RANK, ToyTuner
from training.publishing import Publishable, prepare


def prepared(tuned: Path, folder: Path) -> Publishable:
    return prepare(tuned, folder, card="# card", base={MODULE: (8, 8)}, max_rank=RANK)


def test_the_weights_take_no_second_room(tmp_path: Path) -> None:
    tuned = ToyTuner()._adapter(tmp_path / "tuned")
    ready = prepared(tuned, tmp_path / "publish")
    assert (ready.directory / WEIGHTS_FILE).samefile(tuned / WEIGHTS_FILE)


def test_where_no_link_can_be_made_the_weights_are_copied(
    tmp_path: Path, small_disk: Callable[[int], Path]
) -> None:
    tuned = ToyTuner()._adapter(small_disk(256) / "tuned")
    ready = prepared(tuned, tmp_path / "publish")
    copied = ready.directory / WEIGHTS_FILE
    assert not copied.samefile(tuned / WEIGHTS_FILE)
    assert copied.read_bytes() == (tuned / WEIGHTS_FILE).read_bytes()
