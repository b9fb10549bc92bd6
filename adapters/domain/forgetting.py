"""The gate over what a version has forgotten: how far it is from its base where none asked for it.

Forward KL from the base predicts forgetting (arXiv 2509.04259): it is measured along the base's own
answers. What it cannot see, questions show: general ones, and other units' test examples.
"""

from __future__ import annotations

from collections.abc import Iterator

from adapters.domain.bounds import mean
from adapters.domain.evaluations import BASE, Scorer, Suite
from adapters.domain.gate_options import ForgettingOptions
from adapters.domain.gates import GateResult, Outcome, at_most, without_number
from adapters.domain.measured import Proof, decided, of_base, of_subject, paired

NEUTRAL = "forgetting on neutral prompts"
TASK = "forgetting on the task's prompts"
GENERAL = "forgetting on general questions"
OTHERS = "forgetting on other units' examples"


def judge_forgetting(proof: Proof, options: ForgettingOptions) -> Iterator[GateResult]:
    """A verdict on each kind of question."""
    yield decided(NEUTRAL, _neutral, proof, options)
    yield decided(TASK, _task, proof, options)
    yield decided(GENERAL, _general, proof, options)
    if options.other_units:
        nothing = "no other unit has a version whose test part is kept"
        yield decided(OTHERS, _others, proof, options, nothing=nothing)


def _neutral(proof: Proof, options: ForgettingOptions) -> GateResult:
    kl = of_subject(proof, Scorer.KL, Suite.NEUTRAL)
    detail = _of_kl(len(kl.scores))
    return at_most(NEUTRAL, kl.mean, options.max_kl, detail, against=BASE)


def _task(proof: Proof, options: ForgettingOptions) -> GateResult:
    kl = of_subject(proof, Scorer.KL, Suite.TASK)
    detail = _of_kl(len(kl.scores))
    if options.max_kl_task is None:
        said = f"reported only, {kl.mean:.3g} {detail}: the unit sets no bound (`max_kl_task`)"
        return without_number(TASK, Outcome.SKIPPED, said, against=BASE, measured=kl.mean)
    return at_most(TASK, kl.mean, options.max_kl_task, detail, against=BASE)


def _of_kl(prompts: int) -> str:
    return (
        f"nats a token from the base's next tokens to the version's, along the base's answers to "
        f"{prompts} prompts"
    )


def _general(proof: Proof, options: ForgettingOptions) -> GateResult:
    mine = of_subject(proof, Scorer.PASSES, Suite.GENERAL)
    base = of_base(proof, mine)
    drop = -mean(paired(mine.scores, base))
    known = mean([base[row] for row in mine.scores])
    return at_most(
        GENERAL,
        drop,
        options.max_general_drop,
        f"share of {len(mine.scores)} general questions that it answers no longer; the base "
        f"answers {known:.0%}",
        against=BASE,
    )


def _others(proof: Proof, options: ForgettingOptions) -> GateResult:
    mine = of_subject(proof, Scorer.NATS, Suite.OTHERS)
    tokens = of_subject(proof, Scorer.TOKENS, Suite.OTHERS).scores
    length = mean([tokens[row] for row in mine.scores])
    rise = mean(paired(mine.scores, of_base(proof, mine))) / length
    return at_most(
        OTHERS,
        rise,
        options.max_others_rise,
        f"nats a token by which {len(mine.scores)} references of other units became less likely",
        against=BASE,
    )
