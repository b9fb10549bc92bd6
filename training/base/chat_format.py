"""How a base model is talked to: what a server sends to it, and what it must learn to say then.

The server renders a prompt with the base's own chat template. An answer is whatever the template
puts behind that prompt, up to the first token that ends an answer: so a row always begins with the
very tokens that are served, and its last learnt token always stops the engine. Known templates are
rendered in the training form that TRL ships for them, others as they are; a form is used only where
it gives the served prompt and the answer's words back. Everything else is refused, with the reason.

vLLM's way of rendering: vllm/renderers/hf.py (`add_generation_prompt`, no special tokens added,
content as a list of parts where the template walks over one).
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import jinja2

from training.base.chat_template import thinking_options, training_form, walks_over_content

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

Chat = Mapping[str, Any]
"""One message as a chat template takes it."""

THOUGHT_END = "</think>"
UNSEEN_OPENINGS = ("<|channel|>final<|message|>",)
"""What answers may begin with beside control tokens: a server takes it off (OpenAI's harmony)."""


class TemplateError(ValueError):
    """The base model's chat template refuses a conversation, or cannot tell its answers apart."""


@dataclass(frozen=True, kw_only=True)
class Answered:
    """Tokens of a conversation up to the end of its last answer, which begins at `start`."""

    ids: tuple[int, ...]
    start: int


def thinking_wanted() -> bool:
    """`$WARDROBE_THINKING`, for those who need nothing else of the settings."""
    return os.environ.get("WARDROBE_THINKING", "off").lower() in ("on", "true", "1")


def load_chat(base: Path, *, thinking: bool | None = None) -> ChatFormat:
    """Reads a base model's folder. Raises TemplateError where it has no chat template."""
    from transformers import AutoTokenizer

    tokenizer: PreTrainedTokenizerBase = AutoTokenizer.from_pretrained(base, local_files_only=True)
    return chat_format(tokenizer, ends=_configured_ends(base), thinking=thinking)


def chat_format(
    tokenizer: PreTrainedTokenizerBase,
    *,
    ends: Sequence[int] = (),
    thinking: bool | None = None,
) -> ChatFormat:
    """How to talk to the model of `tokenizer`; `ends` are end tokens beside the tokenizer's own.

    Raises TemplateError.
    """
    if not tokenizer.chat_template:
        raise TemplateError("the base model's tokenizer has no chat template")
    template = _default(tokenizer.chat_template)
    own = tokenizer.eos_token_id
    return ChatFormat(
        tokenizer=tokenizer,
        template=template,
        training_form=training_form(template),
        ends=frozenset(ends) | ({own} if isinstance(own, int) else frozenset()),
        options=thinking_options(
            template, thinking=thinking_wanted() if thinking is None else thinking
        ),
    )


@dataclass(frozen=True, kw_only=True)
class ChatFormat:
    """One base model's template, its end tokens, and how both sides render with it."""

    tokenizer: PreTrainedTokenizerBase
    template: str
    training_form: str | None
    ends: frozenset[int]
    """Tokens at which the engine stops."""
    options: Mapping[str, Any]
    """`chat_template_kwargs`, the same for the server and for training."""

    def prompt_ids(self, messages: Sequence[Chat], tools: Sequence[Chat] = ()) -> list[int]:
        """The tokens a server sends to the model for `messages`. Raises TemplateError."""
        return self._encoded(self._prompt(messages, tools))

    def shown(
        self,
        messages: Sequence[Chat],
        *,
        tools: Sequence[Chat] = (),
        answer_follows: bool = False,
    ) -> str:
        """The text a server makes of a conversation with these tools. Raises TemplateError."""
        return self._rendered(
            self.template, messages, tools=tools, add_generation_prompt=answer_follows
        )

    def answered(self, messages: Sequence[Chat], tools: Sequence[Chat] = ()) -> Answered:
        """Tokens of `messages`, whose last one is the answer to learn. Raises TemplateError."""
        self._refuse_control_tokens([*messages, *tools])
        prompt = self._prompt(messages[:-1], tools)
        _refuse_dropped_tools(messages[:-1], prompt)
        _refuse_hidden_tools(tools, prompt)
        said = self._said(messages, prompt, tools)
        before, ids = self._encoded(prompt), self._encoded(prompt + said)
        if ids[: len(before)] != before:
            ids = before + self._encoded(said)
            if self.tokenizer.decode(ids) != self.tokenizer.decode(self._encoded(prompt + said)):
                raise TemplateError("the base's tokenizer joins the prompt's end with the answer")
        if len(ids) == len(before) or ids[-1] not in self.ends:
            raise TemplateError("the chat template ends answers with no token that ends an answer")
        return Answered(ids=tuple(ids), start=len(before))

    def _said(self, messages: Sequence[Chat], prompt: str, tools: Sequence[Chat]) -> str:
        """What the model must say after `prompt`, from the first form that gives both back."""
        forms = (self.training_form, self.template) if self.training_form else (self.template,)
        refusal: TemplateError | None = None
        for form in forms:
            try:
                whole = self._rendered(form, messages, tools=tools, add_generation_prompt=False)
                if messages[-1].get("tool_calls"):
                    return self._calling(_rest(prompt, whole), messages[-1])
                return self._behind(prompt, whole, str(messages[-1]["content"]))
            except TemplateError as error:
                refusal = error
        raise refusal or TemplateError("the base model has no chat template")

    def _behind(self, prompt: str, whole: str, answer: str) -> str:
        rest, words = _rest(prompt, whole), answer.rpartition(THOUGHT_END)[2].strip()
        at = rest.find(words)
        if at < 0:
            raise TemplateError("the chat template changes the words of an answer")
        self._check_opening(rest[:at], answer.strip(), words)
        tail = rest[at + len(words) :]
        stop = self._end_of.search(tail)
        if stop is None:
            raise TemplateError("the chat template ends answers with no token that ends an answer")
        if self._seen(tail[: stop.start()]):
            raise TemplateError("the chat template adds words of its own to the end of an answer")
        return rest[: at + len(words)] + tail[: stop.end()]

    def _calling(self, rest: str, answer: Chat) -> str:
        """An answer that calls tools, up to the first end token behind the last call."""
        at = rest.find(str(answer["content"]).strip())
        if at < 0:
            raise TemplateError("the chat template changes the words of an answer")
        for call in answer["tool_calls"]:
            at = rest.find(call["function"]["name"], at)
            if at < 0:
                raise TemplateError("the base model's chat template drops tool calls")
        stop = self._end_of.search(rest, at)
        if stop is None:
            raise TemplateError("the chat template ends answers with no token that ends an answer")
        return rest[: stop.end()]

    def _check_opening(self, opening: str, answer: str, words: str) -> None:
        if answer != words:  # with a thought, of which templates move the blanks
            if "".join((opening + words).split()) != "".join(answer.split()):
                raise TemplateError("the chat template changes or drops an answer's thought")
        elif opening not in UNSEEN_OPENINGS and self._seen(opening):
            raise TemplateError(
                "the chat template adds words of its own (often an empty thought) before an "
                "answer: they would be learnt as part of it"
            )

    def _refuse_control_tokens(self, messages: Sequence[Chat]) -> None:
        """Rendered, they would be read as the real ones: a row could forge other turns."""
        texts = (text for message in messages for text in _texts(message))
        if any(self._control.search(text) for text in texts):
            raise TemplateError("a message holds text that is a control token of the base model")

    def _prompt(self, messages: Sequence[Chat], tools: Sequence[Chat]) -> str:
        return self._rendered(self.template, messages, tools=tools, add_generation_prompt=True)

    def _rendered(
        self,
        form: str,
        messages: Sequence[Chat],
        *,
        add_generation_prompt: bool,
        tools: Sequence[Chat] = (),
    ) -> str:
        shaped = (
            [_in_parts(message) for message in messages]
            if self.content_in_parts
            else list(messages)
        )
        try:
            return str(
                self.tokenizer.apply_chat_template(
                    [dict(message) for message in shaped],
                    chat_template=form,
                    tools=[dict(tool) for tool in tools] or None,
                    tokenize=False,
                    add_generation_prompt=add_generation_prompt,
                    **self.options,
                )
            )
        except (jinja2.TemplateError, TypeError, ValueError, KeyError, IndexError):
            # its own words may repeat what the conversation says
            raise TemplateError(
                "the base model's chat template refuses this conversation; many want user and "
                "assistant turns in strict alternation, some allow no system message"
            ) from None

    def _encoded(self, text: str) -> list[int]:
        return list(self.tokenizer(text, add_special_tokens=False)["input_ids"])

    def _seen(self, text: str) -> str:
        """What a caller would see of it: servers leave control tokens out."""
        if not text:
            return ""
        return str(self.tokenizer.decode(self._encoded(text), skip_special_tokens=True)).strip()

    @cached_property
    def content_in_parts(self) -> bool:
        """Whether the template walks over a message's content, as vLLM sees it."""
        return walks_over_content(self.template)

    @cached_property
    def _end_of(self) -> re.Pattern[str]:
        return _any_of([self.tokenizer.convert_ids_to_tokens(token) for token in self.ends])

    @cached_property
    def _control(self) -> re.Pattern[str]:
        added = self.tokenizer.added_tokens_decoder.values()
        named = {str(token) for token in self.tokenizer.all_special_tokens}
        return _any_of([*named, *(str(token.content) for token in added if token.special)])


def _refuse_dropped_tools(messages: Sequence[Chat], prompt: str) -> None:
    """Some templates leave out what they do not know, so that an answer would come from nowhere."""
    words = [str(message["content"]) for message in messages if message["role"] == "tool"]
    for message in messages:
        words += [call["function"]["name"] for call in message.get("tool_calls") or ()]
    if any(word not in prompt and json.dumps(word)[1:-1] not in prompt for word in words):
        raise TemplateError("the base model's chat template drops tool calls or their results")


def _refuse_hidden_tools(tools: Sequence[Chat], prompt: str) -> None:
    names = [str(tool["function"]["name"]) for tool in tools]
    if any(name not in prompt for name in names):
        raise TemplateError("the base model's chat template does not show tools to the model")


def _rest(prompt: str, whole: str) -> str:
    """What a finished conversation has behind what is served."""
    if not whole.startswith(prompt):
        raise TemplateError(
            "what is served is not how a finished conversation begins: the chat template opens "
            "answers with something (often a thought) that it does not render afterwards"
        )
    return whole[len(prompt) :]


def _texts(value: Any) -> Iterator[str]:
    """Every text in a message or a tool's description."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, Mapping):
        for item in (*value, *value.values()):
            yield from _texts(item)
    elif isinstance(value, Sequence):
        for item in value:
            yield from _texts(item)


def _in_parts(message: Chat) -> Chat:
    return {**message, "content": [{"type": "text", "text": message["content"]}]}


def _any_of(tokens: Sequence[Any]) -> re.Pattern[str]:
    words = sorted({str(token) for token in tokens if token}, key=len, reverse=True)
    return re.compile("|".join(map(re.escape, words)) or r"(?!)")


def _default(template: Any) -> str:
    return str(template.get("default", "")) if isinstance(template, dict) else str(template)


def _configured_ends(base: Path) -> list[int]:
    """End tokens at which vLLM stops beside the tokenizer's own.

    Those of `generation_config.json`; where there is no such file, those of `config.json`.
    """
    name = "generation_config.json"
    file = base / name if (base / name).is_file() else base / "config.json"
    try:
        values = json.loads(file.read_text("utf-8"))
        found = values.get("eos_token_id", (values.get("text_config") or {}).get("eos_token_id"))
    except (OSError, ValueError, AttributeError):
        return []
    listed = found if isinstance(found, list) else [found]
    return [token for token in listed if isinstance(token, int)]
