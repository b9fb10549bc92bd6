"""By what the best checkpoint is chosen: decided from the rows alone."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import median

from training.data.preferences import Row
from training.data.render import Rendered
from training.finetune.port import ChosenBy

SHORT = 8
"""Learnt tokens of an answer up to which it may be a label, the end token included."""
KNOWN = 0.8
"""Share of validation answers that stand among the training answers: labels are a closed set."""


def choose_by(train: Sequence[Row], validation: Sequence[Row]) -> ChosenBy:
    """Whole answers where they are short labels, the loss of free text and of preferences.

    Of free text no answer is ever right to the last token, so that counting them tells nothing.
    """
    answers = [_learnt(row) for row in validation if isinstance(row, Rendered)]
    if not answers or median(map(len, answers)) > SHORT:
        return ChosenBy.LOSS
    taught = {_learnt(row) for row in train if isinstance(row, Rendered)}
    known = sum(answer in taught for answer in answers) / len(answers)
    return ChosenBy.ANSWERS if known >= KNOWN else ChosenBy.LOSS


def _learnt(row: Rendered) -> tuple[int, ...]:
    return tuple(token for token, learn in zip(row.ids, row.learn, strict=True) if learn)
