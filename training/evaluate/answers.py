"""The seam between a run and whoever is asked the test part's questions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from training.data.questions import Question


@dataclass(frozen=True, kw_only=True)
class Answer:
    """What was said; `cut` when `max_tokens` ended it and not the model."""

    text: str
    cut: bool = False


class Answers(Protocol):
    """What a model says, by its name: the service, or its stand-in in tests.

    All methods raise Rejected when this one model cannot be served while others can, and
    Unavailable when nothing could be had within the patience.
    """

    def ask(self, model: str, questions: Sequence[Question]) -> list[Answer]:
        """One greedy answer for each question, in order."""
        ...

    def log_probs(self, model: str, questions: Sequence[Question]) -> list[list[float]]:
        """For each question, the log-probability (nats) of each token of its reference.

        Teacher-forced: each token behind the prompt and the reference's tokens before it.
        """
        ...

    def top_log_probs(
        self, model: str, questions: Sequence[Question], top: int
    ) -> list[list[Mapping[int, float]]]:
        """For each question and each token of its reference, the likeliest `top` tokens there.

        Token → log-probability (nats); the reference's own token is always among them.
        """
        ...
