"""What the best checkpoint is chosen by, and which one that is."""

from __future__ import annotations

from tests.training.job.stage import DEVICE
from training.data.render import Rendered
from training.finetune.checkpoint_choice import SHORT, choose_by
from training.finetune.port import ChosenBy, Measures
from training.finetune.run_state import RunState, state_from_json


def row(prompt: int, answer: tuple[int, ...]) -> Rendered:
    ids = (prompt, prompt + 1, *answer)
    return Rendered(ids=ids, learn=(False, False) + (True,) * len(answer))


LABELS = [(7, 2), (8, 9, 2), (5, 2)]


def labelled(count: int, *, start: int = 0) -> list[Rendered]:
    return [row(at, LABELS[at % len(LABELS)]) for at in range(start, start + count)]


def test_short_labels_are_counted_whole() -> None:
    assert choose_by(labelled(30), labelled(9, start=100)) is ChosenBy.ANSWERS


def test_long_answers_are_judged_by_their_loss_even_if_they_repeat() -> None:
    long = [row(at, tuple(range(SHORT + 1))) for at in range(20)]
    assert choose_by(long, long) is ChosenBy.LOSS


def test_short_answers_that_are_all_different_are_free_text() -> None:
    train, validation = (
        [row(at, (at + 1000, at + 2000, 2)) for at in range(start, start + 20)]
        for start in (0, 500)
    )
    assert choose_by(train, validation) is ChosenBy.LOSS


def test_few_validation_rows_of_many_labels_are_labels_all_the_same() -> None:
    many = [row(at, (at % 40, 2)) for at in range(400)]
    assert choose_by(many, many[:12]) is ChosenBy.ANSWERS


def measured(step: int, loss: float, answers: float) -> Measures:
    return Measures(
        step=step,
        total_steps=30,
        train_loss=None,
        train_accuracy=None,
        valid_loss=loss,
        valid_accuracy=answers,
        valid_answers=answers,
    )


def run(chosen_by: ChosenBy) -> RunState:
    """Whose loss rises with over-confidence while answers still get better."""
    state = RunState(plan=DEVICE, chosen_by=chosen_by)
    for each in (
        measured(0, 0.1, 0.95),
        measured(10, 1.0, 0.5),
        measured(20, 2.0, 0.9),
        measured(30, 1.9, 0.9),
    ):
        state = state.judged(each)
    return state


def test_the_adapter_before_training_is_never_the_best() -> None:
    assert run(ChosenBy.LOSS).best_step == 10
    assert run(ChosenBy.LOSS).unimproved == 2


def test_between_equal_answers_the_loss_decides() -> None:
    assert run(ChosenBy.ANSWERS).best_step == 30
    assert run(ChosenBy.ANSWERS).unimproved == 0


def test_a_state_survives_as_json() -> None:
    import json

    state = run(ChosenBy.ANSWERS)
    assert state_from_json(json.loads(json.dumps(state.as_json()))) == state
