"""Sequential statistics of two arms: they stay honest however often somebody looks.

Each arm is a tally: how many observations, and the sum of their badness, each from 0 to 1 (an error
is 1, an answer 0; of a score, what it lacks of 1). Two questions are asked of a canary and the
stable version beside it, and both may be asked after every observation:

    Worse              is the canary worse? evidence that grows, to roll back by
    excess_bound(...)  how much worse may it be at most? an interval, to advance by

A fixed-sample test that is looked at again and again is wrong far more often than it says (Johari,
Koomen, Pekelis and Walsh 2017, "Peeking at A/B tests"); `tests/adapters/domain/test_sequential.py`
shows it beside these.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace

ODDS = (1.5, 3.0, 10.0)
"""How many times the odds of the stable version a worse canary is bet to have, in equal parts. What
is worse by less is hardly ever found, which is meant: it is no reason to roll back."""
BURN_IN = 30
"""Observations of the stable version before the first bet: they say what a bet is made against."""
_SURELY = 1e-4
"""Bets stay away from 0 and 1: a single observation must not decide alone."""
_HALVINGS = 40


@dataclass(frozen=True, kw_only=True)
class Tally:
    """Observations of one arm."""

    count: float = 0.0
    bad: float = 0.0
    """The sum of their badness, each from 0 to 1."""

    def __sub__(self, other: Tally) -> Tally:
        return Tally(count=self.count - other.count, bad=self.bad - other.bad)

    @property
    def rate(self) -> float:
        """Their mean; 0 where there are none."""
        return self.bad / self.count if self.count else 0.0


NOTHING = Tally()


@dataclass(frozen=True, kw_only=True)
class Worse:
    """A one-sided e-process against "the canary is no worse than the stable version".

    While that holds, the chance that it ever reaches 1/α is at most α (Ville 1939), whenever it is
    looked at. It is a product over blocks of the likelihood ratio of Turner, Ly and Grünwald 2024,
    "Generic E-variables for exact sequential k-sample tests that allow for optional stopping"
    (J. Statist. Plann. Inference 230): with c and s observations of the two arms in a block, bets
    θc ≥ θs that only blocks before have chosen, and θ0 = (c·θc + s·θs)/(c + s), each observation
    of badness y gives (θ/θ0)^y ((1-θ)/(1-θ0))^(1-y). Equal means: its expectation is at most 1 by
    Jensen's inequality; a better canary only lowers it, because the canary's factor grows with its
    mean and the other's falls. Badness between 0 and 1 gives no more than its linear
    interpolation, by the inequality of the means. Bets on several odds are mixed in equal parts.

    Blocks must not be cut by what is in them: here they are cut by time, and one goes on until it
    has both arms.
    """

    logs: tuple[float, ...] = (0.0,) * len(ODDS)
    """Of the evidence for each of the odds."""
    canary: Tally = NOTHING
    stable: Tally = NOTHING
    """What was seen in the blocks before."""

    def after(self, canary: Tally, stable: Tally) -> Worse:
        """The evidence once the arms stand at these totals."""
        block_c, block_s = canary - self.canary, stable - self.stable
        if block_c.count <= 0 or block_s.count <= 0:
            return self
        seen = replace(self, canary=canary, stable=stable)
        if self.stable.count < BURN_IN:
            return seen
        base = _inside((self.stable.bad + 0.5) / (self.stable.count + 1.0))
        gained = (_gain(block_c, block_s, base, odds) for odds in ODDS)
        return replace(
            seen, logs=tuple(log + gain for log, gain in zip(self.logs, gained, strict=True))
        )

    @property
    def log_e_value(self) -> float:
        """The logarithm of the evidence."""
        most = max(self.logs)
        return most + math.log(sum(math.exp(log - most) for log in self.logs) / len(self.logs))

    def exceeds(self, alpha: float) -> bool:
        """Whether the canary is worse, at error rate `alpha`."""
        return self.log_e_value >= -math.log(alpha)


def _gain(canary: Tally, stable: Tally, base: float, odds: float) -> float:
    bet = _inside(odds * base / (1.0 - base + odds * base))
    null = (canary.count * bet + stable.count * base) / (canary.count + stable.count)
    return _log_ratio(canary, bet, null) + _log_ratio(stable, base, null)


def _log_ratio(tally: Tally, theta: float, null: float) -> float:
    good = tally.count - tally.bad
    return tally.bad * math.log(theta / null) + good * math.log((1.0 - theta) / (1.0 - null))


def _inside(theta: float) -> float:
    return min(1.0 - _SURELY, max(_SURELY, theta))


def interval(tally: Tally, *, alpha: float) -> tuple[float, float]:
    """A confidence sequence for a mean: it holds at all sample sizes at once, but for `alpha`.

    Robbins' mixture (1970, "Statistical methods related to the law of the iterated logarithm") with
    a Beta(½, ½) over Bernoulli likelihoods: the means whose likelihood is not 1/alpha times less
    than the mixture's. Badness between 0 and 1 keeps it honest, as in `Worse`. Howard, Ramdas,
    McAuliffe and Sekhon 2021 ("Time-uniform, nonparametric, nonasymptotic confidence sequences",
    Ann. Statist. 49) give the family that it belongs to.
    """
    if not tally.count:
        return 0.0, 1.0
    good = tally.count - tally.bad
    mixture = _log_beta(tally.bad + 0.5, good + 0.5) - _log_beta(0.5, 0.5)

    def is_inside(mean: float) -> bool:
        likelihood = _times_log(tally.bad, mean) + _times_log(good, 1.0 - mean)
        return mixture - likelihood < -math.log(alpha)

    centre = tally.rate
    return _edge(centre, 0.0, is_inside), _edge(centre, 1.0, is_inside)


def excess_bound(canary: Tally, stable: Tally, *, alpha: float) -> float:
    """By how much the canary's mean exceeds the stable version's at most, at all looks at once."""
    most = interval(canary, alpha=alpha / 2)[1]
    least = interval(stable, alpha=alpha / 2)[0]
    return most - least


def _edge(inside: float, outside: float, is_inside: Callable[[float], bool]) -> float:
    """The end of the interval between a mean inside and the end of all means, by bisection."""
    if is_inside(outside):
        return outside
    for _ in range(_HALVINGS):
        middle = (inside + outside) / 2
        inside, outside = (middle, outside) if is_inside(middle) else (inside, middle)
    return outside


def _log_beta(a: float, b: float) -> float:
    return math.lgamma(a) + math.lgamma(b) - math.lgamma(a + b)


def _times_log(times: float, of: float) -> float:
    """`times` · log `of`, and 0 · log 0 = 0."""
    if not times:
        return 0.0
    return times * math.log(of) if of > 0.0 else -math.inf
