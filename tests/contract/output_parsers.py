"""Prints, as JSON, how vLLM's parsers read what chat templates render; a process of its own.

Standard input: a list of `{"name", "control", "tool_parser", "reasoning_parser", "said",
"thought"}`; see `test_output_parsers.py`.
"""

from __future__ import annotations

import json
import os
import sys
from typing import Any

os.environ |= {"VLLM_ENFORCE_STRICT_TOOL_CALLING": "0", "VLLM_NO_USAGE_STATS": "1"}


def tokenizer_with(control: list[str]) -> Any:
    """Bytes, and these words as tokens of their own."""
    from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    made = Tokenizer(models.BPE(vocab={letter: at for at, letter in enumerate(letters)}, merges=[]))
    made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    made.decoder = decoders.ByteLevel()
    made.add_special_tokens([AddedToken(one, special=True, normalized=False) for one in control])
    return PreTrainedTokenizerFast(tokenizer_object=made, eos_token=control[0])


def parser_of(case: dict[str, Any], request: Any, options: dict[str, bool]) -> Any:
    """A parser as vLLM makes it for one request."""
    from vllm.parser.parser_manager import ParserManager

    tokenizer = tokenizer_with(case["control"])
    made = ParserManager.get_parser(
        tool_parser_name=case["tool_parser"],
        reasoning_parser_name=case["reasoning_parser"],
        enable_auto_tools=True,
        tokenizer=tokenizer,
    )
    assert made is not None
    return made(tokenizer, request.tools, chat_template_kwargs=options), tokenizer


def read(case: dict[str, Any]) -> dict[str, Any]:
    """What vLLM makes of a call that is said, and of a thought."""
    from vllm.entrypoints.openai.chat_completion.protocol import ChatCompletionRequest

    from training.base.output_format import ASKED, TOOLS

    found: dict[str, Any] = {"name": case["name"]}
    asked = {"model": "m", "messages": [ASKED]}
    if case["tool_parser"]:
        request = ChatCompletionRequest.model_validate(
            {**asked, "tools": TOOLS, "tool_choice": "auto"}
        )
        parser, tokenizer = parser_of(case, request, {"enable_thinking": False, "thinking": False})
        ids = tokenizer(case["said"], add_special_tokens=False)["input_ids"]
        _, _, calls = parser.parse(
            case["said"], request, enable_auto_tools=True, model_output_token_ids=ids
        )
        found["calls"] = [[call.name, json.loads(call.arguments)] for call in calls or ()]
    if case["reasoning_parser"]:
        request = ChatCompletionRequest.model_validate(asked)
        parser, tokenizer = parser_of(case, request, {"enable_thinking": True, "thinking": True})
        ids = tokenizer(case["thought"], add_special_tokens=False)["input_ids"]
        thought, answer, _ = parser.parse(
            case["thought"], request, enable_auto_tools=True, model_output_token_ids=ids
        )
        found["thought"] = [(thought or "").strip(), (answer or "").strip()]
    return found


def main() -> None:
    """Answers on standard output's last line."""
    print(json.dumps([read(case) for case in json.load(sys.stdin)]))


if __name__ == "__main__":
    main()
