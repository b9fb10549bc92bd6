"""Measures models on an exam and keeps the scores; what is known of a row is not asked again."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from adapters.domain.evaluations import Evaluation, NewEvaluation, Scorer, comparable, merged
from adapters.domain.names import JobId, VersionId
from adapters.registry.ports import Evaluations
from training.data.questions import Question
from training.evaluate.answers import Answer, Answers
from training.evaluate.exam import Asked, Exam, Subject
from training.evaluate.scorers import ALWAYS, Score

MOST = 1e4
"""Nats: what is kept where a model gives a token no probability, or none that is a number."""
NEWEST = VersionId(2**31 - 1)
"""No version comes after it."""

OwnLogProbs = Callable[[Sequence[Question]], list[list[float]]]
"""As `Answers.log_probs`, by the trainer's own forward pass over what was published."""


@dataclass(frozen=True, kw_only=True)
class Writer:
    """Who measures: a job under its fence, or nobody's job."""

    job_id: JobId | None = None
    fence: int | None = None


@dataclass(frozen=True, kw_only=True)
class Ends:
    """How it is found out whether answers that were cut would end."""

    tokens: int
    """Within which an answer must end, or within twice what its reference needs."""
    examples: int
    """Answers that are asked again."""


class Measurer:
    """Asks, scores and keeps, for one exam."""

    def __init__(
        self,
        exam: Exam,
        *,
        answers: Answers,
        evaluations: Evaluations,
        writer: Writer,
        scorers: Mapping[Scorer, Score] = ALWAYS,
    ) -> None:
        self.exam, self.answers = exam, answers
        self._evaluations, self._writer = evaluations, writer
        self._scorers = scorers

    def known(self, *subjects: Subject, since: VersionId = NEWEST) -> Sequence[Evaluation]:
        """What is kept of the subjects, and of every version that was tried after `since`."""
        exam = self.exam
        names = {subject.name for subject in subjects}
        return self._evaluations.relevant(exam.unit, exam.adapter, subjects=names, since=since)

    def answers_of(
        self,
        subject: Subject,
        *,
        anew: bool = False,
        ends: Ends | None = None,
        more: Mapping[Scorer, Score] | None = None,
    ) -> None:
        """Scores of greedy answers, by `more` scorers too. Raises what `Answers` raises, LeaseLost.

        With `ends`, answers that were cut are asked again, longer.
        """
        scorers = {**self._scorers, **(more or {})}
        wanted = [*scorers, *([Scorer.ENDED] if ends else [])]
        questions = self._unknown(subject, wanted, self.exam.questions, anew=anew)
        if not questions:
            return
        said = self.answers.ask(subject.model, questions)
        scores = {
            scorer: {
                question.row: score(answer.text, question.reference)
                for question, answer in zip(questions, said, strict=True)
            }
            for scorer, score in scorers.items()
        }
        if ends is not None:
            scores[Scorer.ENDED] = self._ended(subject, questions, said, ends)
        self._keep(self.exam.evaluation(subject, each, rows) for each, rows in scores.items())

    def _ended(
        self, subject: Subject, questions: Sequence[Question], said: Sequence[Answer], ends: Ends
    ) -> dict[str, float]:
        """Row → whether the answer ends; of a cut one that is not asked again, how probably."""
        cut = [each for each, answer in zip(questions, said, strict=True) if answer.cut]
        longer = [
            replace(each, max_tokens=self.exam.room(each, max(ends.tokens, 2 * each.max_tokens)))
            for each in cut[: ends.examples]
        ]
        again = self.answers.ask(subject.model, longer) if longer else []
        ended = [float(not answer.cut) for answer in again]
        probably = math.fsum(ended) / len(ended) if ended else 1.0
        rows = {each.row: 1.0 for each in questions}
        rows |= {each.row: probably for each in cut}
        return rows | {each.row: one for each, one in zip(longer, ended, strict=True)}

    def suite_of(
        self,
        subject: Subject,
        suite: Asked,
        measure: Callable[[Sequence[Question]], Mapping[Scorer, Mapping[str, float]]],
        *,
        scorers: Sequence[Scorer],
        anew: bool = False,
    ) -> None:
        """What `measure` gives for the questions of a suite that have no score by `scorers` yet."""
        questions = self._unknown(subject, scorers, suite.questions, anew=anew, suite=suite)
        measured = measure(questions) if questions else {}
        if questions or not suite.questions:
            self.keep_suite(subject, suite, {each: measured.get(each, {}) for each in scorers})

    def keep_suite(
        self, subject: Subject, suite: Asked, measured: Mapping[Scorer, Mapping[str, float]]
    ) -> None:
        """Keeps it as it is; nothing measured is kept too, and says that there was nothing."""
        self._keep(
            self.exam.evaluation(subject, scorer, scores, suite=suite)
            for scorer, scores in measured.items()
        )

    def nothing_of(self, subject: Subject, scorer: Scorer) -> None:
        """Keeps that there was nothing on the test part that this scorer could look for."""
        self._keep([self.exam.evaluation(subject, scorer, {})])

    def log_probs_of(self, subject: Subject) -> None:
        """Log-probabilities of the references. Raises as `answers_of`."""
        questions = self._unknown(subject, [Scorer.NATS], self.exam.scored)
        if questions:
            given = self.answers.log_probs(subject.model, questions)
            self._keep([self.exam.evaluation(subject, Scorer.NATS, nats_of(questions, given))])

    def fidelity_of(self, subject: Subject, own: OwnLogProbs, *, anew: bool = False) -> None:
        """Log-probabilities in the service beside the trainer's own. Raises as `answers_of`."""
        questions = self.exam.scored
        if not anew and not self._unknown(subject, [Scorer.DRIFT], questions) and questions:
            return
        given = self.answers.log_probs(subject.model, questions) if questions else []
        expected = own(questions) if questions else []
        tokens = {
            question.row: float(len(row)) for question, row in zip(questions, given, strict=True)
        }
        self._keep(
            self.exam.evaluation(subject, scorer, scores)
            for scorer, scores in (
                (Scorer.NATS, nats_of(questions, given)),
                (Scorer.TOKENS, tokens),
                (Scorer.DRIFT, _drift(questions, given, expected)),
            )
        )

    def _unknown(
        self,
        subject: Subject,
        scorers: Iterable[Scorer],
        questions: Sequence[Question],
        *,
        anew: bool = False,
        suite: Asked | None = None,
    ) -> list[Question]:
        """Questions whose rows lack a score under these conditions."""
        if anew:
            return list(questions)
        known = [each for each in self.known(subject) if each.subject == subject.name]
        unknown = set[str]()
        for scorer in scorers:
            wanted = self.exam.evaluation(subject, scorer, {}, suite=suite)
            rows = merged(each for each in known if comparable(each, wanted))
            unknown |= {question.row for question in questions} - rows.keys()
        return [question for question in questions if question.row in unknown]

    def _keep(self, new: Iterable[NewEvaluation]) -> None:
        self._evaluations.add(list(new), job_id=self._writer.job_id, fence=self._writer.fence)


def nats_of(questions: Sequence[Question], given: Sequence[Sequence[float]]) -> dict[str, float]:
    """Row → negative log-probability of the whole reference."""
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
