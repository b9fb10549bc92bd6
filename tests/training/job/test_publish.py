"""Laying out what is published."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from adapters.admission.checks import WEIGHTS_FILE
from tests.training.job.stage import MODULE, RANK, ToyFineTuner
from training.job.publish import Publishable, prepare


def prepared(fine_tuned: Path, folder: Path) -> Publishable:
    return prepare(fine_tuned, folder, card="# card", base={MODULE: (8, 8)}, max_rank=RANK)


def test_the_weights_take_no_second_room(tmp_path: Path) -> None:
    fine_tuned = ToyFineTuner()._adapter(tmp_path / "fine_tuned")
    ready = prepared(fine_tuned, tmp_path / "publish")
    assert (ready.directory / WEIGHTS_FILE).samefile(fine_tuned / WEIGHTS_FILE)


def test_where_no_link_can_be_made_the_weights_are_copied(
    tmp_path: Path, small_disk: Callable[[int], Path]
) -> None:
    fine_tuned = ToyFineTuner()._adapter(small_disk(256) / "fine_tuned")
    ready = prepared(fine_tuned, tmp_path / "publish")
    copied = ready.directory / WEIGHTS_FILE
    assert not copied.samefile(fine_tuned / WEIGHTS_FILE)
    assert copied.read_bytes() == (fine_tuned / WEIGHTS_FILE).read_bytes()
