"""Canaries: the schedule of one, what is counted of its two arms, and what that says.

    assess(...)   from the counts: roll back, go on to the next step, or wait, with the numbers

Three signals are judged, each as badness from 0 to 1 (`adapters.domain.sequential`):

    errors    answers that the engine failed to give
    latency   answers slower than the stable version's slowest tenth, by more than `SLOWER` for the
              canary
    score     what a score from outside lacks of 1
"""

from __future__ import annotations

import bisect
import itertools
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from enum import StrEnum

from adapters.domain.names import Alias, Unit, VersionId
from adapters.domain.sequential import NOTHING, Tally, Worse, excess_bound

ALPHA = 0.05
"""The chance to roll back a canary that is no worse, and the chance to go on with one that is worse
than tolerated: each at most this, over the whole canary."""

LATENCY_EDGES = tuple(round(0.01 * 1.25**power, 6) for power in range(46))
"""Seconds between the classes of the latency histogram: 10 ms to 230 s, each a quarter longer."""
SLOWER = 2
"""Classes by which a canary's answer may be slower: 1.25² is 1.56 times."""
_SLOW_QUANTILE = 0.9
_CALIBRATION = 100
"""Answers of the stable version that say what is slow; latency is judged from then on."""


class Signal(StrEnum):
    """What a canary is judged by."""

    ERRORS = "errors"
    LATENCY = "latency"
    SCORE = "score"


@dataclass(frozen=True, kw_only=True)
class Step:
    """A weight, and how long it is kept at least."""

    weight: float
    minutes: float = 0.0


DEFAULT_STEPS = (
    Step(weight=5.0, minutes=10.0),
    Step(weight=25.0, minutes=10.0),
    Step(weight=50.0, minutes=10.0),
)


@dataclass(frozen=True, kw_only=True)
class CanaryPlan:
    """The schedule of a canary, and what decides over it."""

    steps: tuple[Step, ...] = DEFAULT_STEPS
    """Weights that only grow; behind the last one the canary is promoted."""
    advances: bool = True
    """Whether it goes on by itself; else only commands move it."""
    rolls_back: bool = True
    """Whether it rolls back by itself."""
    min_requests: int = 100
    """Of each arm, in each step, before it goes on."""
    tolerance: float = 0.02
    """By how much the share of errors may exceed the stable version's, at most."""
    slow_tolerance: float = 0.1
    """The same of slow answers."""
    score_tolerance: float = 0.1
    """The same of what the scores lack of 1."""
    needs_scores: bool = False
    """Whether it waits for scores from outside; those that come count in any case."""


@dataclass(frozen=True, kw_only=True)
class Outcomes:
    """What was counted of one arm, in one process or in all."""

    requests: int = 0
    errors: int = 0
    latency: tuple[int, ...] = ()
    """Answers by class: those up to each of `LATENCY_EDGES`, and those beyond the last."""
    scores: Tally = NOTHING

    def __add__(self, other: Outcomes) -> Outcomes:
        pairs = itertools.zip_longest(self.latency, other.latency, fillvalue=0)
        return Outcomes(
            requests=self.requests + other.requests,
            errors=self.errors + other.errors,
            latency=tuple(mine + theirs for mine, theirs in pairs),
            scores=Tally(
                count=self.scores.count + other.scores.count,
                bad=self.scores.bad + other.scores.bad,
            ),
        )

    def slow_from(self, latency_class: int) -> Tally:
        """Answers, and those of the class or a slower one."""
        return Tally(count=sum(self.latency), bad=sum(self.latency[latency_class:]))


def latency_class(seconds: float) -> int:
    """The class of an answer that took so long."""
    return bisect.bisect_left(LATENCY_EDGES, seconds)


NOBODY = Outcomes()


@dataclass(frozen=True, kw_only=True)
class Arms:
    """The same of the canary and of the stable version beside it."""

    canary: Outcomes = NOBODY
    stable: Outcomes = NOBODY


@dataclass(frozen=True, kw_only=True)
class Pair:
    """One signal's tallies of both arms."""

    canary: Tally = NOTHING
    stable: Tally = NOTHING

    def __sub__(self, other: Pair) -> Pair:
        return Pair(canary=self.canary - other.canary, stable=self.stable - other.stable)


NO_PAIR = Pair()


@dataclass(frozen=True, kw_only=True)
class Evidence:
    """What was concluded so far; the counts of all processes are told as totals."""

    worse: Mapping[Signal, Worse] = field(default_factory=dict)
    slow_class: int | None = None
    """From which class on the stable version's answers are slow; decided once, by its first."""
    calibration: Pair = NO_PAIR
    """Answers from before that was decided: they are not judged by it."""
    step_began: Mapping[Signal, Pair] = field(default_factory=dict)
    """The totals when the present step began. Its own counts alone let it go on: over several
    weights, hours in which both arms were slow would weigh differently in the two."""


class CanaryOutcome(StrEnum):
    """How a canary has ended."""

    PROMOTED = "promoted"
    """It is the stable version now."""
    ROLLED_BACK = "rolled_back"
    """It was worse, or somebody said so."""
    ABORTED = "aborted"
    """It was taken out, and may come again."""


@dataclass(frozen=True, kw_only=True)
class CanaryRun:
    """One canary: its plan, how far it has come, and what was concluded."""

    rollout: int
    """The id of the rollout that began it."""
    alias: Alias
    unit: Unit
    version: VersionId
    plan: CanaryPlan
    step: int = 0
    stepped_at: float | None = None
    """When its present weight came into force; None while it is loaded."""
    judged_at: float | None = None
    evidence: Evidence
    told: str | None = None
    """What the last look said."""
    outcome: CanaryOutcome | None = None
    reason: str | None = None
    ended_at: float | None = None


@dataclass(frozen=True, kw_only=True)
class Score:
    """What something outside says of one answer."""

    id: str
    """The caller's name for it: repeating it changes nothing."""
    version: VersionId
    value: float
    """0 to 1, the higher the better."""


class Verdict(StrEnum):
    """What follows from a look at a canary."""

    WAIT = "wait"
    ADVANCE = "advance"
    ROLL_BACK = "rollback"


@dataclass(frozen=True, kw_only=True)
class Assessment:
    """A verdict, why, and what to remember."""

    verdict: Verdict
    reason: str
    evidence: Evidence


def assess(
    plan: CanaryPlan, arms: Arms, evidence: Evidence, *, step: int, minutes: float
) -> Assessment:
    """What the counts say of a canary that has been in its present step for so many minutes."""
    known = _learn(_calibrated(evidence, arms), arms)
    found = _found_worse(known) if plan.rolls_back else None
    if found is not None:
        return Assessment(verdict=Verdict.ROLL_BACK, reason=found, evidence=known)
    waiting = _waits_for(plan, arms, known)
    left = plan.steps[step].minutes - minutes
    if waiting is None and left > 0:
        waiting = f"{left:.0f} more minutes of this step"
    if waiting is not None or not plan.advances:
        reason = waiting or "good enough; it does not go on by itself"
        return Assessment(verdict=Verdict.WAIT, reason=reason, evidence=known)
    reason = "; ".join(_told(plan, signal, pair) for signal, pair in _in_step(arms, known).items())
    return Assessment(verdict=Verdict.ADVANCE, reason=reason, evidence=known)


def begin_step(evidence: Evidence, arms: Arms) -> Evidence:
    """The evidence at the beginning of a step."""
    return replace(evidence, step_began=_pairs(arms, evidence))


def _calibrated(evidence: Evidence, arms: Arms) -> Evidence:
    answered = sum(arms.stable.latency)
    if evidence.slow_class is not None or answered < _CALIBRATION:
        return evidence
    reached = itertools.accumulate(arms.stable.latency)
    quantile = next(k for k, total in enumerate(reached) if total >= _SLOW_QUANTILE * answered)
    decided = replace(evidence, slow_class=quantile + 1)
    before = _slow(arms, quantile + 1)
    return replace(
        decided,
        calibration=before,
        step_began={**evidence.step_began, Signal.LATENCY: NO_PAIR},
    )


def _slow(arms: Arms, slow_class: int) -> Pair:
    return Pair(
        canary=arms.canary.slow_from(slow_class + SLOWER), stable=arms.stable.slow_from(slow_class)
    )


def _pairs(arms: Arms, evidence: Evidence) -> dict[Signal, Pair]:
    """The totals of each signal that can be judged."""
    found = {
        Signal.ERRORS: Pair(
            canary=Tally(count=arms.canary.requests, bad=arms.canary.errors),
            stable=Tally(count=arms.stable.requests, bad=arms.stable.errors),
        )
    }
    if evidence.slow_class is not None:
        found[Signal.LATENCY] = _slow(arms, evidence.slow_class) - evidence.calibration
    if arms.canary.scores.count and arms.stable.scores.count:
        found[Signal.SCORE] = Pair(canary=arms.canary.scores, stable=arms.stable.scores)
    return found


def _learn(evidence: Evidence, arms: Arms) -> Evidence:
    worse = {
        signal: evidence.worse.get(signal, Worse()).after(pair.canary, pair.stable)
        for signal, pair in _pairs(arms, evidence).items()
    }
    return replace(evidence, worse={**evidence.worse, **worse})


def _found_worse(evidence: Evidence) -> str | None:
    """The signal by which the canary is worse; each has its part of the error rate."""
    for signal, worse in evidence.worse.items():
        if worse.exceeds(ALPHA / len(Signal)):
            return (
                f"{signal}: {_per_cent(worse.canary)} of {worse.canary.count:.0f} are bad, the "
                f"stable version's {_per_cent(worse.stable)} of {worse.stable.count:.0f}; the "
                f"evidence that it is worse is 10^{worse.log_e_value / 2.302585:.1f}"
            )
    return None


def _in_step(arms: Arms, evidence: Evidence) -> dict[Signal, Pair]:
    began = evidence.step_began
    return {
        signal: pair - began.get(signal, NO_PAIR) for signal, pair in _pairs(arms, evidence).items()
    }


def _waits_for(plan: CanaryPlan, arms: Arms, evidence: Evidence) -> str | None:
    """What is missing before the next step, but for the time."""
    found = _in_step(arms, evidence)
    errors = found[Signal.ERRORS]
    fewest = min(errors.canary.count, errors.stable.count)
    if fewest < plan.min_requests:
        return f"{fewest:.0f} of the {plan.min_requests} requests that each arm needs in a step"
    if Signal.LATENCY not in found:
        return f"{_CALIBRATION} answers of the stable version say what is slow"
    if plan.needs_scores and Signal.SCORE not in found:
        return "scores of both versions"
    for signal, pair in found.items():
        if _bound(plan, pair) > _tolerated(plan, signal):
            return _told(plan, signal, pair)
    return None


def _bound(plan: CanaryPlan, pair: Pair) -> float:
    # every step asks for each signal: together they are wrong no more often than ALPHA says
    part = ALPHA / (len(plan.steps) * len(Signal))
    return excess_bound(pair.canary, pair.stable, alpha=part)


def _tolerated(plan: CanaryPlan, signal: Signal) -> float:
    return {
        Signal.ERRORS: plan.tolerance,
        Signal.LATENCY: plan.slow_tolerance,
        Signal.SCORE: plan.score_tolerance,
    }[signal]


def _told(plan: CanaryPlan, signal: Signal, pair: Pair) -> str:
    return (
        f"{signal}: at most {_bound(plan, pair):.3f} above the stable version's, "
        f"{_tolerated(plan, signal):g} is tolerated ({_per_cent(pair.canary)} of "
        f"{pair.canary.count:.0f} beside {_per_cent(pair.stable)} of {pair.stable.count:.0f})"
    )


def _per_cent(tally: Tally) -> str:
    return f"{tally.rate:.1%}"
