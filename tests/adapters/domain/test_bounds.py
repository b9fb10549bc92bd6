"""Bounds for the mean of paired differences."""

from __future__ import annotations

import random
from collections.abc import Callable
from statistics import NormalDist

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from adapters.domain.bounds import FEW, by_bootstrap, by_subsets, lower_bound, mean

DIFFERENCES = st.lists(st.floats(-1.0, 1.0), min_size=1, max_size=70)


@settings(deadline=None)
@given(DIFFERENCES)
def test_a_bound_is_one_of_the_values_that_could_be_seen(differences: list[float]) -> None:
    low = lower_bound(differences, confidence=0.95)
    assert min(differences) - 1e-9 <= low <= max(differences) + 1e-9


@pytest.mark.parametrize("number", [1, 16, FEW, 100])
@pytest.mark.parametrize("value", [-1.0, 0.0, 0.25])
def test_equal_differences_bound_themselves(number: int, value: float) -> None:
    assert lower_bound([value] * number, confidence=0.95) == value


def test_no_differences_have_no_bound() -> None:
    with pytest.raises(ValueError, match="nothing"):
        lower_bound([], confidence=0.95)


def test_the_same_differences_give_the_same_bound_in_any_order() -> None:
    draw = random.Random(1)
    for number in (20, 80):
        differences = [draw.uniform(-1, 1) for _ in range(number)]
        first = lower_bound(differences, confidence=0.95)
        assert lower_bound(differences, confidence=0.95) == first
        assert lower_bound(differences[::-1], confidence=0.95) == pytest.approx(first, abs=0.05)


@pytest.mark.parametrize("bound", [by_subsets, by_bootstrap])
def test_more_confidence_means_a_lower_bound(bound: Callable[..., float]) -> None:
    draw = random.Random(2)
    differences = [draw.uniform(-1, 1) for _ in range(60)]
    bounds = [bound(differences, confidence=each) for each in (0.5, 0.9, 0.95, 0.99)]
    assert bounds == sorted(bounds, reverse=True)
    assert bounds[0] == pytest.approx(mean(differences), abs=0.03)


@pytest.mark.parametrize("bound", [by_subsets, by_bootstrap])
def test_normal_differences_are_bounded_as_the_t_test_bounds_them(
    bound: Callable[..., float],
) -> None:
    draw = random.Random(3)
    differences = [draw.gauss(0.1, 0.5) for _ in range(200)]
    middle = mean(differences)
    spread = (sum((each - middle) ** 2 for each in differences) / 199) ** 0.5
    expected = middle - NormalDist().inv_cdf(0.95) * spread / 200**0.5
    assert bound(differences, confidence=0.95) == pytest.approx(expected, abs=0.012)


def test_one_lucky_example_in_many_is_no_gain_and_one_unlucky_is_told() -> None:
    for number in (16, 64):
        assert lower_bound([1.0] + [0.0] * (number - 1), confidence=0.95) == 0.0
        assert lower_bound([-1.0] + [0.0] * (number - 1), confidence=0.95) < -1.0 / number


@pytest.mark.slow
@pytest.mark.parametrize("number", [16, 64])
@pytest.mark.parametrize(("up", "down"), [(0.15, 0.05), (0.05, 0.05)])
def test_about_one_bound_in_twenty_is_above_the_true_mean(
    number: int, up: float, down: float
) -> None:
    """0.11: twice what is promised, for a skewed mean of few whole numbers."""
    draw = random.Random(4)
    wrong = 0
    for _ in range(200):
        differences = draw.choices([1.0, -1.0, 0.0], [up, down, 1 - up - down], k=number)
        wrong += lower_bound(differences, confidence=0.95) > up - down + 1e-9
    assert wrong / 200 <= 0.11
