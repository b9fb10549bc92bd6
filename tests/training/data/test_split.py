"""What is held out: always the same, never on both sides, never everything."""

from __future__ import annotations

from collections.abc import Iterable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from adapters.domain.gates import MIN_EXAMPLES
from adapters.errors import InvalidFile
from training.data.examples import Example, Message
from training.data.jsonl import DataLine
from training.data.split import MAX_HELD_OUT, Trace, split, trace


def example(question: str, answer: str = "yes") -> Example:
    return Example(
        messages=(
            Message(role="user", content=question, learn=False),
            Message(role="assistant", content=answer),
        )
    )


def traces(examples: Iterable[Example]) -> list[Trace]:
    return [trace(DataLine(number=at, example=each)) for at, each in enumerate(examples, start=1)]


def lines(*pairs: tuple[str, str]) -> list[Trace]:
    return traces(example(*pair) for pair in pairs)


def conversation(*turns: str) -> Example:
    """User turns, each with the same answer wherever it is asked after the same turns."""
    messages: list[Message] = []
    for at, turn in enumerate(turns):
        messages.append(Message(role="user", content=turn, learn=False))
        messages.append(Message(role="assistant", content=f"to {'/'.join(turns[: at + 1])}"))
    return Example(messages=tuple(messages))


def numbered(count: int, start: int = 0) -> list[Trace]:
    return lines(*((f"question {at}", f"answer {at}") for at in range(start, start + count)))


def test_the_same_seed_holds_out_the_same_tenth_and_another_seed_another() -> None:
    first = split(numbered(400), None, seed=1)
    assert split(numbered(400), None, seed=1) == first
    assert split(numbered(400), None, seed=2).held_out != first.held_out
    assert len(first.held_out) == 40


def test_a_small_set_holds_out_enough_to_measure_by() -> None:
    parts = split(numbered(30), None, seed=1, min_examples=10)
    assert (len(parts.train), len(parts.held_out)) == (22, MIN_EXAMPLES)


def test_a_set_too_small_to_hold_anything_out_is_refused_with_advice() -> None:
    assert len(split(numbered(18), None, seed=1, min_examples=10).train) == 10
    with pytest.raises(InvalidFile) as caught:
        split(numbered(17), None, seed=1, min_examples=10)
    assert caught.value.param == "training_file"
    assert "17 different examples: 8 are held out" in caught.value.message
    assert "9 would be left to train on and at least 10 are needed" in caught.value.message
    assert "add examples, or give a validation file" in caught.value.message


def test_examples_are_counted_without_their_repetitions() -> None:
    with pytest.raises(InvalidFile, match="has 9 different examples; at least 10") as caught:
        split(numbered(9) * 2, numbered(20, start=100), seed=1, min_examples=10)
    assert caught.value.param == "training_file"


def test_no_more_than_512_are_held_out() -> None:
    assert len(split(numbered(9000), None, seed=1).held_out) == MAX_HELD_OUT


def test_a_large_validation_file_is_drawn_from_and_told() -> None:
    parts = split(numbered(20), numbered(2000, start=100), seed=1)
    assert len(parts.held_out) == MAX_HELD_OUT
    assert list(parts.held_out) == sorted(parts.held_out)
    assert parts.notes == [("info", "Measuring by 512 validation examples drawn from 2000")]
    assert split(numbered(20), numbered(2000, start=100), seed=1) == parts
    assert split(numbered(20), numbered(2000, start=100), seed=2).held_out != parts.held_out


def test_a_validation_file_that_is_too_small_to_measure_by_is_refused() -> None:
    few = numbered(MIN_EXAMPLES - 1, start=100)
    with pytest.raises(InvalidFile, match="has 7 different examples; at least 8") as caught:
        split(numbered(20), few * 2, seed=1)
    assert caught.value.param == "validation_file"
    assert "without a validation file" in caught.value.message


conversations = st.lists(
    st.lists(st.sampled_from(["a", "A ", "b", "c", " c", "d  e", "D e"]), min_size=1, max_size=3),
    min_size=2,
    max_size=60,
)


@settings(max_examples=100)
@given(conversations, st.integers(0))
def test_what_asks_the_same_is_never_on_both_sides(asked: list[list[str]], seed: int) -> None:
    data = traces(conversation(*turns) for turns in asked)
    try:
        parts = split(data, None, seed=seed)
    except InvalidFile:
        return
    sides = [[data[number - 1] for number in side] for side in (parts.train, parts.held_out)]
    assert len(parts.held_out) >= MIN_EXAMPLES
    assert sides[0]
    assert not leaks(*sides)
    assert not leaks(*reversed(sides))


@settings(max_examples=100)
@given(conversations, conversations)
def test_a_validation_file_never_asks_what_is_trained(
    training: list[list[str]], validation: list[list[str]]
) -> None:
    data = traces(conversation(*turns) for turns in training)
    valid = traces(conversation(*turns) for turns in validation)
    try:
        parts = split(data, valid, seed=1)
    except InvalidFile:
        return
    train = [data[number - 1] for number in parts.train]
    assert not leaks(train, valid)
    assert not leaks(valid, train)


def leaks(shorter: list[Trace], longer: list[Trace]) -> bool:
    """Whether a conversation of one side begins with a whole one of the other."""
    wholes = {item.asked[-1] for item in shorter}
    return any(not wholes.isdisjoint(item.asked) for item in longer)


def test_a_conversation_stays_with_the_shorter_one_that_it_goes_on_from() -> None:
    pairs = [conversation(f"q {at}") for at in range(40)]
    longer = [conversation(f"Q  {at}", "and then?") for at in range(40)]
    for seed in range(5):
        parts = split(traces(pairs + longer), None, seed=seed)
        assert {number % 40 for number in parts.held_out} & {
            number % 40 for number in parts.train
        } == set()


def test_conversations_that_only_begin_alike_may_be_parted() -> None:
    alike = traces(conversation("hello", f"question {at}") for at in range(30))
    assert len(split(alike, None, seed=1).held_out) == MIN_EXAMPLES


def test_a_question_asked_very_often_stays_in_training() -> None:
    data = lines(
        *(("often", str(at)) for at in range(90)), *((f"rare {at}", "x") for at in range(10))
    )
    assert min(split(data, None, seed=3).held_out) > 90


def test_two_questions_asked_very_often_are_parted() -> None:
    data = lines(
        *(("often", str(at)) for at in range(60)), *(("rarer", str(at)) for at in range(40))
    )
    assert len(split(data, None, seed=3).held_out) == 40


def test_a_file_that_always_asks_the_same_is_refused() -> None:
    with pytest.raises(InvalidFile, match="every example asks the same"):
        split(lines(*(("often", str(at)) for at in range(60))), None, seed=3)


def test_exact_repetitions_are_dropped_and_told() -> None:
    parts = split(numbered(30) + numbered(3), None, seed=1)
    assert parts.duplicates == 3
    assert ("info", "Dropped 3 exact duplicates from training") in parts.notes
    assert len(parts.train) + len(parts.held_out) == 30


def test_examples_that_the_validation_file_asks_too_are_dropped_from_training() -> None:
    valid = lines(("where is IT?", "there"), *((f"z {at}", "1") for at in range(9)))
    parts = split(lines(("Where  is it?", "here"), ("b", "1"), ("c", "1")), valid, seed=1)
    assert parts.train == (2, 3)
    assert (parts.overlap, len(parts.held_out)) == (1, 10)
    assert parts.notes[-1][0] == "warn"


@pytest.mark.parametrize(
    ("trained", "held_out"),
    [(("a",), ("a", "b")), (("a", "b"), ("a",)), (("A ", "b", "c"), ("a", " b"))],
)
def test_a_conversation_and_its_beginning_do_not_stand_in_both_files(
    trained: tuple[str, ...], held_out: tuple[str, ...]
) -> None:
    others = [conversation(f"other {at}") for at in range(9)]
    parts = split(
        traces([conversation(*trained), conversation("a different one")]),
        traces([conversation(*held_out), *others]),
        seed=1,
    )
    assert parts.train == (2,)


def test_the_training_file_as_validation_file_is_refused() -> None:
    with pytest.raises(InvalidFile, match="asks the same as the training file") as caught:
        split(numbered(20), numbered(20), seed=1, min_examples=10)
    assert caught.value.param == "validation_file"
