"""What the gates make of evaluations: pure functions, recomputed from the rows at any time."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass

from adapters.domain.bounds import lower_bound, mean
from adapters.domain.datasets import MIN_TEST, Part
from adapters.domain.evaluations import BASE, Evaluation, Scorer, comparable, merged
from adapters.domain.gates import (
    GatePolicy,
    GateResult,
    Outcome,
    at_least,
    at_most,
)
from adapters.domain.names import VersionId

DRIFT_FACTOR = 16.0
LEAST_DRIFT = 0.005
"""Nats a token: sums taken in another order, whatever the dtype."""
_ROUNDING = {"float32": 2.0**-24, "float16": 2.0**-11, "bfloat16": 2.0**-8}


@dataclass(frozen=True, kw_only=True)
class ValidationLosses:
    """Nats a token on the validation part."""

    chosen: float
    """At the checkpoint that was published."""
    lowest: float
    """Over the whole run."""


@dataclass(frozen=True, kw_only=True)
class Rival:
    """The live version that a candidate would replace."""

    id: VersionId
    name: str
    unservable: str | None = None
    """Why there is nothing to compare with; None where there is."""


@dataclass(frozen=True, kw_only=True)
class Proof:
    """Everything that the gates of one version are computed from."""

    subject: str
    evaluations: Sequence[Evaluation]
    """Of the adapter's test part: the subject's, the base's, the live version's, and others'."""
    rival: Rival | None = None
    """None where nothing is live, or the subject is."""
    losses: ValidationLosses | None = None

    def scores_of(self, subject: str, scorer: Scorer, rows: AbstractSet[str]) -> dict[str, float]:
        """The newest score of each of those rows that has one."""
        found = merged(
            each
            for each in self.evaluations
            if (each.subject, each.scorer, each.part) == (subject, scorer, Part.TEST)
        )
        return {row: score for row, score in found.items() if row in rows}


def judge(proof: Proof, policy: GatePolicy) -> tuple[GateResult, ...]:
    """All gates of a version that the service could serve."""
    return (
        at_least("artifact", 1.0, 1.0, "admitted and served"),
        _decided("effect", _effect, proof, policy),
        _decided("fidelity", _fidelity, proof, policy),
        _decided("task", _better_than_base, proof, policy),
        _decided("task", _no_worse_than_live, proof, policy),
        _decided("overfitting", _overfitting, proof, policy),
    )


def drift_allowed(dtype: str, layers: int) -> float:
    """Nats a token by which two honest forward passes may differ when one computes in `dtype`.

    Every layer rounds its sums. Independent errors of one unit roundoff u add up as the square root
    of their number (Higham & Mary 2019, SIAM J. Sci. Comput. 41), so they grow as u·√layers. The
    constant stands for the roundings of a layer and the size of logits, and is five times what was
    measured on the embedded base in bfloat16 (docs/concepts.md). An unknown dtype is taken for the
    coarsest.
    """
    rounding = _ROUNDING.get(dtype, _ROUNDING["bfloat16"])
    return max(LEAST_DRIFT, DRIFT_FACTOR * rounding * math.sqrt(max(layers, 1)))


def tries(proof: Proof, last: Evaluation) -> int:
    """How many times a version was tried on these examples against what is live, `last` included.

    Whoever tries often enough passes once by luck. A version that goes live begins the count anew.
    """
    live = proof.rival.id if proof.rival else 0
    return sum(
        each.version_id is not None
        and each.version_id > live
        and each.id <= last.id
        and (each.scorer, each.part) == (last.scorer, last.part)
        and _mostly_the_same(each.scores, last.scores)
        for each in proof.evaluations
    )


def _mostly_the_same(rows: Mapping[str, float], others: Mapping[str, float]) -> bool:
    """Whether half of the examples are: data that has grown a little tests on the same ones."""
    return 2 * len(rows.keys() & others.keys()) >= len(others)


# -- the gates


class _Missing(Exception):
    """What a gate needs was not measured."""


class _NothingToScore(Exception):
    """It was measured, and there was nothing: every example is too long."""


def _decided(
    gate: str,
    decide: Callable[[Proof, GatePolicy], GateResult],
    proof: Proof,
    policy: GatePolicy,
) -> GateResult:
    try:
        return decide(proof, policy)
    except _Missing as missing:
        return _without_number(gate, Outcome.ERROR, str(missing))
    except _NothingToScore as nothing:
        return _without_number(gate, Outcome.SKIPPED, str(nothing))


def _effect(proof: Proof, policy: GatePolicy) -> GateResult:
    """By log-probabilities and not by texts: those may be kept, and the base's used again."""
    mine = _of_subject(proof, Scorer.NATS)
    base = _of_others(proof, mine, BASE)
    tokens = _of_subject(proof, Scorer.TOKENS).scores
    allowed = _drift_bound(_of_subject(proof, Scorer.DRIFT), policy)
    moved = [
        abs(nats - base[row]) > allowed * max(tokens[row], 1.0) for row, nats in mine.scores.items()
    ]
    return at_least(
        "effect",
        sum(moved) / len(moved),
        policy.min_effect,
        f"share of {len(moved)} references whose log-probability the adapter moves by more than "
        f"{allowed:.3g} nats a token",
        against=BASE,
    )


def _fidelity(proof: Proof, policy: GatePolicy) -> GateResult:
    drift = _of_subject(proof, Scorer.DRIFT)
    dtype = drift.conditions.get("dtype", "unknown")
    return at_most(
        "fidelity",
        drift.mean,
        _drift_bound(drift, policy),
        f"nats a token between the service, which computes in {dtype}, and the trainer's own "
        f"forward pass, over {len(drift.scores)} references",
    )


def _drift_bound(drift: Evaluation, policy: GatePolicy) -> float:
    if policy.max_drift is not None:
        return policy.max_drift
    layers = int(drift.conditions.get("layers", 1))
    return drift_allowed(str(drift.conditions.get("dtype")), layers)


def _better_than_base(proof: Proof, policy: GatePolicy) -> GateResult:
    mine = _of_subject(proof, Scorer(policy.scorer))
    gains = _paired(mine.scores, _of_others(proof, mine, BASE))
    gain = mean(gains)
    detail, low = _compared(gains, proof, policy, mine)
    sure = low is not None and low > 0.0
    if low is not None and gain >= policy.min_gain and not sure:
        detail += ", which is not above zero: it may be luck"
    outcome = Outcome.PASSED if sure and gain >= policy.min_gain else Outcome.FAILED
    return GateResult(
        gate="task",
        outcome=outcome,
        measured=gain,
        bound=policy.min_gain,
        direction="at_least",
        detail=f"mean gain in {detail}",
        against=BASE,
    )


def _no_worse_than_live(proof: Proof, policy: GatePolicy) -> GateResult:
    rival = proof.rival
    if rival is None:
        return _without_number("task", Outcome.SKIPPED, "no other version is live", against="live")
    if rival.unservable is not None:
        return _without_number("task", Outcome.SKIPPED, rival.unservable, against=rival.name)
    mine = _of_subject(proof, Scorer(policy.scorer))
    gains = _paired(mine.scores, _of_others(proof, mine, rival.name))
    detail, low = _compared(gains, proof, policy, mine)
    if low is None:
        low = -1.0
    elif low < -policy.margin <= mean(gains):
        detail += "; more test examples would tell (`evaluation_examples`)"
    return at_least(
        "task",
        low,
        -policy.margin,
        f"lower end of the difference in {detail}",
        against=rival.name,
    )


def _compared(
    gains: Sequence[float], proof: Proof, policy: GatePolicy, mine: Evaluation
) -> tuple[str, float | None]:
    """What a comparison tells, and what the mean is surely not below; None where that is nothing.

    Bonferroni: so many tries share the doubt.
    """
    detail = f"{mine.scorer} on {len(gains)} test examples, {mean(gains):+.3f}"
    if len(gains) < MIN_TEST:
        return f"{detail}; fewer than {MIN_TEST} prove nothing", None
    number = max(tries(proof, mine), 1)
    confidence = 1.0 - (1.0 - policy.confidence) / number
    low = lower_bound(gains, confidence=confidence)
    of = f" as try {number}" if number > 1 else ""
    return f"{detail}, {confidence:.1%} sure of {low:+.3f}{of}", low


def _overfitting(proof: Proof, policy: GatePolicy) -> GateResult:
    losses = proof.losses
    if losses is None:
        return _without_number(
            "overfitting", Outcome.SKIPPED, "no losses of the validation part are known"
        )
    nats = _of_subject(proof, Scorer.NATS).scores
    tokens = _of_subject(proof, Scorer.TOKENS).scores
    length = mean([tokens[row] for row in nats])
    test = mean(list(nats.values())) / length
    # a few hard examples make a loss large by chance: only what is surely too much counts
    excess = [value - losses.chosen * tokens[row] for row, value in nats.items()]
    surely = lower_bound(excess, confidence=policy.confidence) / length
    return at_most(
        "overfitting",
        max(surely, losses.chosen - losses.lowest),
        policy.max_overfitting,
        f"nats a token: {test:.3f} on the test part, {losses.chosen:.3f} on the validation part "
        f"at the checkpoint that was chosen, {losses.lowest:.3f} at its lowest",
    )


# -- from evaluations to paired numbers


def _of_subject(proof: Proof, scorer: Scorer) -> Evaluation:
    """The newest. Raises _Missing, _NothingToScore."""
    found = [
        each
        for each in proof.evaluations
        if (each.subject, each.scorer, each.part) == (proof.subject, scorer, Part.TEST)
    ]
    if not found:
        raise _Missing(f"{proof.subject} has no {scorer} on the test part")
    newest = max(found, key=lambda each: each.id)
    if not newest.scores:
        raise _NothingToScore(f"no test example is short enough for {scorer}")
    return newest


def _of_others(proof: Proof, mine: Evaluation, subject: str) -> dict[str, float]:
    """The scores of `subject` on the same rows, from all evaluations under the same conditions.

    Raises _Missing.
    """
    rows = merged(
        each for each in proof.evaluations if each.subject == subject and comparable(each, mine)
    )
    if not rows.keys() >= mine.scores.keys():
        raise _Missing(f"{subject} has no {mine.scorer} on the same test examples")
    return rows


def _paired(mine: Mapping[str, float], other: Mapping[str, float]) -> list[float]:
    return [score - other[row] for row, score in mine.items()]


def _without_number(
    gate: str, outcome: Outcome, why: str, *, against: str | None = None
) -> GateResult:
    return GateResult(
        gate=gate,
        outcome=outcome,
        measured=0.0,
        bound=0.0,
        direction="at_least",
        detail=why,
        against=against,
    )
