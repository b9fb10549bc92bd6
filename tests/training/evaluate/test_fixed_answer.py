"""What one and the same answer would score."""

from __future__ import annotations

from collections.abc import Sequence

from adapters.domain.evaluations import Scorer
from adapters.domain.gates import GatePolicy
from training.data.questions import Question
from training.evaluate.fixed_answer import FixedAnswer, fixed_scorer
from training.evaluate.scorers import ALWAYS
from training.evaluate.scores import exact_match, token_f1


def questions(references: Sequence[str]) -> list[Question]:
    return [
        Question(row=str(at), prompt=(), reference=each, max_tokens=8, ids=(1, 2), answer_start=1)
        for at, each in enumerate(references)
    ]


def test_it_is_the_most_frequent_label() -> None:
    asked = questions(["to billing", "to repair", "to billing"])
    score = fixed_scorer(GatePolicy(scorer="exact_match"), ALWAYS, asked)[Scorer.FIXED]
    assert [score("whatever is said", each.reference) for each in asked] == [1.0, 0.0, 1.0]


def test_of_free_text_it_is_what_is_most_like_the_others() -> None:
    fixed = FixedAnswer(questions(["a b c d", "b c", "x y", "b c e"]), token_f1)
    assert fixed.beside("x y") == "b c"


def test_an_answer_that_one_question_alone_wants_is_not_counted_for_it() -> None:
    asked = questions(["b c", "b c e", "b c d"])
    fixed = FixedAnswer(asked, token_f1)
    assert all(fixed.beside(each.reference) != each.reference for each in asked[:1])
    assert fixed.beside("b c d") == "b c"


def test_where_all_want_the_same_it_is_that() -> None:
    assert FixedAnswer(questions(["yes", "yes"]), exact_match).beside("yes") == "yes"


def test_by_labels_it_is_a_labels_number() -> None:
    asked = questions(["b", "a", "b"])
    score = fixed_scorer(GatePolicy(scorer="label_f1"), ALWAYS, asked)[Scorer.FIXED]
    assert score("a", "a") == 1.0, "the second of the sorted labels"


def test_a_unit_that_asks_for_no_skill_measures_none() -> None:
    assert fixed_scorer(GatePolicy(min_skill=None), ALWAYS, questions(["a"])) == {}
