"""Evidence that is looked at after every observation: how often it is wrong, and what it finds."""

from __future__ import annotations

import math
import random

import pytest

from adapters.domain.sequential import Tally, Worse, excess_bound, interval

ALPHA = 0.05
RUNS = 300
LOOKS = 1_500


class Arms:
    """Requests that come one by one, a part of them to the canary, each bad by its arm's chance."""

    def __init__(self, seed: int, *, canary: float, stable: float, weight: float = 0.25) -> None:
        self._draw = random.Random(seed)
        self._chance = {True: canary, False: stable}
        self._weight = weight
        self.counts = {True: 0, False: 0}
        self.bad = {True: 0, False: 0}

    def ask(self) -> None:
        arm = self._draw.random() < self._weight
        self.counts[arm] += 1
        self.bad[arm] += self._draw.random() < self._chance[arm]

    @property
    def canary(self) -> Tally:
        return Tally(count=self.counts[True], bad=self.bad[True])

    @property
    def stable(self) -> Tally:
        return Tally(count=self.counts[False], bad=self.bad[False])


def rolled_back_at(arms: Arms, looks: int = LOOKS) -> int | None:
    """After how many observations the canary is found worse, looking after each."""
    evidence = Worse()
    for look in range(1, looks + 1):
        arms.ask()
        evidence = evidence.after(arms.canary, arms.stable)
        if evidence.exceeds(ALPHA):
            return look
    return None


def z_test_says_worse(canary: Tally, stable: Tally) -> bool:
    """The plain one-sided test of two samples at 5 %, as dashboards have it."""
    if min(canary.count, stable.count) < 30:
        return False
    pooled = (canary.bad + stable.bad) / (canary.count + stable.count)
    spread = math.sqrt(pooled * (1 - pooled) * (1 / canary.count + 1 / stable.count))
    return spread > 0 and (canary.rate - stable.rate) / spread > 1.645


@pytest.mark.parametrize("chance", [0.01, 0.1, 0.5])
def test_a_canary_as_good_is_rarely_found_worse_though_we_look_every_time(chance: float) -> None:
    wrong = sum(
        rolled_back_at(Arms(seed, canary=chance, stable=chance)) is not None for seed in range(RUNS)
    )
    assert wrong / RUNS <= ALPHA


@pytest.mark.parametrize(
    ("observations", "weight", "every", "least", "most"),
    [(1_500, 0.25, 1, 0.2, 0.3), (10_000, 0.5, 10, 0.32, 0.42)],
)
def test_a_plain_z_test_that_is_looked_at_again_and_again_is_wrong_far_more_often(
    observations: int, weight: float, every: int, least: float, most: float
) -> None:
    """One in four within 1,500 observations, 36 to 38 of 100 within 10,000: it never ends."""
    runs, wrong = 150, 0
    for seed in range(runs):
        arms = Arms(seed, canary=0.1, stable=0.1, weight=weight)
        for look in range(observations):
            arms.ask()
            if look % every == 0 and z_test_says_worse(arms.canary, arms.stable):
                wrong += 1
                break
    assert least < wrong / runs < most


def test_a_better_canary_is_never_found_worse() -> None:
    found = [rolled_back_at(Arms(seed, canary=0.02, stable=0.1)) for seed in range(100)]
    assert found == [None] * 100


@pytest.mark.parametrize(("canary", "within"), [(0.05, 1_500), (0.2, 300), (1.0, 80)])
def test_a_worse_canary_is_found_the_sooner_the_worse_it_is(canary: float, within: int) -> None:
    """Beside a stable version that fails in one of a hundred."""
    found = [
        rolled_back_at(Arms(seed, canary=canary, stable=0.01), looks=within) for seed in range(100)
    ]
    assert sum(look is not None for look in found) >= 90


def test_what_comes_in_large_blocks_is_found_too() -> None:
    evidence = Worse()
    for block in range(1, 6):
        stable = Tally(count=1_000 * block, bad=10 * block)
        evidence = evidence.after(Tally(count=50 * block, bad=5 * block), stable)
    assert evidence.exceeds(ALPHA)


def test_both_arms_getting_worse_at_once_is_no_evidence() -> None:
    """The engine has trouble, say; both are alike at every moment."""
    evidence = Worse()
    canary, stable = Tally(), Tally()
    for chance in (0.01, 0.9, 0.01, 0.5):
        canary = Tally(count=canary.count + 100, bad=canary.bad + 100 * chance)
        stable = Tally(count=stable.count + 900, bad=stable.bad + 900 * chance)
        evidence = evidence.after(canary, stable)
    assert evidence.log_e_value <= 0


def test_a_block_with_one_arm_waits_for_the_other() -> None:
    begun = Worse().after(Tally(count=10, bad=1), Tally(count=100, bad=1))
    assert begun.after(Tally(count=30, bad=30), Tally(count=100, bad=1)) is begun


@pytest.mark.parametrize("chance", [0.0, 0.02, 0.3])
def test_an_interval_holds_at_every_look_at_once(chance: float) -> None:
    wrong = 0
    for seed in range(100):
        draw = random.Random(seed)
        bad = 0
        for count in range(1, 400):
            bad += draw.random() < chance
            if count % 4:
                continue
            low, high = interval(Tally(count=count, bad=bad), alpha=ALPHA)
            if not low <= chance <= high:
                wrong += 1
                break
    assert wrong / 100 <= ALPHA


def test_an_interval_narrows_and_is_whole_where_nothing_was_seen() -> None:
    assert interval(Tally(), alpha=ALPHA) == (0.0, 1.0)
    widths = []
    for count in (100, 1_000, 10_000):
        low, high = interval(Tally(count=count, bad=count / 100), alpha=ALPHA)
        assert low < 0.01 < high
        widths.append(high - low)
    assert widths == sorted(widths, reverse=True)
    assert widths[-1] < 0.01


def test_parts_of_badness_count_as_parts() -> None:
    low, high = interval(Tally(count=200, bad=99.5), alpha=ALPHA)
    assert low < 99.5 / 200 < high


@pytest.mark.parametrize("difference", [0.02, 0.05])
def test_a_canary_that_is_worse_than_allowed_rarely_passes_though_we_look_every_time(
    difference: float,
) -> None:
    passed = 0
    for seed in range(100):
        arms = Arms(seed, canary=0.02 + difference, stable=0.02, weight=0.5)
        for look in range(600):
            arms.ask()
            if look % 5 == 0 and excess_bound(arms.canary, arms.stable, alpha=ALPHA) < difference:
                passed += 1
                break
    assert passed / 100 <= ALPHA


def test_a_canary_as_good_passes_in_time() -> None:
    passed = 0
    for seed in range(50):
        arms = Arms(seed, canary=0.01, stable=0.01, weight=0.5)
        for _ in range(6_000):
            arms.ask()
        passed += excess_bound(arms.canary, arms.stable, alpha=ALPHA) <= 0.02
    assert passed >= 45
