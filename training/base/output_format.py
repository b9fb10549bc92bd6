"""How a base writes what is more than an answer's words: tool calls, and thoughts.

The engine reads both with a parser of its own for each way of writing. Which one a base needs is
seen by rendering a call with the base's own template, not by its name: a parser is named only where
the template shows the model its tools, writes the call as that parser reads it, and hands the
tool's result on. `tests/contract/test_output_parsers.py` has vLLM's parsers read what is rendered.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

import jinja2

from training.base.chat_format import THOUGHT_END, Chat, ChatFormat, TemplateError

NAME, KEY, VALUE, RESULT = "find_part", "part", "lamp", "shelf nine"
TOOLS: Sequence[Mapping[str, Any]] = (
    {
        "type": "function",
        "function": {
            "name": NAME,
            "description": "Says where a part is.",
            "parameters": {
                "type": "object",
                "properties": {KEY: {"type": "string"}},
                "required": [KEY],
            },
        },
    },
)
ASKED: Chat = {"role": "user", "content": "Where is it?"}
CALLED: Chat = {
    "role": "assistant",
    "content": "",
    "tool_calls": [
        {
            "id": "call_12345",
            "type": "function",
            "function": {"name": NAME, "arguments": {KEY: VALUE}},
        }
    ],
}
ANSWERED: Chat = {"role": "tool", "name": NAME, "tool_call_id": "call_12345", "content": RESULT}

_TOOL_FORMATS: Sequence[tuple[str, re.Pattern[str]]] = (
    (
        "hermes",
        re.compile(
            rf'<tool_call>\s*\{{"name": "{NAME}", "arguments": '
            rf'\{{"{KEY}": "{VALUE}"\}}\}}\s*</tool_call>'
        ),
    ),
    ("llama3_json", re.compile(rf'\{{"name": "{NAME}", "parameters": \{{"{KEY}": "{VALUE}"\}}\}}')),
    (
        "qwen3_coder",
        re.compile(
            rf"<tool_call>\s*<function={NAME}>\s*<parameter={KEY}>\s*{VALUE}\s*</parameter>"
            r"\s*</function>\s*</tool_call>"
        ),
    ),
)
"""vLLM's name of a parser, and how a call looks that it reads."""


def tool_parser(chat: ChatFormat) -> str | None:
    """Which parser reads this base's tool calls; None where no known one does."""
    try:
        shown = chat.shown([ASKED], tools=TOOLS, answer_follows=True)
        called = chat.shown([ASKED, CALLED], tools=TOOLS)
        whole = chat.shown([ASKED, CALLED, ANSWERED], tools=TOOLS, answer_follows=True)
    except (TemplateError, jinja2.TemplateError):
        return None
    if NAME not in shown or RESULT not in whole:
        return None
    # what a prompt says of the format is no call: those say it before the question
    said = called.rpartition(str(ASKED["content"]))[2]
    return next((name for name, form in _TOOL_FORMATS if form.search(said)), None)


def reasoning_parser(chat: ChatFormat) -> str | None:
    """Which parser tells this base's thoughts from its answers; None where no known one does."""
    if THOUGHT_END not in chat.template:
        return None
    try:
        prompt = chat.shown([ASKED], answer_follows=True)
    except (TemplateError, jinja2.TemplateError):
        return None
    if "enable_thinking" in chat.options:
        return "qwen3" if "<|im_start|>" in chat.template else None
    return "deepseek_r1" if prompt.rstrip().endswith("<think>") else None
