"""How long answers may be, and which references are scored."""

from __future__ import annotations

from adapters.domain.names import Digest, Unit
from training.data.examples import Message
from training.data.questions import Question
from training.evaluate.exam import MAX_SCORED, Exam, bounded


def question(row: str, *, prompt: int = 10, reference: int = 3) -> Question:
    return Question(
        row=row,
        prompt=(Message(role="user", content="?"),),
        reference="!",
        max_tokens=999,
        ids=tuple(range(prompt + reference)),
        answer_start=prompt,
    )


def test_an_answer_may_be_a_little_longer_than_its_reference_and_no_longer_than_the_context() -> (
    None
):
    (short,) = bounded([question("a", reference=3)], slack=4, context=256)
    (long,) = bounded([question("a", prompt=250, reference=3)], slack=4, context=256)
    assert (short.max_tokens, long.max_tokens) == (7, 6)


def test_what_the_service_cannot_score_at_once_is_answered_and_not_scored() -> None:
    def scored(*questions: Question, context: int) -> int:
        exam = Exam(
            unit=Unit("support"),
            adapter="support",
            base_fingerprint=Digest("b" * 64),
            dataset="d",
            questions=questions,
            conditions={},
            context=context,
        )
        return len(exam.scored)

    assert scored(question("a", prompt=MAX_SCORED - 3), context=9999) == 1
    assert scored(question("a", prompt=MAX_SCORED - 2), context=9999) == 0
    assert scored(question("a", prompt=13, reference=3), context=16) == 0
