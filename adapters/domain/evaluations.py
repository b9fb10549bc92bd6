"""An evaluation: what one scorer gave one model on each example of a dataset's part.

It holds row ids and numbers and no text, so that it may be kept, compared and judged again.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import StrEnum

from adapters.domain.datasets import Part
from adapters.domain.names import Digest, JobId, Unit, VersionId

BASE = "base"
"""The subject of an evaluation of the base model alone; versions are called `support:8`."""


class Scorer(StrEnum):
    """What a score says of one example."""

    EXACT_MATCH = "exact_match"
    """1 where the greedy answer is the reference, else 0."""
    TOKEN_F1 = "token_f1"  # noqa: S105
    """Share of words that the greedy answer and the reference have in common, from 0 to 1."""
    NATS = "nats"
    """Negative log-probability of the reference through the service, the sum of its tokens."""
    TOKENS = "tokens"
    """Tokens of the reference, its end included: what nats are divided by."""
    DRIFT = "drift"
    """Mean distance of a reference token's log-probability in the service from the trainer's."""


@dataclass(frozen=True, kw_only=True)
class NewEvaluation:
    """Scores on their way into the registry, which gives the time."""

    unit: Unit
    adapter: str
    """Whose test part it is; the subject may be a version of another adapter of the unit."""
    subject: str
    """`base`, or the version's name."""
    version_id: VersionId | None
    """None for the base."""
    base_fingerprint: Digest
    dataset: str
    """Digest of the artifact that holds the part."""
    part: Part
    scorer: Scorer
    seed: int
    """Of the engine's sampler."""
    conditions: Mapping[str, str | int | float]
    """How it was measured (engine, dtype, length allowed): other conditions give other scores."""
    scores: Mapping[str, float]
    """Row id → score."""


@dataclass(frozen=True, kw_only=True)
class Evaluation(NewEvaluation):
    """What the registry keeps."""

    id: int
    created_at: float
    job_id: JobId | None
    """Which job measured it; None where a version was evaluated again."""

    @property
    def mean(self) -> float:
        """0.0 of nothing: an empty measurement proves nothing."""
        return sum(self.scores.values()) / len(self.scores) if self.scores else 0.0


def comparable(one: NewEvaluation, other: NewEvaluation) -> bool:
    """Whether the scores of the two may stand side by side, row by row."""
    return (
        one.scorer == other.scorer
        and one.part == other.part
        and one.base_fingerprint == other.base_fingerprint
        and one.seed == other.seed
        and dict(one.conditions) == dict(other.conditions)
    )


def merged(evaluations: Iterable[Evaluation]) -> dict[str, float]:
    """Row id → the newest score of it."""
    rows: dict[str, float] = {}
    for evaluation in sorted(evaluations, key=lambda each: each.id):
        rows.update(evaluation.scores)
    return rows
