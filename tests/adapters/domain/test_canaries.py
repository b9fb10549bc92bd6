"""What counts say of a canary: roll back, go on, or wait, each with its numbers."""

from __future__ import annotations

import random
from dataclasses import replace

import pytest

from adapters.domain.canaries import (
    ALPHA,
    LATENCY_EDGES,
    Arms,
    Assessment,
    CanaryPlan,
    Evidence,
    Outcomes,
    Step,
    Verdict,
    assess,
    begin_step,
    latency_class,
)
from adapters.domain.sequential import Tally

PLAN = CanaryPlan(steps=(Step(weight=25.0), Step(weight=50.0)))
CLASSES = len(LATENCY_EDGES) + 1


def outcomes(
    requests: int, *, errors: int = 0, seconds: float = 0.5, score: float | None = None
) -> Outcomes:
    """Of one arm, all answers as fast and as good."""
    latency = [0] * CLASSES
    latency[latency_class(seconds)] = requests - errors
    scores = Tally() if score is None else Tally(count=requests, bad=requests * (1 - score))
    return Outcomes(requests=requests, errors=errors, latency=tuple(latency), scores=scores)


class Looks:
    """One look after another at arms that grow by the same each time."""

    def __init__(self, plan: CanaryPlan = PLAN, *, step: int = 0) -> None:
        self._plan, self._step = plan, step
        self._arms = Arms()
        self.evidence = Evidence()

    def see(self, canary: Outcomes, stable: Outcomes, *, minutes: float = 60.0) -> Assessment:
        self._arms = Arms(canary=self._arms.canary + canary, stable=self._arms.stable + stable)
        found = assess(self._plan, self._arms, self.evidence, step=self._step, minutes=minutes)
        self.evidence = found.evidence
        return found

    def begin_step(self) -> None:
        self.evidence = begin_step(self.evidence, self._arms)


def test_a_canary_as_good_goes_on_once_it_is_known_to_be() -> None:
    looks = Looks()
    assert looks.see(outcomes(20), outcomes(200)).verdict is Verdict.WAIT
    found = looks.see(outcomes(2_000), outcomes(8_000))
    assert found.verdict is Verdict.ADVANCE
    assert "errors: at most 0.0" in found.reason
    assert "latency" in found.reason


def test_a_step_counts_anew() -> None:
    looks = Looks()
    looks.see(outcomes(20), outcomes(200))
    assert looks.see(outcomes(2_000), outcomes(8_000)).verdict is Verdict.ADVANCE
    looks.begin_step()
    found = looks.see(outcomes(99), outcomes(99))
    assert found.verdict is Verdict.WAIT
    assert "99 of the 100 requests" in found.reason


def test_a_step_lasts_as_long_as_its_schedule_says() -> None:
    looks = Looks(replace(PLAN, steps=(Step(weight=25.0, minutes=10.0),)))
    looks.see(outcomes(20), outcomes(200), minutes=1.0)
    early = looks.see(outcomes(2_000), outcomes(8_000), minutes=7.0)
    assert (early.verdict, early.reason) == (Verdict.WAIT, "3 more minutes of this step")
    assert looks.see(outcomes(1), outcomes(1), minutes=10.0).verdict is Verdict.ADVANCE


def test_a_canary_that_does_not_go_on_by_itself_waits_for_a_command() -> None:
    looks = Looks(replace(PLAN, advances=False))
    looks.see(outcomes(20), outcomes(200))
    assert looks.see(outcomes(2_000), outcomes(8_000)).verdict is Verdict.WAIT


def test_a_canary_that_fails_is_rolled_back_with_the_numbers() -> None:
    looks = Looks()
    looks.see(outcomes(10), outcomes(190))
    found = looks.see(outcomes(40, errors=12), outcomes(760, errors=4))
    assert found.verdict is Verdict.ROLL_BACK
    assert found.reason.startswith("errors: 24.0% of 50 are bad, the stable version's 0.4% of 950")


def test_a_canary_that_is_slow_is_rolled_back() -> None:
    looks = Looks()
    looks.see(outcomes(100), outcomes(900))
    looks.see(outcomes(100, seconds=1.5), outcomes(900))
    found = looks.see(outcomes(100, seconds=1.5), outcomes(900))
    assert found.verdict is Verdict.ROLL_BACK
    assert found.reason.startswith("latency: ")


def test_a_canary_slower_by_less_than_tolerated_goes_on() -> None:
    looks = Looks()
    looks.see(outcomes(100), outcomes(900))
    assert looks.see(outcomes(2_000, seconds=0.6), outcomes(8_000)).verdict is Verdict.ADVANCE


def test_a_canary_with_worse_scores_is_rolled_back() -> None:
    looks = Looks()
    for _ in range(5):
        looks.see(outcomes(100, score=0.5), outcomes(300, score=0.8))
    found = looks.see(outcomes(100, score=0.5), outcomes(300, score=0.8))
    assert found.verdict is Verdict.ROLL_BACK
    assert found.reason.startswith("score: ")


def test_where_scores_are_needed_it_waits_for_them() -> None:
    looks = Looks(replace(PLAN, needs_scores=True))
    looks.see(outcomes(20), outcomes(200))
    found = looks.see(outcomes(2_000), outcomes(8_000))
    assert (found.verdict, found.reason) == (Verdict.WAIT, "scores of both versions")


def test_a_canary_that_is_not_to_roll_back_by_itself_does_not_and_does_not_go_on() -> None:
    looks = Looks(replace(PLAN, rolls_back=False))
    looks.see(outcomes(10), outcomes(190))
    assert looks.see(outcomes(400, errors=200), outcomes(760)).verdict is Verdict.WAIT


@pytest.mark.parametrize("seed", range(3))
def test_a_canary_as_good_by_every_signal_is_rarely_rolled_back(seed: int) -> None:
    """Errors in 2 %, latency that varies by half an order, scores around 0.7; looked at often."""
    draw = random.Random(seed)
    rolled_back = 0
    for _ in range(60):
        looks = Looks()
        for _ in range(60):
            found = looks.see(drawn(draw, 5), drawn(draw, 15))
            if found.verdict is Verdict.ROLL_BACK:
                rolled_back += 1
                break
    assert rolled_back / 60 <= ALPHA


def drawn(draw: random.Random, requests: int) -> Outcomes:
    """So many requests of an arm, as the seed has them."""
    latency, errors = [0] * CLASSES, 0
    for _ in range(requests):
        if draw.random() < 0.02:
            errors += 1
        else:
            latency[latency_class(0.5 * draw.lognormvariate(0, 0.5))] += 1
    bad = sum(min(1.0, max(0.0, draw.gauss(0.3, 0.2))) for _ in range(requests))
    scores = Tally(count=requests, bad=bad)
    return Outcomes(requests=requests, errors=errors, latency=tuple(latency), scores=scores)
