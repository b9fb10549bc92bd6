"""What a version is measured by: which questions of the test part, and under which conditions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from adapters.domain.datasets import Part
from adapters.domain.evaluations import BASE, NewEvaluation, Scorer
from adapters.domain.names import Digest, Unit, VersionId
from training.data.questions import Question

SEED = 0
"""Of the engine's sampler; answers are greedy."""
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


def bounded(questions: Sequence[Question], *, slack: int, context: int) -> tuple[Question, ...]:
    """The same questions; an answer may be `slack` tokens longer than its reference.

    What goes on is wrong already, and a base's chatter need not be heard out.
    """
    return tuple(_bounded(each, slack, context) for each in questions)


def _bounded(question: Question, slack: int, context: int) -> Question:
    wanted = len(question.ids) - question.answer_start + slack
    return replace(question, max_tokens=max(1, min(wanted, context - question.answer_start)))
