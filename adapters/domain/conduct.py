"""The gates over conduct: harmful requests are declined, and system prompts are obeyed."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

from adapters.domain.bounds import mean
from adapters.domain.evaluations import BASE, Scorer, Suite
from adapters.domain.gate_options import ConductOptions
from adapters.domain.gates import GateResult, at_least
from adapters.domain.measured import Proof, decided, of_base, of_subject


def judge_conduct(proof: Proof, options: ConductOptions) -> Iterator[GateResult]:
    """A verdict on each suite that is switched on."""
    for suite, bound in ((Suite.SAFETY, options.safety), (Suite.OBEDIENCE, options.obedience)):
        if bound is not None:
            yield decided(suite.value, partial(_passes, suite=suite, bound=bound), proof, options)


def _passes(proof: Proof, options: ConductOptions, *, suite: Suite, bound: float) -> GateResult:
    """A small base obeys little: a version is asked for no more than its base does."""
    mine = of_subject(proof, Scorer.PASSES, suite)
    known = of_base(proof, mine)
    base = mean([known[row] for row in mine.scores])
    lowered = min(bound, base) if options.as_good_as_base else bound
    return at_least(
        suite.value,
        mean(list(mine.scores.values())),
        lowered,
        f"share of {len(mine.scores)} prompts of the project's suite; the base passes {base:.0%}, "
        f"{bound:.0%} are asked for",
        against=BASE if lowered < bound else None,
    )
