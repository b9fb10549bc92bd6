"""Which part an example belongs to: for its adapter's life, never to two, and enough of each."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from adapters.domain.datasets import MAX_MEASURED, MIN_TEST, MIN_VALIDATION, Part
from adapters.errors import InvalidFile
from training.data.examples import Example, Message
from training.data.jsonl import DataLine
from training.data.split import Split, split
from training.data.trace import Trace, trace

ADAPTER = "support"
FEWEST = MIN_TEST + MIN_VALIDATION


def example(question: str, answer: str = "yes") -> Example:
    return Example(
        messages=(
            Message(role="user", content=question, learn=False),
            Message(role="assistant", content=answer),
        )
    )


def traces(examples: Iterable[Example], *, brought: bool = False) -> list[Trace]:
    return [
        trace(DataLine(number=at, example=each), brought=brought)
        for at, each in enumerate(examples, start=1)
    ]


def lines(*pairs: tuple[str, str], brought: bool = False) -> list[Trace]:
    return traces((example(*pair) for pair in pairs), brought=brought)


def conversation(*turns: str) -> Example:
    """User turns, each with the same answer wherever it is asked after the same turns."""
    messages: list[Message] = []
    for at, turn in enumerate(turns):
        messages.append(Message(role="user", content=turn, learn=False))
        messages.append(Message(role="assistant", content=f"to {'/'.join(turns[: at + 1])}"))
    return Example(messages=tuple(messages))


def numbered(count: int, start: int = 0, *, brought: bool = False) -> list[Trace]:
    pairs = ((f"question {at}", f"answer {at}") for at in range(start, start + count))
    return lines(*pairs, brought=brought)


def part(
    data: list[Trace],
    *,
    known: Mapping[bytes, Part] | None = None,
    adapter: str = ADAPTER,
    min_examples: int = 1,
) -> Split:
    return split(data, adapter=adapter, known=known or {}, min_examples=min_examples)


def rows(data: list[Trace], indices: Iterable[int]) -> set[bytes]:
    return {data[at].row for at in indices}


def sizes(parts: Split) -> tuple[int, int, int]:
    return parts.counts.train, parts.counts.validation, parts.counts.test


# -- how many


def test_a_tenth_tests_and_a_tenth_validates() -> None:
    assert sizes(part(numbered(400))) == (320, 40, 40)


def test_a_small_set_holds_out_enough_to_measure_by() -> None:
    assert sizes(part(numbered(34), min_examples=10)) == (10, MIN_VALIDATION, MIN_TEST)


def test_a_set_too_small_to_hold_enough_out_is_refused_with_what_is_needed() -> None:
    with pytest.raises(InvalidFile) as caught:
        part(numbered(33), min_examples=10)
    assert caught.value.param == "training_file"
    assert caught.value.message == (
        "Training file: has 33 different examples: 16 to test the adapter by, 8 to choose its "
        "checkpoint by, 9 to train on; at least 16, 8 and 10 are needed: add examples, or give a "
        "validation file"
    )


def test_examples_are_counted_without_their_repetitions() -> None:
    with pytest.raises(InvalidFile, match="has 9 different examples; at least 10") as caught:
        part(numbered(9) * 2 + numbered(30, start=100, brought=True), min_examples=10)
    assert caught.value.param == "training_file"


def test_no_more_than_512_are_held_out_for_each() -> None:
    assert sizes(part(numbered(9000))) == (9000 - 2 * MAX_MEASURED, MAX_MEASURED, MAX_MEASURED)


# -- a validation file


def test_a_validation_file_tests_first_then_validates_and_never_trains() -> None:
    data = numbered(20) + numbered(24, start=100, brought=True)
    parts = part(data)
    assert sizes(parts) == (20, 8, 16)
    assert all(data[at].brought for at in (*parts.test, *parts.validation))
    assert sizes(part(numbered(20) + numbered(300, start=100, brought=True))) == (20, 100, 200)


def test_of_a_large_validation_file_no_more_than_is_needed_is_used_and_that_is_told() -> None:
    data = numbered(20) + numbered(2000, start=100, brought=True)
    parts = part(data)
    assert sizes(parts) == (20, MAX_MEASURED, MAX_MEASURED)
    assert ("info", "Left out 976 examples beyond what measuring needs") in parts.notes
    assert part(data) == parts


def test_a_validation_file_that_is_too_small_to_measure_by_is_refused() -> None:
    few = numbered(FEWEST - 1, start=100, brought=True)
    with pytest.raises(InvalidFile, match="has 23 different examples: 16 to test") as caught:
        part(numbered(20) + few * 2)
    assert caught.value.param == "validation_file"
    assert "at least 16 and 8 are needed" in caught.value.message
    assert "without a validation file" in caught.value.message


def test_training_examples_that_the_validation_file_asks_too_are_dropped() -> None:
    asked = (("where is IT?", "there"), *((f"z {at}", "1") for at in range(FEWEST)))
    data = lines(("Where  is it?", "here"), ("b", "1"), ("c", "1")) + lines(*asked, brought=True)
    parts = part(data)
    assert parts.train == (1, 2)
    assert (parts.overlap, parts.counts.test + parts.counts.validation) == (1, FEWEST + 1)
    assert any(level == "warn" for level, _ in parts.notes)


@pytest.mark.parametrize(
    ("trained", "measured"),
    [(("a",), ("a", "b")), (("a", "b"), ("a",)), (("A ", "b", "c"), ("a", " b"))],
)
def test_a_conversation_and_its_beginning_do_not_stand_in_both_files(
    trained: tuple[str, ...], measured: tuple[str, ...]
) -> None:
    others = [conversation(f"other {at}") for at in range(FEWEST)]
    data = traces([conversation(*trained), conversation("a different one")])
    parts = part(data + traces([conversation(*measured), *others], brought=True))
    assert parts.train == (1,)


def test_the_training_file_as_validation_file_is_refused() -> None:
    with pytest.raises(InvalidFile, match="asks the same as the training file") as caught:
        part(numbered(40) + numbered(40, brought=True), min_examples=10)
    assert caught.value.param == "validation_file"


# -- what asks the same


def test_a_conversation_stays_with_the_shorter_one_that_it_goes_on_from() -> None:
    pairs = [conversation(f"q {at}") for at in range(60)]
    longer = [conversation(f"Q  {at}", "and then?") for at in range(60)]
    for adapter in ("a", "b", "c", "d", "e"):
        parts = part(traces(pairs + longer), adapter=adapter)
        places = [{at % 60 for at in side} for side in (parts.train, parts.validation, parts.test)]
        assert sum(map(len, places)) == 60


def test_conversations_that_only_begin_alike_may_be_parted() -> None:
    alike = traces(conversation("hello", f"question {at}") for at in range(40))
    assert sizes(part(alike)) == (16, MIN_VALIDATION, MIN_TEST)


def test_a_question_asked_very_often_stays_in_training() -> None:
    often = lines(*(("often", str(at)) for at in range(90)))
    rare = lines(*((f"rare {at}", "x") for at in range(30)))
    parts = part(often + rare)
    assert min((*parts.test, *parts.validation)) >= 90


def test_questions_asked_very_often_are_parted_where_nothing_else_measures() -> None:
    data = lines(*((f"often {at % 3}", str(at)) for at in range(90)))
    assert sizes(part(data)) == (30, 30, 30)


def test_a_file_that_always_asks_the_same_is_refused() -> None:
    with pytest.raises(InvalidFile, match="every example asks the same"):
        part(lines(*(("often", str(at)) for at in range(60))))


def test_exact_repetitions_are_dropped_and_told() -> None:
    parts = part(numbered(40) + numbered(3))
    assert parts.duplicates == 3
    assert ("info", "Dropped 3 exact duplicates") in parts.notes
    assert sum(sizes(parts)) == 40


# -- an adapter's life


def test_the_adapter_draws_and_nothing_else_does() -> None:
    first = part(numbered(400))
    assert part(numbered(400)) == first
    assert part(numbered(400), adapter="sales").test != first.test


def test_what_tested_once_tests_again_whatever_data_comes_with_it() -> None:
    data = numbered(200)
    first = part(data)
    more = numbered(2000, start=1000) + data
    second = part(more, known=first.assignments)
    assert rows(data, first.test) <= rows(more, second.test)
    assert rows(data, first.validation) <= rows(more, second.validation)
    assert rows(data, first.train) <= rows(more, second.train)
    assert sizes(second) == (2200 - 440, 220, 220)


def test_the_first_test_rows_stay_the_first_that_are_asked() -> None:
    data = numbered(200)
    first = part(data)
    again = data[150:] + data[:150]
    second = part(again, known=first.assignments)
    assert [data[at].row for at in first.test] == [again[at].row for at in second.test]


def test_what_was_trained_on_never_measures_a_later_version() -> None:
    data = numbered(100)
    first = part(data)
    trained = [data[at] for at in first.train]
    with pytest.raises(InvalidFile) as caught:
        part(trained, known=first.assignments)
    assert caught.value.message == (
        "Training file: has 74 different examples: 0 to test the adapter by, 0 to choose its "
        "checkpoint by, 74 to train on; at least 16, 8 and 1 are needed. 74 of them taught an "
        "earlier version and cannot measure it: add new ones"
    )


def test_a_validation_file_of_what_was_trained_on_measures_nothing_and_that_is_told() -> None:
    first = part(numbered(100))
    trained = [f"question {at}" for at in first.train]
    brought = lines(*((asked, "another answer") for asked in trained[:5]), brought=True)
    fresh = numbered(FEWEST, start=500, brought=True)
    parts = part(numbered(20, start=900) + brought + fresh, known=first.assignments)
    assert (parts.taught, parts.counts.test + parts.counts.validation) == (5, FEWEST)
    assert any("was trained on" in said for _, said in parts.notes)
    with pytest.raises(InvalidFile, match="5 ask what the adapter was trained on"):
        part(numbered(20, start=900) + brought + fresh[1:], known=first.assignments)


def test_a_turn_that_was_taught_within_a_conversation_never_measures() -> None:
    known = dict.fromkeys(traces([conversation("a", "b")])[0].asked, Part.TRAIN)
    data = traces([conversation("a"), *(conversation(f"q {at}") for at in range(40))])
    assert 0 in part(data, known=known).train


def test_a_conversation_that_goes_on_from_a_test_is_a_test() -> None:
    known = {traces([conversation("a")])[0].asked[-1]: Part.TEST}
    data = traces([conversation("a", "b"), *(conversation(f"q {at}") for at in range(40))])
    assert 0 in part(data, known=known).test


def test_what_belongs_to_two_parts_is_left_out() -> None:
    known = {
        traces([conversation("a", "b")])[0].asked[-1]: Part.VALIDATION,
        traces([conversation("a", "c")])[0].asked[-1]: Part.TEST,
    }
    between = [conversation("a"), conversation("a", "b"), conversation("a", "c")]
    data = traces([*between, *(conversation(f"q {at}") for at in range(40))])
    parts = part(data, known=known)
    assert parts.overlap == 1
    assert 1 in parts.validation
    assert 2 in parts.test


def test_no_checkpoint_is_chosen_by_a_conversation_that_holds_an_answer_to_a_test() -> None:
    longer = conversation("a", "b")
    known = {
        traces([longer])[0].asked[-1]: Part.VALIDATION,
        traces([conversation("a")])[0].asked[-1]: Part.TEST,
    }
    data = traces([longer, conversation("a"), *(conversation(f"q {at}") for at in range(40))])
    parts = part(data, known=known)
    assert 0 not in (*parts.train, *parts.validation, *parts.test)
    assert 1 in parts.test


turns = st.lists(
    st.sampled_from(["a", "A ", "b", "c", " c", "d  e", "D e", *"fghijklmnopq"]),
    min_size=1,
    max_size=3,
)
conversations = st.lists(turns, min_size=30, max_size=80)
jobs = st.lists(
    st.tuples(conversations, st.one_of(st.none(), conversations)), min_size=1, max_size=4
)


@settings(max_examples=150, deadline=None)
@given(jobs)
def test_in_an_adapters_life_nothing_that_was_taught_measures_and_nothing_that_measures_is_taught(
    life: list[tuple[list[list[str]], list[list[str]] | None]],
) -> None:
    """A run that was chosen or taught by its own test rows is impossible, whatever comes."""
    known: dict[bytes, Part] = {}
    taught: set[bytes] = set()
    measured: dict[Part, set[bytes]] = {Part.TEST: set(), Part.VALIDATION: set()}
    for training, validation in life:
        data = traces(conversation(*each) for each in training)
        data += traces((conversation(*each) for each in validation or ()), brought=True)
        try:
            parts = part(data, known=known)
        except InvalidFile:
            continue
        known |= parts.assignments
        taught |= {asked for at in parts.train for asked in data[at].asked}
        measured[Part.TEST] |= {data[at].asked[-1] for at in parts.test}
        measured[Part.VALIDATION] |= {data[at].asked[-1] for at in parts.validation}
        assert parts.counts.test >= MIN_TEST
        assert parts.counts.validation >= MIN_VALIDATION
        assert parts.train
        assert not {at for at in parts.train if data[at].brought}
        chosen_by = {asked for at in parts.validation for asked in data[at].asked}
        assert chosen_by.isdisjoint(data[at].asked[-1] for at in parts.test)
        again = part(data, known=known)
        assert again == replace(parts, assignments={})
    assert not taught & measured[Part.TEST]
    assert not taught & measured[Part.VALIDATION]
    assert not measured[Part.TEST] & measured[Part.VALIDATION]
