"""What keeps personal data out of training finds what is planted, and takes nothing else."""

from __future__ import annotations

import random
from pathlib import Path

from benchmarks.redaction import (
    DECOYS,
    UNKNOWN,
    Planted,
    Writer,
    good,
    measure,
    people,
    records,
    screen_in,
)


def test_every_kind_that_has_a_form_is_found_and_unlisted_names_are_said_to_be_missed(
    tmp_path: Path,
) -> None:
    draw = random.Random(11)
    names = people(draw, 40)
    screen = screen_in(tmp_path, names[:20])
    made = list(records(draw, 300, Writer(draw, names[:20], names[20:]).by_kind))
    scores = measure(screen, made)
    assert good(scores), scores
    assert len(scores) == 10
    assert scores[UNKNOWN].recall == 0.0


def test_what_only_looks_like_it_is_left_alone(tmp_path: Path) -> None:
    screen = screen_in(tmp_path, ["Mark May"])
    assert [text for text in DECOYS if screen.spans(text)] == []


def test_a_benchmark_that_finds_nothing_is_not_good(tmp_path: Path) -> None:
    screen = screen_in(tmp_path, [])
    scores = measure(screen, [("call extension nine", [Planted(kind="SECRET", start=0, end=4)])])
    assert not good(scores)
