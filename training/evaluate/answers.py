"""The seam between a run and whoever answers its held-out questions."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from training.data.questions import Question


@dataclass(frozen=True, kw_only=True)
class Answer:
    """What was said; `cut` when `max_tokens` ended it and not the model."""

    text: str
    cut: bool = False


class Answers(Protocol):
    """Greedy answers of a model by its name: the service, or its stand-in in tests."""

    def ask(self, model: str, questions: Sequence[Question]) -> list[Answer]:
        """One answer for each question, in order.

        Raises Rejected when this one model cannot be served while others can, and Unavailable
        when nothing could be had within the patience.
        """
        ...
