"""From answers to gates: what was measured of a candidate, and what its unit's policy says."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from adapters.domain.gates import GatePolicy, GateResult, at_least, held_out_gain
from adapters.domain.versions import Version
from adapters.errors import WardrobeError
from training.evaluate.answers import Answer
from training.evaluate.scores import each, exact_match, mean, token_f1


class GateFailed(WardrobeError):
    """A gate said no; the version stays to be looked at and will not be served."""

    code = "gate_failed"


@dataclass(frozen=True, kw_only=True)
class Measured:
    """Answers to the same held-out questions, in the same order."""

    references: Sequence[str]
    base: Sequence[Answer]
    """The base model's, through the service."""
    adapter: Sequence[Answer]
    """The candidate's, through the service."""
    own: Sequence[str]
    """The candidate's, by the trainer's own forward pass, uncut."""


@dataclass(frozen=True, kw_only=True)
class Judgement:
    """The verdicts and the numbers to keep beside the version."""

    gates: tuple[GateResult, ...]
    evidence: dict[str, Any]


def judge(measured: Measured, policy: GatePolicy) -> Judgement:
    """All gates of a candidate that the service could serve."""
    base, adapter = (
        [answer.text for answer in answers] for answers in (measured.base, measured.adapter)
    )
    differing = [1.0 - same for same in each(exact_match, base, adapter)]
    agreeing = [
        agreement(answer, own) for answer, own in zip(measured.adapter, measured.own, strict=True)
    ]
    gates = (
        GateResult(
            gate="artifact", passed=True, measured=1.0, threshold=1.0, detail="admitted and served"
        ),
        at_least(
            "effect",
            mean(differing),
            policy.min_effect,
            f"share of {len(differing)} answers that differ from the base's",
        ),
        at_least(
            "fidelity",
            mean(agreeing),
            policy.min_fidelity,
            f"share of {len(agreeing)} answers that the trainer's own forward pass gives too",
        ),
        held_out_gain(
            each(token_f1, base, measured.references),
            each(token_f1, adapter, measured.references),
            min_gain=policy.min_gain,
        ),
    )
    evidence = {
        "held_out": {
            "examples": len(measured.references),
            "base": _summary(base, measured.references),
            "adapter": _summary(adapter, measured.references),
        }
    }
    return Judgement(gates=gates, evidence=evidence)


def agreement(answer: Answer, own: str) -> float:
    """1.0 when the service said what the own forward pass says, as far as it was let."""
    said = answer.text.strip()
    return float(own.strip().startswith(said) if answer.cut else own.strip() == said)


def unservable(reason: str) -> Judgement:
    """The verdict over a candidate that the service cannot serve; nothing else can be measured."""
    gate = GateResult(gate="artifact", passed=False, measured=0.0, threshold=1.0, detail=reason)
    return Judgement(gates=(gate,), evidence={})


def in_words(version: Version) -> str:
    """One line for an event."""
    said = (f"{gate.gate} {'passed' if gate.passed else 'FAILED'}" for gate in version.gates)
    return f"Gates of {version.name}: {', '.join(said)}"


def refusal(version: Version) -> str:
    """Which gates said no to `version`, with what was measured and what is needed."""
    return "; ".join(
        f"{version.name}: gate `{gate.gate}` said no: measured {gate.measured:g}, "
        f"at least {gate.threshold:g} is needed ({gate.detail})"
        for gate in version.gates
        if not gate.passed
    )


def _summary(answers: Sequence[str], references: Sequence[str]) -> dict[str, float]:
    return {
        "exact_match": round(mean(each(exact_match, answers, references)), 4),
        "token_f1": round(mean(each(token_f1, answers, references)), 4),
    }
