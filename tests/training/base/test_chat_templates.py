"""Every chat template that TRL ships, in four kinds of conversation: what is learnt, or why not.

The tokenizers are byte by byte and hold the control tokens of their template.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import trl

from training.base.chat_format import ChatFormat, TemplateError, chat_format
from training.data.examples import Example, Message
from training.data.render import render

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

TEMPLATES = Path(trl.__file__).parent / "chat_templates"
NAMES = sorted(
    file.stem for file in TEMPLATES.glob("*.jinja") if not file.stem.endswith("_training")
)
CONTROL = re.compile(
    r"<[｜|][^<>\s]{1,40}?[｜|]>|<(?:start|end)_of_turn>|</?s>|<[be]os>|<end_of_utterance>"
    r"|<\|?turn\|?>|<\|?channel\|?>"
)
ENDS: Mapping[str, Sequence[str]] = {
    "glm4moe": ("<|endoftext|>", "<|user|>", "<|observation|>"),
    "phi3": ("<|endoftext|>", "<|end|>"),
    "phi3_5": ("<|endoftext|>", "<|end|>"),
    "gptoss": ("<|return|>", "<|call|>"),
}
"""What their `generation_config.json` says, the tokenizer's own end token first."""
USUAL_ENDS = (
    "<|im_end|>", "<|eot_id|>", "<end_of_turn>", "<turn|>", "<｜end▁of▁sentence｜>",
    "<|END_OF_TURN_TOKEN|>", "<end_of_utterance>", "<|eot|>", "</s>",
)  # fmt: skip

FIRST, SECOND = "in the inbox", "on the desk"
ONE = (Message(role="user", content="Where is it?"), Message(role="assistant", content=FIRST))
SYSTEM = (Message(role="system", content="Answer briefly."), *ONE)
TWO = (
    *ONE,
    Message(role="user", content="And the other?"),
    Message(role="assistant", content=SECOND),
)
CALL = {"name": "look_up", "arguments": {"what": "invoice"}}
TOOLS: Sequence[Mapping[str, Any]] = (
    {"role": "user", "content": "Where is it?"},
    {
        "role": "assistant",
        "content": "",
        "tool_calls": [{"id": "call_1", "type": "function", "function": CALL}],
    },
    {"role": "tool", "name": "look_up", "tool_call_id": "call_1", "content": "drawer seven"},
    {"role": "assistant", "content": FIRST},
)

OPENED = "is not how a finished conversation begins"
OWN_WORDS = "adds words of its own"
REFUSES = "refuses this conversation"
DROPS = "drops tool calls or their results"
NEVER: Mapping[str, str] = {
    "deepseek_r1_distill": OPENED,  # it always thinks, and no example has a thought
    "deepseekv3": OPENED,  # the same
    "muse_glimmer": OWN_WORDS,  # answers begin with " to=user" as plain text
}
NO_SYSTEM = {"gemma": REFUSES}
ROW_FOR_EACH_ANSWER = {"gptoss", "qwen3", "qwen3_5_nothink", "qwen3_5_think", "qwen3_6"}
NO_TOOLS: Mapping[str, str] = {
    "cohere": REFUSES,
    "cohere2": DROPS,
    "deepseek_r1_distill": DROPS,
    "deepseekv3": REFUSES,
    "diffusion_gemma": OWN_WORDS,
    "gemma": REFUSES,
    "gemma3": REFUSES,
    "idefics3": DROPS,
    "lfm2": DROPS,
    "llama3": DROPS,
    "llava_next": REFUSES,
    "muse_glimmer": OWN_WORDS,
    "phi3": DROPS,
    "phi3_5": DROPS,
    "qwen2_5_vl": DROPS,
    "smolvlm": DROPS,
}
OPENING = {
    "glm4moe": "\n",
    "gptoss": "<|channel|>final<|message|>",
    "idefics3": " ",
    "llava_next": " ",
    "smolvlm": " ",
}
"""What the template puts between the served prompt and the answer's words."""
ENDING = {"cohere2": "<|END_RESPONSE|><|END_OF_TURN_TOKEN|>", "glm4moe": "<|user|>",
          "phi3": "<|end|>", "phi3_5": "<|end|>"}  # fmt: skip


def ends_of(name: str, template: str) -> Sequence[str]:
    return ENDS.get(name) or [next(end for end in USUAL_ENDS if end in template)]


def tokenizer_of(template: str, ends: Sequence[str]) -> PreTrainedTokenizerFast:
    from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    made = Tokenizer(models.BPE(vocab={letter: at for at, letter in enumerate(letters)}, merges=[]))
    made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    made.decoder = decoders.ByteLevel()
    control = sorted({*CONTROL.findall(template), *ends, "<bos>"})
    made.add_special_tokens(
        [AddedToken(token, special=True, normalized=False) for token in control]
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=made,
        bos_token="<bos>",
        eos_token=ends[0],
        pad_token=ends[0],
        chat_template=template,
        clean_up_tokenization_spaces=False,
    )


@cache
def chat_of(name: str, *, thinking: bool = False) -> ChatFormat:
    template = (TEMPLATES / f"{name}.jinja").read_text("utf-8")
    ends = ends_of(name, template)
    tokenizer = tokenizer_of(template, ends)
    ids = [int(tokenizer.convert_tokens_to_ids(end)) for end in ends]
    return chat_format(tokenizer, ends=ids, thinking=thinking)


def said(name: str, *answers: str) -> str:
    """The answers as the template has the model say them."""
    ending = ENDING.get(name) or chat_of(name).tokenizer.eos_token
    return "".join(f"{OPENING.get(name, '')}{answer}{ending}" for answer in answers)


def learnt(name: str, messages: tuple[Message, ...]) -> list[str]:
    """What each row teaches, after it is seen to begin with the prompts that are served."""
    chat = chat_of(name)
    texts = []
    for row in render(chat, Example(messages=messages)):
        start = row.learn.index(True)
        prompts = [
            chat.prompt_ids([m.as_chat() for m in messages[:at]])
            for at, message in enumerate(messages)
            if message.role == "assistant"
        ]
        assert list(row.ids[:start]) in prompts
        assert row.ids[-1] in chat.ends
        ids = [token for token, learn in zip(row.ids, row.learn, strict=True) if learn]
        texts.append(str(chat.tokenizer.decode(ids)))
    return texts


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("kind", ["one turn", "system and turn"])
def test_one_answer_is_learnt_with_its_end_or_refused(name: str, kind: str) -> None:
    messages = ONE if kind == "one turn" else SYSTEM
    refusal = NEVER.get(name) or (NO_SYSTEM.get(name) if messages is SYSTEM else None)
    if refusal:
        with pytest.raises(TemplateError, match=refusal):
            learnt(name, messages)
    else:
        assert learnt(name, messages) == [said(name, FIRST)]


@pytest.mark.parametrize("name", NAMES)
def test_two_answers_are_learnt_in_one_row_where_the_template_keeps_earlier_turns(
    name: str,
) -> None:
    if name in NEVER:
        with pytest.raises(TemplateError, match=NEVER[name]):
            learnt(name, TWO)
    elif name in ROW_FOR_EACH_ANSWER:
        assert learnt(name, TWO) == [said(name, FIRST), said(name, SECOND)]
    else:
        assert learnt(name, TWO) == [said(name, FIRST, SECOND)]


@pytest.mark.parametrize("name", NAMES)
def test_an_answer_after_a_tools_result_is_learnt_where_the_template_shows_both(name: str) -> None:
    chat = chat_of(name)
    if name in NO_TOOLS:
        with pytest.raises(TemplateError, match=NO_TOOLS[name]):
            chat.answered(TOOLS)
        return
    row = chat.answered(TOOLS)
    prompt = chat.tokenizer.decode(row.ids[: row.start])
    assert all(words in prompt for words in ("look_up", "invoice", "drawer seven"))
    assert list(row.ids[: row.start]) == chat.prompt_ids(TOOLS[:-1])
    assert chat.tokenizer.decode(row.ids[row.start :]) == said(name, FIRST)


@pytest.mark.parametrize("name", ["glm4moe", "nemotron_3_nano", "qwen3", "qwen3_5_think"])
def test_with_thinking_on_an_example_without_a_thought_is_refused(name: str) -> None:
    chat = chat_of(name, thinking=True)
    assert set(chat.options.values()) == {True}
    with pytest.raises(TemplateError, match=f"{OWN_WORDS}|{OPENED}"):
        render(chat, Example(messages=ONE))


def test_with_thinking_on_a_thought_is_learnt_with_its_answer() -> None:
    chat = chat_of("qwen3", thinking=True)
    thought = Message(role="assistant", content=f"<think>\nwho knows\n</think>\n\n{FIRST}")
    (row,) = render(chat, Example(messages=(ONE[0], thought)))
    ids = row.ids[row.learn.index(True) :]
    assert chat.tokenizer.decode(ids) == f"<think>\nwho knows\n</think>\n\n{FIRST}<|im_end|>"


@pytest.mark.parametrize("name", NAMES)
def test_the_training_form_is_the_one_that_trl_itself_would_choose(name: str) -> None:
    from trl.chat_template_utils import get_training_chat_template

    chat = chat_of(name)
    try:
        wanted = get_training_chat_template(chat.tokenizer)
    except ValueError:
        wanted = None
    assert chat.training_form == wanted


def test_the_table_names_templates_that_exist() -> None:
    named = {*NEVER, *NO_SYSTEM, *ROW_FOR_EACH_ANSWER, *NO_TOOLS, *OPENING, *ENDING, *ENDS}
    assert named <= set(NAMES)
