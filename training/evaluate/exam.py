"""What a version is measured by: which questions of the test part, and under which conditions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from adapters.domain.datasets import Part
from adapters.domain.evaluations import BASE, NewEvaluation, Scorer, Suite
from adapters.domain.names import Digest, Unit, VersionId
from adapters.hashing import sha256_bytes
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
class Asked:
    """Questions of a suite, under the name and the digest of what they were made from."""

    name: Suite
    questions: tuple[Question, ...]

    @property
    def digest(self) -> str:
        """Of the row ids, which are made from what is asked."""
        return sha256_bytes("\n".join(each.row for each in self.questions).encode())


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
        return tuple(each for each in self.questions if len(each.ids) <= self.longest)

    @property
    def longest(self) -> int:
        """Tokens of a prompt and its reference that can be scored."""
        return min(MAX_SCORED, self.context - 1)

    def room(self, question: Question, tokens: int) -> int:
        """So many tokens, or as many as the context leaves to an answer."""
        return max(1, min(tokens, self.context - question.answer_start))

    def evaluation(
        self,
        subject: Subject,
        scorer: Scorer,
        scores: Mapping[str, float],
        *,
        suite: Asked | None = None,
    ) -> NewEvaluation:
        """What is to be kept of a measurement: of the test part, or of a suite."""
        return NewEvaluation(
            unit=self.unit,
            adapter=self.adapter,
            subject=subject.name,
            version_id=subject.version_id,
            base_fingerprint=self.base_fingerprint,
            dataset=self.dataset if suite is None else suite.digest,
            part=Part.TEST if suite is None else suite.name,
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
