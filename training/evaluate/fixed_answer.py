"""What one and the same answer would score on every example.

A version that was taught nothing but a unit's manner (shuffled answers teach no more) beats a base
that does not know the manner, and does not beat this.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from math import fsum

from adapters.domain.evaluations import Scorer
from adapters.domain.gates import GatePolicy
from training.data.questions import Question
from training.evaluate.scorers import Score, label, labels_of
from training.evaluate.scores import exact_match

TRIED = 8
"""References that are tried, the most frequent first."""


def fixed_scorer(
    policy: GatePolicy, scorers: Mapping[Scorer, Score], questions: Sequence[Question]
) -> dict[Scorer, Score]:
    """A scorer whose score no answer changes; none where the policy does not ask for it."""
    if policy.min_skill is None:
        return {}
    if policy.scorer == "label_f1":
        labels, fixed = labels_of(questions), FixedAnswer(questions, exact_match)
        return {Scorer.FIXED: lambda _answer, reference: label(fixed.beside(reference), labels)}
    score = scorers[Scorer(policy.scorer)]
    fixed = FixedAnswer(questions, score)
    return {Scorer.FIXED: lambda _answer, reference: score(fixed.beside(reference), reference)}


class FixedAnswer:
    """The reference that scores best as the answer to all questions."""

    def __init__(self, questions: Sequence[Question], score: Score) -> None:
        self._frequent = Counter(each.reference for each in questions)
        tried = [text for text, _ in self._frequent.most_common(TRIED)]

        def worth(text: str) -> float:
            return fsum(score(text, other) * count for other, count in self._frequent.items())

        self._best, *others = sorted(tried, key=worth, reverse=True) or [""]
        self._second = others[0] if others else ""

    def beside(self, reference: str) -> str:
        """The answer; the second best where it is this very question's own and no other's."""
        own = reference == self._best and self._frequent[reference] == 1
        return self._second if own else self._best
