"""A conversation as the tokens the model reads, and which of them it is taught to say.

Where the chat template marks the assistant's words (`{% generation %}`), the marks decide. Any
other template is rendered turn by turn: what an assistant turn adds to the text before it is what
the model must learn. A template that rewrites earlier turns can be read neither way and is refused.
Nothing is ever cut: an example that is too long is the caller's to refuse.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING, Any

import jinja2

from training.data.examples import Example, Message

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


class TemplateError(ValueError):
    """The base model's chat template refuses a conversation, or cannot tell its answers apart."""


@dataclass(frozen=True, kw_only=True)
class Rendered:
    """Token ids of a whole conversation; `learn` is true where a token carries loss."""

    ids: tuple[int, ...]
    learn: tuple[bool, ...]

    def __len__(self) -> int:
        return len(self.ids)


def load_tokenizer(base: Path) -> PreTrainedTokenizerBase:
    """The tokenizer of a base model directory; without a chat template it is of no use here."""
    from transformers import AutoTokenizer

    tokenizer: PreTrainedTokenizerBase = AutoTokenizer.from_pretrained(base, local_files_only=True)
    if not tokenizer.chat_template:
        raise TemplateError("the base model's tokenizer has no chat template")
    return tokenizer


def render(tokenizer: PreTrainedTokenizerBase, example: Example) -> Rendered:
    """Tokens and loss mask of `example`; turns with `learn=False` carry no loss."""
    if "{% generation" in _template(tokenizer).replace("{%-", "{%"):
        ids, mask = _marked(tokenizer, example.messages)
    else:
        ids, mask = _turn_by_turn(tokenizer, example.messages)
    learn = _only_wanted(mask, example.messages)
    _teach_to_stop(ids, learn, tokenizer.eos_token_id)
    if not any(learn):
        raise TemplateError("the chat template leaves nothing of this example to learn")
    return Rendered(ids=tuple(ids), learn=tuple(learn))


def prompt_ids(tokenizer: PreTrainedTokenizerBase, messages: Sequence[Message]) -> list[int]:
    """The tokens a server sends to the model for `messages`, up to where the answer begins."""
    out = _apply(tokenizer, messages, tokenize=True, add_generation_prompt=True, return_dict=True)
    return list(out["input_ids"])


def _apply(tokenizer: PreTrainedTokenizerBase, messages: Sequence[Message], **how: Any) -> Any:
    try:
        return tokenizer.apply_chat_template([message.as_chat() for message in messages], **how)
    except jinja2.TemplateError:
        # its own words may repeat what the conversation says
        raise TemplateError(
            "the base model's chat template refuses this conversation; many want user and "
            "assistant turns in strict alternation, some allow no system message"
        ) from None


def _template(tokenizer: PreTrainedTokenizerBase) -> str:
    template: Any = tokenizer.chat_template
    return str(template.get("default", "")) if isinstance(template, dict) else str(template)


def _marked(
    tokenizer: PreTrainedTokenizerBase, messages: Sequence[Message]
) -> tuple[list[int], list[int]]:
    """Ids, and for each the number of its assistant turn (from 1) or 0, from the marks."""
    out = _apply(
        tokenizer, messages, tokenize=True, return_dict=True, return_assistant_tokens_mask=True
    )
    mask, turn = [], 0
    for said, run in groupby(out["assistant_masks"]):
        turn += bool(said)
        mask += [turn if said else 0 for _ in run]
    if turn != sum(message.role == "assistant" for message in messages):
        return _turn_by_turn(tokenizer, messages)  # two turns side by side, or an empty one
    return list(out["input_ids"]), mask


def _turn_by_turn(
    tokenizer: PreTrainedTokenizerBase, messages: Sequence[Message]
) -> tuple[list[int], list[int]]:
    """The same without marks: an assistant turn is what it adds to the prompt before it."""
    whole = _text(tokenizer, messages)
    encoded = tokenizer(whole, add_special_tokens=False, return_offsets_mapping=True)
    mask, turn = [0] * len(encoded["input_ids"]), 0
    for i, message in enumerate(messages):
        if message.role != "assistant":
            continue
        turn += 1
        before = _text(tokenizer, messages[:i], add_generation_prompt=True)
        after = _text(tokenizer, messages[: i + 1]).rstrip()
        if not (after.startswith(before) and whole.startswith(after)):
            raise TemplateError(
                "the base model's chat template has no generation markers and renders earlier "
                "turns differently once later ones follow: the assistant's words cannot be found"
            )
        for at, (start, end) in enumerate(encoded["offset_mapping"]):
            if len(before) <= start and end <= len(after) and start < end:
                mask[at] = turn
    return list(encoded["input_ids"]), mask


def _text(
    tokenizer: PreTrainedTokenizerBase,
    messages: Sequence[Message],
    *,
    add_generation_prompt: bool = False,
) -> str:
    return str(
        _apply(tokenizer, messages, tokenize=False, add_generation_prompt=add_generation_prompt)
    )


def _only_wanted(mask: Sequence[int], messages: Sequence[Message]) -> list[bool]:
    wanted = [False, *(message.learn for message in messages if message.role == "assistant")]
    return [wanted[turn] for turn in mask]


def _teach_to_stop(ids: Sequence[int], learn: list[bool], end: int | None) -> None:
    """Some templates leave the end token outside the marks; an answer must learn to end."""
    for at in range(1, len(ids)):
        if ids[at] == end and learn[at - 1]:
            learn[at] = True
