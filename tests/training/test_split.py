"""What is held out: always the same, never on both sides, never everything."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from adapters.errors import InvalidFile
from training.data.examples import Example, Message
from training.data.jsonl import DataLine
from training.data.split import question, split


def example(question: str, answer: str = "yes") -> Example:
    return Example(
        messages=(
            Message(role="user", content=question, learn=False),
            Message(role="assistant", content=answer),
        )
    )


def lines(*pairs: tuple[str, str]) -> list[DataLine]:
    return [DataLine(number=at, example=example(*pair)) for at, pair in enumerate(pairs, start=1)]


def numbered(count: int) -> list[DataLine]:
    return lines(*((f"question {at}", f"answer {at}") for at in range(count)))


def test_the_same_seed_holds_out_the_same_tenth_and_another_seed_another() -> None:
    first = split(numbered(400), None, seed=1)
    assert split(numbered(400), None, seed=1) == first
    assert split(numbered(400), None, seed=2).held_out != first.held_out
    assert len(first.held_out) == 40


def test_a_set_of_ten_still_holds_something_out() -> None:
    parts = split(numbered(10), None, seed=1)
    assert (len(parts.train), len(parts.held_out)) == (8, 2)


def test_no_more_than_512_are_held_out() -> None:
    assert len(split(numbered(9000), None, seed=1).held_out) == 512


@settings(max_examples=60)
@given(
    st.lists(st.sampled_from(["a", "A ", "b", "c", " c", "d  e", "D e"]), min_size=2),
    st.integers(0),
)
def test_what_asks_the_same_is_never_on_both_sides(questions: list[str], seed: int) -> None:
    data = lines(*((text, str(at)) for at, text in enumerate(questions)))
    if len({question(line) for line in data}) < 2:
        with pytest.raises(InvalidFile, match="asks the same"):
            split(data, None, seed=seed)
        return
    parts = split(data, None, seed=seed)
    asked = [{question(line) for line in side} for side in (parts.train, parts.held_out)]
    assert asked[0]
    assert asked[1]
    assert not asked[0] & asked[1]
    assert sorted(line.number for line in parts.train + parts.held_out) == [
        line.number for line in data
    ]


def test_a_question_asked_very_often_stays_in_training() -> None:
    data = lines(
        *(("often", str(at)) for at in range(90)), *((f"rare {at}", "x") for at in range(10))
    )
    parts = split(data, None, seed=3)
    assert all(question(line) != "often" for line in parts.held_out)


def test_exact_repetitions_are_dropped_and_told() -> None:
    parts = split(lines(("a", "1"), ("b", "1"), ("a", "1"), ("a", "2"), ("c", "1")), None, seed=1)
    assert parts.duplicates == 1
    assert ("info", "Dropped 1 exact duplicates from training") in parts.notes


def test_examples_that_the_validation_file_asks_too_are_dropped_from_training() -> None:
    parts = split(
        lines(("Where  is it?", "here"), ("b", "1"), ("c", "1")),
        lines(("where is IT?", "there"), ("z", "1"), ("z", "1")),
        seed=1,
    )
    assert [line.number for line in parts.train] == [2, 3]
    assert (parts.overlap, len(parts.held_out)) == (1, 2)
    assert parts.notes[-1][0] == "warn"


def test_the_training_file_as_validation_file_is_refused() -> None:
    with pytest.raises(InvalidFile, match="asks the same as the training file") as caught:
        split(numbered(20), numbered(20), seed=1, min_examples=10)
    assert caught.value.param == "validation_file"
