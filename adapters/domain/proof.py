"""What the gates make of evaluations: pure functions, recomputed from the rows at any time."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from functools import partial

from adapters.domain.bounds import lower_bound, mean
from adapters.domain.conduct import judge_conduct
from adapters.domain.data_gate import judge_data
from adapters.domain.datasets import MIN_TEST
from adapters.domain.evaluations import BASE, Evaluation, Scorer
from adapters.domain.fairness import judge_fairness
from adapters.domain.forgetting import judge_forgetting
from adapters.domain.gates import (
    GatePolicy,
    GateResult,
    Outcome,
    at_least,
    at_most,
    without_number,
)
from adapters.domain.leakage import judge_leakage
from adapters.domain.macro_f1 import macro_f1, pseudo_values
from adapters.domain.measured import (
    Missing,
    NothingToScore,
    Proof,
    decided,
    of_others,
    of_subject,
    paired,
)

ONE_ANSWER = "one answer"
"""What a version is compared with that says the same whatever is asked."""
ALL_ALIKE = 0.95
"""From this score on, one answer leaves nothing to beat it by: the examples are all alike."""
DRIFT_FACTOR = 16.0
LEAST_DRIFT = 0.005
"""Nats a token: sums taken in another order, whatever the dtype."""
_ROUNDING = {"float32": 2.0**-24, "float16": 2.0**-11, "bfloat16": 2.0**-8}


def judge(proof: Proof, policy: GatePolicy) -> tuple[GateResult, ...]:
    """All gates of a version that the service could serve."""
    return (
        at_least("artifact", 1.0, 1.0, "admitted and served"),
        decided("effect", _effect, proof, policy),
        decided("fidelity", _fidelity, proof, policy),
        decided("task", _better_than_base, proof, policy),
        decided("task", _no_worse_than_live, proof, policy),
        decided("overfitting", _overfitting, proof, policy),
        *_asked_for(proof, policy),
    )


def _asked_for(proof: Proof, policy: GatePolicy) -> Iterator[GateResult]:
    """Gates that a unit may switch off, or has switched on."""
    if policy.min_skill is not None:
        yield decided("skill", partial(_skill, bound=policy.min_skill), proof, policy)
    if policy.min_ends is not None:
        yield decided("ends", _ends, proof, policy.min_ends)
    if policy.data is not None:
        yield from judge_data(proof, policy.data)
    if policy.forgetting is not None:
        yield from judge_forgetting(proof, policy.forgetting)
    if policy.leakage is not None:
        yield from judge_leakage(proof, policy.leakage)
    if policy.fairness is not None:
        yield from judge_fairness(proof, policy.fairness)
    if policy.conduct is not None:
        yield from judge_conduct(proof, policy.conduct)


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


def _effect(proof: Proof, policy: GatePolicy) -> GateResult:
    """By log-probabilities and not by texts: those may be kept, and the base's used again."""
    mine = of_subject(proof, Scorer.NATS)
    base = of_others(proof, mine, BASE)
    tokens = of_subject(proof, Scorer.TOKENS).scores
    allowed = _drift_bound(of_subject(proof, Scorer.DRIFT), policy)
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
    drift = of_subject(proof, Scorer.DRIFT)
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
    mine = _scored(proof, policy)
    gains = _gains(proof, policy, mine, of_others(proof, mine, BASE))
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


def _skill(proof: Proof, policy: GatePolicy, *, bound: float) -> GateResult:
    """A version that knows a unit's manner and nothing else scores as one answer does.

    Skill is what forecasters call a lead over a forecast that is always the same.
    """
    mine = _scored(proof, policy)
    fixed = of_subject(proof, Scorer.FIXED).scores
    if not fixed.keys() >= mine.scores.keys():
        raise Missing(f"one answer has no {policy.scorer} on the same examples")
    gains = _gains(proof, policy, mine, fixed)
    alone = _alone(proof, policy, mine, fixed)
    if alone >= ALL_ALIKE:
        raise NothingToScore(f"one answer scores {alone:.2f}: the examples are all alike")
    detail, low = _compared(gains, proof, policy, mine)
    return at_least(
        "skill",
        -1.0 if low is None else low,
        bound,
        f"lower end of the lead over the best answer that is the same for all questions, which "
        f"scores {alone:.3f}, in {detail}",
        against=ONE_ANSWER,
    )


def _alone(proof: Proof, policy: GatePolicy, mine: Evaluation, fixed: Mapping[str, float]) -> float:
    rows = sorted(mine.scores)
    if policy.scorer != "label_f1":
        return mean([fixed[row] for row in rows])
    wanted = of_subject(proof, Scorer.WANTED).scores
    return macro_f1([fixed[row] for row in rows], [wanted[row] for row in rows])


def _no_worse_than_live(proof: Proof, policy: GatePolicy) -> GateResult:
    rival = proof.rival
    if rival is None:
        return without_number("task", Outcome.SKIPPED, "no other version is live", against="live")
    if rival.unservable is not None:
        return without_number("task", Outcome.SKIPPED, rival.unservable, against=rival.name)
    mine = _scored(proof, policy)
    gains = _gains(proof, policy, mine, of_others(proof, mine, rival.name))
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


def _scored(proof: Proof, policy: GatePolicy) -> Evaluation:
    """What the `task` gates compare, and the tries are counted by."""
    labels = policy.scorer == "label_f1"
    return of_subject(proof, Scorer.LABEL if labels else Scorer(policy.scorer))


def _gains(
    proof: Proof, policy: GatePolicy, mine: Evaluation, theirs: Mapping[str, float]
) -> list[float]:
    """What each row gained."""
    if policy.scorer != "label_f1":
        return paired(mine.scores, theirs)
    wanted = of_subject(proof, Scorer.WANTED).scores
    rows = sorted(mine.scores)
    gold = [wanted[row] for row in rows]
    new = pseudo_values([mine.scores[row] for row in rows], gold)
    old = pseudo_values([theirs[row] for row in rows], gold)
    return [one - another for one, another in zip(new, old, strict=True)]


def _ends(proof: Proof, bound: float) -> GateResult:
    ended = of_subject(proof, Scorer.ENDED)
    return at_least(
        "ends",
        ended.mean,
        bound,
        f"share of {len(ended.scores)} answers that end by themselves within the limit",
    )


def _compared(
    gains: Sequence[float], proof: Proof, policy: GatePolicy, mine: Evaluation
) -> tuple[str, float | None]:
    """What a comparison tells, and what the mean is surely not below; None where that is nothing.

    Bonferroni: so many tries share the doubt.
    """
    scorer = policy.scorer if policy.scorer == "label_f1" else mine.scorer
    detail = f"{scorer} on {len(gains)} test examples, {mean(gains):+.3f}"
    if len(gains) < MIN_TEST:
        return f"{detail}; fewer than {MIN_TEST} prove nothing", None
    number = max(tries(proof, mine), 1)
    confidence = 1.0 - (1.0 - policy.confidence) / number
    low = lower_bound(gains, confidence=confidence)
    of = f" as try {number}" if number > 1 else ""
    return f"{detail}, {confidence:.1%} sure of {low:+.3f}{of}", low


def _overfitting(proof: Proof, policy: GatePolicy) -> GateResult:
    """By the worst of three distances, of which an honest run shows none above 0.25.

    At the checkpoints that were published, validation rows cost more than training rows by 0.01,
    0.03 and 0.19 nats a token on `smollm2` (300 rows, two epochs), 0.23 (160 rows) and 0.03 on the
    embedded base; few rows ten times too often by 0.44 on the one and 0.37 to 0.94 on the other.
    """
    losses = proof.losses
    if losses is None:
        return without_number(
            "overfitting", Outcome.SKIPPED, "no losses of the validation part are known"
        )
    nats = of_subject(proof, Scorer.NATS).scores
    tokens = of_subject(proof, Scorer.TOKENS).scores
    length = mean([tokens[row] for row in nats])
    test = mean(list(nats.values())) / length
    # a few hard examples make a loss large by chance: only what is surely too much counts
    excess = [value - losses.chosen * tokens[row] for row, value in nats.items()]
    surely = lower_bound(excess, confidence=policy.confidence) / length
    # a run that was looked at once, at its end, has no lower loss to show: its training rows have
    trained = losses.chosen if losses.trained is None else losses.trained
    learnt = "" if losses.trained is None else f", {trained:.3f} on the training rows"
    return at_most(
        "overfitting",
        max(surely, losses.chosen - losses.lowest, losses.chosen - trained),
        policy.max_overfitting,
        f"nats a token: {test:.3f} on the test part, {losses.chosen:.3f} on the validation part "
        f"at the checkpoint that was chosen, {losses.lowest:.3f} at its lowest{learnt}",
    )
