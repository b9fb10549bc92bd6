"""Measures models on an exam and keeps the scores; what is known of a row is not asked again."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from adapters.domain.evaluations import Evaluation, NewEvaluation, Scorer, comparable, merged
from adapters.domain.names import JobId, VersionId
from adapters.registry.ports import Evaluations
from training.data.questions import Question
from training.evaluate.answers import Answers
from training.evaluate.exam import Exam, Subject
from training.evaluate.scores import exact_match, token_f1

MOST = 1e4
"""Nats: what is kept where a model gives a token no probability, or none that is a number."""
NEWEST = VersionId(2**31 - 1)
"""No version comes after it."""
_ANSWER_SCORES = {Scorer.EXACT_MATCH: exact_match, Scorer.TOKEN_F1: token_f1}

OwnLogProbs = Callable[[Sequence[Question]], list[list[float]]]
"""As `Answers.log_probs`, by the trainer's own forward pass over what was published."""


@dataclass(frozen=True, kw_only=True)
class Writer:
    """Who measures: a job under its fence, or nobody's job."""

    job_id: JobId | None = None
    fence: int | None = None


class Measurer:
    """Asks, scores and keeps, for one exam."""

    def __init__(
        self, exam: Exam, *, answers: Answers, evaluations: Evaluations, writer: Writer
    ) -> None:
        self._exam, self._answers = exam, answers
        self._evaluations, self._writer = evaluations, writer

    def known(self, *subjects: Subject, since: VersionId = NEWEST) -> Sequence[Evaluation]:
        """What is kept of the subjects, and of every version that was tried after `since`."""
        exam = self._exam
        names = {subject.name for subject in subjects}
        return self._evaluations.relevant(exam.unit, exam.adapter, subjects=names, since=since)

    def answers_of(self, subject: Subject, *, anew: bool = False) -> None:
        """Scores of greedy answers. Raises what `Answers` raises, and LeaseLost."""
        questions = self._unknown(subject, Scorer.TOKEN_F1, self._exam.questions, anew=anew)
        if not questions:
            return
        said = self._answers.ask(subject.model, questions)
        self._keep(
            self._exam.evaluation(
                subject,
                scorer,
                {
                    question.row: score(answer.text, question.reference)
                    for question, answer in zip(questions, said, strict=True)
                },
            )
            for scorer, score in _ANSWER_SCORES.items()
        )

    def log_probs_of(self, subject: Subject) -> None:
        """Log-probabilities of the references. Raises as `answers_of`."""
        questions = self._unknown(subject, Scorer.NATS, self._exam.scored)
        if questions:
            given = self._answers.log_probs(subject.model, questions)
            self._keep([self._exam.evaluation(subject, Scorer.NATS, _nats(questions, given))])

    def fidelity_of(self, subject: Subject, own: OwnLogProbs, *, anew: bool = False) -> None:
        """Log-probabilities in the service beside the trainer's own. Raises as `answers_of`."""
        questions = self._exam.scored
        if not anew and not self._unknown(subject, Scorer.DRIFT, questions) and questions:
            return
        given = self._answers.log_probs(subject.model, questions) if questions else []
        expected = own(questions) if questions else []
        tokens = {
            question.row: float(len(row)) for question, row in zip(questions, given, strict=True)
        }
        self._keep(
            self._exam.evaluation(subject, scorer, scores)
            for scorer, scores in (
                (Scorer.NATS, _nats(questions, given)),
                (Scorer.TOKENS, tokens),
                (Scorer.DRIFT, _drift(questions, given, expected)),
            )
        )

    def _unknown(
        self, subject: Subject, scorer: Scorer, questions: Sequence[Question], *, anew: bool = False
    ) -> list[Question]:
        """Questions whose rows have no score under these conditions."""
        if anew:
            return list(questions)
        wanted = self._exam.evaluation(subject, scorer, {})
        rows = merged(
            each
            for each in self.known(subject)
            if each.subject == subject.name and comparable(each, wanted)
        )
        return [question for question in questions if question.row not in rows]

    def _keep(self, new: Iterable[NewEvaluation]) -> None:
        self._evaluations.add(list(new), job_id=self._writer.job_id, fence=self._writer.fence)


def _nats(questions: Sequence[Question], given: Sequence[Sequence[float]]) -> dict[str, float]:
    return {
        question.row: _kept(-math.fsum(row)) for question, row in zip(questions, given, strict=True)
    }


def _drift(
    questions: Sequence[Question],
    given: Sequence[Sequence[float]],
    expected: Sequence[Sequence[float]],
) -> dict[str, float]:
    return {
        question.row: _distance(served, own)
        for question, served, own in zip(questions, given, expected, strict=True)
    }


def _distance(served: Sequence[float], own: Sequence[float]) -> float:
    """Mean distance a token."""
    apart = [abs(one - other) for one, other in zip(served, own, strict=True)]
    return _kept(math.fsum(apart) / len(apart))


def _kept(nats: float) -> float:
    return min(nats, MOST) if math.isfinite(nats) else MOST
