"""The arithmetic of a comparison."""

from __future__ import annotations

import numpy as np
import pytest

from benchmarks import ratios
from benchmarks.report import meets


def test_the_same_samples_on_both_sides_give_one_with_an_interval_around_it() -> None:
    blocks = [np.random.default_rng(seed).normal(10.0, 1.0, 40) for seed in range(12)]
    found = ratios.compare(ratios.median, blocks, blocks)
    assert found.value == 1.0
    assert (found.low, found.high) == (1.0, 1.0)


def test_a_slower_side_shows_as_its_ratio_and_the_interval_holds_it() -> None:
    draw = np.random.default_rng(1)
    bare = [draw.normal(10.0, 1.0, 40) for _ in range(20)]
    slower = [draw.normal(11.0, 1.1, 40) for _ in range(20)]
    found = ratios.compare(ratios.median, bare, slower)
    assert found.value == pytest.approx(1.1, abs=0.02)
    assert found.low < 1.1 < found.high
    assert found.low > 1.0
    assert found.wardrobe / found.bare == pytest.approx(found.value)


def test_noise_that_both_sides_of_a_pair_share_does_not_widen_the_interval() -> None:
    noise = [1.0, 5.0, 1.0, 9.0, 1.0, 3.0]
    bare = [np.full(10, level) for level in noise]
    ours = [np.full(10, level * 1.05) for level in noise]
    found = ratios.compare(ratios.mean, bare, ours)
    assert (found.low, found.high) == pytest.approx((1.05, 1.05))


def test_p99_sees_the_tail_that_the_median_does_not() -> None:
    values = np.concatenate([np.full(95, 1.0), np.full(5, 50.0)])
    assert ratios.median(values) == 1.0
    assert ratios.p99(values) == 50.0


@pytest.mark.parametrize(("bare", "ours"), [(0, 0), (1, 2)])
def test_sides_without_pairs_are_refused(bare: int, ours: int) -> None:
    with pytest.raises(ValueError, match="same number of blocks"):
        ratios.compare(ratios.median, [np.ones(3)] * bare, [np.ones(3)] * ours)


@pytest.mark.parametrize(
    ("name", "value", "expected"),
    [
        ("throughput_ratio", 0.98, True),
        ("throughput_ratio", 0.97, False),
        ("latency_p99_ratio", 1.10, True),
        ("latency_p99_ratio", 1.11, False),
        ("added_cpu_us", 151.0, False),
    ],
)
def test_bounds_point_the_right_way(name: str, value: float, expected: bool) -> None:
    assert meets(name, value) is expected
