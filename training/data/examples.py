"""The training example: a frozen value, the same from the file's line to the trainer's tokens."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, kw_only=True)
class Message:
    """One turn. `learn` says whether an assistant turn's tokens carry loss (OpenAI's `weight`)."""

    role: str
    content: str
    learn: bool = True

    def as_chat(self) -> dict[str, Any]:
        """What a chat template and the chat API take."""
        return {"role": self.role, "content": self.content}


@dataclass(frozen=True, kw_only=True)
class Example:
    """One conversation that ends with the assistant's answer."""

    messages: tuple[Message, ...]

    @property
    def prompt(self) -> tuple[Message, ...]:
        """Everything before the final answer."""
        return self.messages[:-1]

    @property
    def answer(self) -> str:
        """The final assistant turn, which greedy decoding should reproduce."""
        return self.messages[-1].content
