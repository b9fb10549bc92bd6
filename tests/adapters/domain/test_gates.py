"""What gates make of numbers."""

from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from adapters.domain.gates import MIN_EXAMPLES, all_passed, at_least, held_out_gain

SCORES = st.lists(st.floats(0.0, 1.0), min_size=1, max_size=40)


def test_nothing_measured_proves_nothing() -> None:
    assert not all_passed([])
    assert not held_out_gain([], [], min_gain=0.0).passed


def test_one_no_is_enough() -> None:
    yes, no = at_least("effect", 0.5, 0.5, ""), at_least("gain", 0.49, 0.5, "")
    assert all_passed([yes])
    assert not all_passed([yes, no])


def test_a_clear_gain_passes() -> None:
    result = held_out_gain([0.0] * 40, [1.0] * 30 + [0.0] * 10, min_gain=0.1)
    assert result.passed
    assert (result.gate, result.measured, result.threshold) == ("held_out", 0.75, 0.1)


def test_a_gain_that_may_be_luck_does_not_pass() -> None:
    draw = random.Random(3)
    base = [draw.random() for _ in range(12)]
    tuned = [score + draw.uniform(-0.5, 0.52) for score in base]
    assert not held_out_gain(base, tuned, min_gain=0.0).passed
    assert not held_out_gain([0.5] * 30, [1.0] + [0.5] * 29, min_gain=0.01).passed


@pytest.mark.parametrize("number", [0, 1, 2, MIN_EXAMPLES - 1])
def test_too_few_examples_prove_nothing_and_the_verdict_says_so(number: int) -> None:
    result = held_out_gain([0.0] * number, [1.0] * number, min_gain=0.0)
    assert not result.passed
    assert f"{number} held-out examples; fewer than 8" in result.detail


def test_the_fewest_examples_that_count_can_pass() -> None:
    assert held_out_gain([0.0] * MIN_EXAMPLES, [1.0] * MIN_EXAMPLES, min_gain=0.5).passed


def test_a_refusal_says_whether_it_was_the_gain_or_its_certainty() -> None:
    lucky = held_out_gain([0.5] * 30, [1.0] + [0.5] * 29, min_gain=0.01)
    assert lucky.measured >= lucky.threshold
    assert "not above zero: it may be luck" in lucky.detail
    for clear in (
        held_out_gain([0.5] * 30, [0.51] * 30, min_gain=0.02),
        held_out_gain([0.0] * 30, [1.0] * 30, min_gain=0.02),
    ):
        assert "luck" not in clear.detail


def test_a_sure_gain_below_the_threshold_does_not_pass() -> None:
    assert not held_out_gain([0.5] * 30, [0.51] * 30, min_gain=0.02).passed


@given(SCORES)
def test_an_adapter_no_better_than_the_base_never_passes(scores: list[float]) -> None:
    assert not held_out_gain(scores, scores, min_gain=0.0, resamples=50).passed


def test_the_same_numbers_give_the_same_verdict() -> None:
    base, tuned = [0.1, 0.5, 0.2] * 9, [0.2, 0.4, 0.9] * 9
    first = held_out_gain(base, tuned, min_gain=0.1)
    assert held_out_gain(base, tuned, min_gain=0.1) == first


def test_scores_of_different_examples_are_not_compared() -> None:
    with pytest.raises(ValueError, match="shorter"):
        held_out_gain([0.1, 0.2], [0.1], min_gain=0.0)
