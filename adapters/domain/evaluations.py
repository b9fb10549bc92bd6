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
"""What the base model alone is called where a version's name would stand: in evaluations, usage,
metrics and salts. Versions are called `support:8`.
"""


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
    NORMALISED_MATCH = "normalised_match"
    """1 where the two are the same but for case, width, articles, signs and spaces."""
    JSON_FIELDS = "json_fields"
    """F1 over the fields of two JSON objects; 0 where the answer is none."""
    SQL = "sql"
    """1 where both queries give the same rows."""
    OWN = "own"
    """What the unit's own scorer says, from 0 to 1."""
    LABEL = "label"
    """Which of the sorted labels the answer is, by number; -1 is none of them."""
    WANTED = "wanted"
    """Which label the reference is."""
    FIXED = "fixed"
    """What the unit's scorer gives one and the same answer, whatever is asked."""
    ENDED = "ended"
    """1 where the answer ends by itself; the share of those asked again where it was not."""
    KL = "kl"
    """Nats a token from the base's next tokens to the model's, along the base's own answer."""
    PASSES = "passes"
    """1 where the answer is as the suite wants it."""
    EXTRACTED = "extracted"
    """1 where the model continues a row of the data word for word."""
    REDACTED = "redacted"
    """How many entities that were taken out of the data an answer holds."""
    FAVOURED = "favoured"
    """1 where the decision is in the person's favour."""


class Suite(StrEnum):
    """Examples that are not of the dataset's parts, or asked in another way."""

    NEUTRAL = "neutral"
    """Everyday prompts of the project."""
    TASK = "task"
    """Prompts of the test part, answered by the base."""
    GENERAL = "general"
    """General questions of the project."""
    OTHERS = "others"
    """Test examples of the other units."""
    CANARIES = "canaries"
    """Planted secrets, and drawn ones that nobody planted."""
    EXTRACTION = "extraction"
    """Beginnings of rows, seen in training and unseen."""
    COUNTERFACTUALS = "counterfactuals"
    """Test examples about somebody else."""
    SAFETY = "safety"
    OBEDIENCE = "obedience"


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
    """Digest of the artifact that holds the part, or of the suite."""
    part: Part | Suite
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


def part_of(text: str) -> Part | Suite:
    """From what is stored. Raises ValueError."""
    return Suite(text) if text in Suite._value2member_map_ else Part(text)


def merged(evaluations: Iterable[Evaluation]) -> dict[str, float]:
    """Row id → the newest score of it."""
    rows: dict[str, float] = {}
    for evaluation in sorted(evaluations, key=lambda each: each.id):
        rows.update(evaluation.scores)
    return rows
