"""Questions of the test part: what a model is asked, and what it should have said."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from training.data.examples import Message


@dataclass(frozen=True, kw_only=True)
class Question:
    """One prompt of the test part, the answer hoped for, and how long an answer may get."""

    row: str
    """Id of the example, the same in every dataset that holds it."""
    prompt: tuple[Message, ...]
    reference: str
    max_tokens: int
    ids: tuple[int, ...]
    """Tokens of the prompt as it is served and of the reference behind it, its end included."""
    answer_start: int
    """Where in `ids` the reference begins."""
    tools: tuple[Mapping[str, Any], ...] = ()
    """What the model may call."""
