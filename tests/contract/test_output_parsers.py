"""vLLM reads tool calls and thoughts as the templates write them that a profile names a parser for.

Every chat template that TRL ships, and the embedded bases' own.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Sequence
from typing import Any

import pytest

from tests.contract.facts import ROOT
from tests.training.base.test_chat_templates import CONTROL, NAMES, chat_of, tokenizer_of
from training.base import smollm2, tokenizer
from training.base.chat_format import ChatFormat, chat_format
from training.base.output_format import (
    ASKED,
    CALLED,
    KEY,
    NAME,
    TOOLS,
    VALUE,
    reasoning_parser,
    tool_parser,
)

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]

EMBEDDED = {"tiny": (tokenizer.CHAT_TEMPLATE, "<|end|>"),
            "smollm2": (smollm2.CHAT_TEMPLATE, "<|im_end|>")}  # fmt: skip
WORDS = ("<tool_call>", "</tool_call>", "<think>", "</think>", "<|python_tag|>")
"""What bases with these parsers have tokens for."""


def chat_named(name: str, *, thinking: bool) -> ChatFormat:
    if name in EMBEDDED:
        template, end = EMBEDDED[name]
        return chat_format(tokenizer_of(template, [end]), thinking=thinking)
    return chat_of(name, thinking=thinking)


def case_of(name: str) -> dict[str, Any]:
    """One template's call and thought, as a model that was taught by it says them."""
    chat, thinking = chat_named(name, thinking=False), chat_named(name, thinking=True)
    control = sorted({*CONTROL.findall(chat.template), *WORDS})
    tools = tool_parser(chat)
    case = {"name": name, "control": control, "tool_parser": tools, "said": "",
            "reasoning_parser": reasoning_parser(chat)}  # fmt: skip
    if tools:
        prompt = chat.shown([ASKED], tools=TOOLS, answer_follows=True)
        whole = chat.shown([ASKED, CALLED], tools=TOOLS)
        behind = whole.rpartition(str(ASKED["content"]))[2]
        opening = prompt.rpartition(str(ASKED["content"]))[2]
        case["said"] = behind.removeprefix(opening)
    opened = thinking.shown([ASKED], answer_follows=True).rstrip().endswith("<think>")
    case["thought"] = ("" if opened else "<think>\n") + "I wonder.\n</think>\n\nIt is here."
    return case


def named() -> Sequence[dict[str, Any]]:
    cases = [case_of(name) for name in (*EMBEDDED, *NAMES)]
    return [case for case in cases if case["tool_parser"] or case["reasoning_parser"]]


@pytest.fixture(scope="module")
def read() -> dict[str, dict[str, Any]]:
    run = subprocess.run(
        [sys.executable, "-m", "tests.contract.output_parsers"],
        cwd=ROOT, capture_output=True, text=True, timeout=500, input=json.dumps(named()),
    )  # fmt: skip
    assert run.returncode == 0, run.stderr[-3000:]
    return {one["name"]: one for one in json.loads(run.stdout.strip().splitlines()[-1])}


def test_a_call_is_read_as_it_was_said(read: dict[str, dict[str, Any]]) -> None:
    calls = {case["name"]: read[case["name"]]["calls"] for case in named() if case["tool_parser"]}
    assert {*EMBEDDED, "qwen2_5", "qwen3", "llama3_1"} <= calls.keys()
    assert calls == {name: [[NAME, {KEY: VALUE}]] for name in calls}


def test_a_thought_is_told_from_the_answer(read: dict[str, dict[str, Any]]) -> None:
    thoughts = {
        case["name"]: read[case["name"]]["thought"] for case in named() if case["reasoning_parser"]
    }
    assert {"qwen3", "deepseek_r1_distill"} <= thoughts.keys()
    assert thoughts == {name: ["I wonder.", "It is here."] for name in thoughts}
