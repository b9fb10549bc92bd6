"""What the engine can do for a request, as far as the gateway has to know before it asks."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, field

import pydantic_core


class ControlTokens:
    """A base's control tokens, to be found in what callers say.

    The engine makes one text of a chat and then tokens of the whole, so that a control token typed
    by a user is read as the real one: it ends the user's turn and begins another's. vLLM has no
    switch that tells the two apart, and a text with something put into the token would be another
    text. So such a chat is refused, as such a row is in training (`training.base.chat_format`).
    """

    def __init__(self, tokens: Iterable[str] = ()) -> None:
        words = {pydantic_core.to_json(token)[1:-1] for token in tokens if token.strip()}
        self._starts = tuple({word[:1] for word in words})
        ordered = sorted(words, key=lambda word: (-len(word), word))
        self._any = re.compile(b"|".join(map(re.escape, ordered)) or b"(?!)")

    def stand_in(self, value: object) -> bool:
        """Whether one of them stands in a text of `value`, which is plain JSON."""
        said = pydantic_core.to_json(value)
        # most chats hold none of their first letters: a look for those takes next to no time
        return any(start in said for start in self._starts) and bool(self._any.search(said))


@dataclass(frozen=True, kw_only=True)
class Abilities:
    """One engine's, the same for its whole life."""

    context: int
    """Tokens of prompt and answer together."""
    tools: bool
    """Whether tool calls are read from the base's answers."""
    vocabulary: int = 2**31
    """Tokens that the model has, numbered from 0; what is not known is the engine's to check."""
    control_tokens: ControlTokens = field(default_factory=ControlTokens)
