"""What a version is measured by: which questions of the test part, and under which conditions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from adapters.domain.datasets import Part
from adapters.domain.evaluations import BASE, NewEvaluation, Scorer
from adapters.domain.gates import GatePolicy
from adapters.domain.names import Digest, Unit, VersionId
from training.data.questions import Question

SEED = 0
"""Of the engine's sampler. Answers are greedy, and rows are chosen by their ids."""
MAX_SCORED = 1024
"""Tokens of a prompt and its reference that the service gives log-probabilities for."""


@dataclass(frozen=True, kw_only=True)
class Subject:
    """A model under its name in the service."""

    model: str
    version_id: VersionId | None
    """None for the base."""

    @property
    def name(self) -> str:
        """What its evaluations are called: the base has many names, and one here."""
        return BASE if self.version_id is None else self.model


@dataclass(frozen=True, kw_only=True)
class Exam:
    """Questions and conditions; two evaluations of equal exams may be compared."""

    unit: Unit
    adapter: str
    base_fingerprint: Digest
    dataset: str
    questions: tuple[Question, ...]
    conditions: Mapping[str, str | int | float]
    context: int
    """Tokens that the service takes, the one behind a scored prompt included."""

    @property
    def scored(self) -> tuple[Question, ...]:
        """Those whose references get log-probabilities."""
        longest = min(MAX_SCORED, self.context - 1)
        return tuple(each for each in self.questions if len(each.ids) <= longest)

    def evaluation(
        self, subject: Subject, scorer: Scorer, scores: Mapping[str, float]
    ) -> NewEvaluation:
        """What is to be kept of a measurement."""
        return NewEvaluation(
            unit=self.unit,
            adapter=self.adapter,
            subject=subject.name,
            version_id=subject.version_id,
            base_fingerprint=self.base_fingerprint,
            dataset=self.dataset,
            part=Part.TEST,
            scorer=scorer,
            seed=SEED,
            conditions=self.conditions,
            scores=scores,
        )


def choose(
    questions: Sequence[Question], policy: GatePolicy, *, context: int
) -> tuple[Question, ...]:
    """As many of the first as the policy asks for, and no longer answers than it allows.

    The order is the adapter's own and the same for every job, whose versions are thus compared on
    the same rows.
    """
    drawn = questions[: policy.evaluation_examples]
    return tuple(_bounded(each, policy.answer_slack, context) for each in drawn)


def _bounded(question: Question, slack: int, context: int) -> Question:
    wanted = len(question.ids) - question.answer_start + slack
    return replace(question, max_tokens=max(1, min(wanted, context - question.answer_start)))
