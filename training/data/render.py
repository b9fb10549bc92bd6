"""A conversation as the rows of tokens the model reads, and which of them it is taught to say.

Each answer is learnt behind the very prompt that is served for it. Most templates render earlier
turns as they were said, so that one row teaches all answers of a conversation. Where a template
renders them otherwise later (Qwen3 drops thoughts, gpt-oss ends them with another token), the
conversation becomes one row for each answer. Nothing is ever cut: an example that is too long is
the caller's to refuse.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Protocol

from adapters.errors import InvalidRequest
from training.base.chat_format import Answered, Chat, ChatFormat, TemplateError, load_chat
from training.data.examples import Example, Message


@dataclass(frozen=True, kw_only=True)
class Rendered:
    """Token ids of a conversation; `learn` is true where a token carries loss."""

    ids: tuple[int, ...]
    learn: tuple[bool, ...]
    weight: float = 1.0
    """By which the loss of its tokens is multiplied in training."""

    def __len__(self) -> int:
        return len(self.ids)


class Renderer(Protocol):
    """Turns conversations into the tokens of one base model."""

    def rows(self, example: Example) -> tuple[Rendered, ...]:
        """See `render`. Raises TemplateError; InvalidRequest where the base has no template."""
        ...

    def prompt(self, messages: Sequence[Message], tools: Sequence[Chat] = ()) -> list[int]:
        """See `prompt_ids`. Raises as `rows` does."""
        ...


class ChatRenderer:
    """`Renderer` by the chat template and the tokenizer in a base model's folder."""

    def __init__(self, base: Path) -> None:
        self._base = base

    def text(self, ids: Sequence[int]) -> str:
        """What tokens say. Raises InvalidRequest where the base has no template."""
        return str(self._chat.tokenizer.decode(list(ids)))

    @cached_property
    def _chat(self) -> ChatFormat:
        try:
            return load_chat(self._base)
        except TemplateError as error:
            raise InvalidRequest(str(error), code="chat_template") from error

    def rows(self, example: Example) -> tuple[Rendered, ...]:
        """See `Renderer.rows`."""
        return render(self._chat, example)

    def prompt(self, messages: Sequence[Message], tools: Sequence[Chat] = ()) -> list[int]:
        """See `Renderer.prompt`."""
        return prompt_ids(self._chat, messages, tools)


def render(chat: ChatFormat, example: Example) -> tuple[Rendered, ...]:
    """Rows that teach all answers of `example` but those with `learn=False`, each of them once.

    Raises TemplateError.
    """
    turns = [message.as_chat() for message in example.messages]
    answers = [
        chat.answered(turns[: at + 1], example.tools)
        for at, message in enumerate(example.messages)
        if message.role == "assistant" and message.learn
    ]
    if not answers:
        raise TemplateError("nothing of this example is to be learnt")
    rows: list[list[Answered]] = []
    for answer in answers:
        if rows and _goes_on(rows[-1][-1], answer):
            rows[-1].append(answer)
        else:
            rows.append([answer])
    return tuple(_row(row) for row in rows)


def prompt_ids(
    chat: ChatFormat, messages: Sequence[Message], tools: Sequence[Chat] = ()
) -> list[int]:
    """The tokens a server sends to the model for `messages`, up to where the answer begins."""
    return chat.prompt_ids([message.as_chat() for message in messages], tools)


def _goes_on(earlier: Answered, later: Answered) -> bool:
    return later.ids[: len(earlier.ids)] == earlier.ids


def _row(answers: Sequence[Answered]) -> Rendered:
    ids = answers[-1].ids
    learn = [False] * len(ids)
    for answer in answers:
        learn[answer.start : len(answer.ids)] = [True] * (len(answer.ids) - answer.start)
    return Rendered(ids=ids, learn=tuple(learn))
