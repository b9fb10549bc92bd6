"""What a version was measured by, and how its gates find the numbers that they compare."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field
from typing import TypeVar

from adapters.domain.datasets import Part
from adapters.domain.evaluations import BASE, Evaluation, Scorer, Suite, comparable, merged
from adapters.domain.gates import GateResult, Outcome, without_number
from adapters.domain.names import VersionId

T = TypeVar("T")


@dataclass(frozen=True, kw_only=True)
class ValidationLosses:
    """Nats a token on the validation part."""

    chosen: float
    """At the checkpoint that was published."""
    lowest: float
    """Over the whole run."""
    trained: float | None = None
    """On the training rows, in the steps before that checkpoint; None where it is not comparable:
    preferences are learnt until they are sure."""


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
    data: Mapping[str, float] | None = field(default_factory=dict)
    """What the stages of the dataset reported; what they did not is not there. None: the version
    was not made from it."""

    def scores_of(self, subject: str, scorer: Scorer, rows: AbstractSet[str]) -> dict[str, float]:
        """The newest score of each of those rows that has one."""
        found = merged(
            each
            for each in self.evaluations
            if (each.subject, each.scorer, each.part) == (subject, scorer, Part.TEST)
        )
        return {row: score for row, score in found.items() if row in rows}


class Missing(Exception):
    """What a gate needs was not measured."""


class NothingToScore(Exception):
    """It was measured, and there was nothing that could be scored."""


def decided(
    gate: str,
    decide: Callable[[Proof, T], GateResult],
    proof: Proof,
    options: T,
    *,
    nothing: str | None = None,
) -> GateResult:
    """What `decide` says, or why there is nothing to decide: in the words of `nothing`, if any."""
    try:
        return decide(proof, options)
    except Missing as missing:
        return without_number(gate, Outcome.ERROR, str(missing))
    except NothingToScore as empty:
        return without_number(gate, Outcome.SKIPPED, nothing or str(empty))


def of_subject(proof: Proof, scorer: Scorer, part: Part | Suite = Part.TEST) -> Evaluation:
    """The newest. Raises Missing, NothingToScore."""
    found = [
        each
        for each in proof.evaluations
        if (each.subject, each.scorer, each.part) == (proof.subject, scorer, part)
    ]
    if not found:
        raise Missing(f"{proof.subject} has no {scorer} on the {_said(part)}")
    newest = max(found, key=lambda each: each.id)
    if not newest.scores:
        raise NothingToScore(f"nothing of the {_said(part)} can be scored by {scorer}")
    return newest


def of_others(proof: Proof, mine: Evaluation, subject: str) -> dict[str, float]:
    """The scores of `subject` on the same rows, from all evaluations under the same conditions.

    Raises Missing.
    """
    rows = merged(
        each for each in proof.evaluations if each.subject == subject and comparable(each, mine)
    )
    if not rows.keys() >= mine.scores.keys():
        raise Missing(f"{subject} has no {mine.scorer} on the same examples")
    return rows


def of_base(proof: Proof, mine: Evaluation) -> dict[str, float]:
    """As `of_others`, of the base."""
    return of_others(proof, mine, BASE)


def paired(mine: Mapping[str, float], other: Mapping[str, float]) -> list[float]:
    """What each row gained."""
    return [score - other[row] for row, score in mine.items()]


def _said(part: Part | Suite) -> str:
    return "test part" if part is Part.TEST else f"suite `{part}`"
