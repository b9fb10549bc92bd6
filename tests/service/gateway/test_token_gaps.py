"""Every gap of a stream is seen, and what the engine made in one step is one chunk."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
from prometheus_client import CollectorRegistry

from service.gateway.token_gaps import TokenGaps
from service.metrics import GAPS, Metrics
from tests.clock import Clock

NAME = "wardrobe_time_between_tokens_seconds"


def gaps_of(*seconds: float) -> TokenGaps:
    clock = Clock(0.0)
    gaps = TokenGaps(clock)
    gaps.begin()
    for each in seconds:
        clock.now += each
        gaps.note()
    return gaps


def bounds_of(counts: Sequence[int]) -> list[float]:
    bounds = (*GAPS, float("inf"))
    return [bound for bound, count in zip(bounds, counts, strict=True) for _ in range(count)]


def test_a_stall_in_the_middle_of_a_stream_stands_in_its_own_bucket() -> None:
    gaps = gaps_of(0.004, 0.004, 2.0, 0.004, 30.0)
    assert bounds_of(gaps.counts) == [0.005, 0.005, 0.005, 2.5, float("inf")]
    assert gaps.seconds == pytest.approx(32.012)


def test_chunks_of_one_step_are_one() -> None:
    role_usage_and_done = gaps_of(0.0001, 0.019, 0.0001, 0.0001)
    assert bounds_of(role_usage_and_done.counts) == [0.02]
    assert role_usage_and_done.seconds == pytest.approx(0.0191)


def test_what_a_stream_counted_is_what_observing_each_gap_would_have_counted() -> None:
    registries = CollectorRegistry(), CollectorRegistry()
    at_once, one_by_one = map(Metrics, registries)
    times = (0.0009, 0.0011, 0.029, 0.7, 0.029, 9.0)
    gaps = gaps_of(*times)
    at_once.answers("u", "a", "a:1").streamed(gaps.counts, seconds=gaps.seconds)
    for each in times:
        one_by_one.between_tokens.labels("u", "a", "a:1").observe(each)
    first, second = (
        {
            (sample.name, sample.labels.get("le")): sample.value
            for metric in registry.collect()
            for sample in metric.samples
            if sample.name in (f"{NAME}_bucket", f"{NAME}_count", f"{NAME}_sum")
        }
        for registry in registries
    )
    assert first == pytest.approx(second)
