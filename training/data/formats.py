"""The formats that training data comes in → one `Example`: OpenAI's and the customary others.

    messages                                     OpenAI's chat, with `tools` and `weight`
    prompt, completion                           texts, or lists of messages
    instruction, context, response               also `input` for context, `output` for response
    input, preferred_output, non_preferred_output   OpenAI's pairs; `…_completion` too
    prompt, chosen, rejected                     pairs of texts or lists of messages
    prompt, completion, label                    thumbs: `label` is true or false

Each may have `metadata`, by which examples are counted. What else a record has is a mistake.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

from training.data.chat import (
    Found,
    Mistake,
    check_calls,
    check_order,
    parse_chat,
    parse_groups,
    parse_messages,
    parse_tools,
)
from training.data.examples import Example

CONTEXT, RESPONSE = ("context", "input"), ("response", "output")
PREFERRED = ("preferred_output", "preferred_completion")
NON_PREFERRED = ("non_preferred_output", "non_preferred_completion")


def parse_example(record: Any) -> Example:
    """A decoded record → an example. Raises Mistake with everything that is wrong with it."""
    if not isinstance(record, dict):
        raise Mistake("is not a JSON dictionary")
    return _parser_of(record)(record)


def _parser_of(record: Mapping[str, Any]) -> Callable[[Mapping[str, Any]], Example]:
    if "messages" in record:
        return parse_chat
    if _named(record, *PREFERRED, *NON_PREFERRED):
        return _openai_pair
    if _named(record, "chosen", "rejected"):
        return _pair
    if _named(record, "prompt", "completion"):
        return _completion if record.get("label") is None else _thumb
    if _named(record, "instruction", *RESPONSE):
        return _instruction
    raise Mistake(
        "has no `messages`, and is in no other known format: prompt/completion, "
        "instruction/context/response, prompt/chosen/rejected"
    )


def _completion(record: Mapping[str, Any]) -> Example:
    _only(record, "prompt", "completion", "label", "tools")
    return _answered(record, _turns(record, "prompt", "user"), "completion")


def _thumb(record: Mapping[str, Any]) -> Example:
    if not isinstance(record["label"], bool):
        raise Mistake("`label` must be true or false")
    return replace(_completion(record), liked=record["label"])


def _instruction(record: Mapping[str, Any]) -> Example:
    _only(record, "instruction", "system", *CONTEXT, *RESPONSE)
    asked = [_text(record, "instruction")]
    context = _named(record, *CONTEXT)
    if context and record[context]:
        asked.append(_text(record, context))
    prompt = [{"role": "user", "content": "\n\n".join(asked)}]
    if record.get("system"):
        prompt.insert(0, {"role": "system", "content": _text(record, "system")})
    return _answered(record, prompt, _named(record, *RESPONSE) or RESPONSE[0])


def _openai_pair(record: Mapping[str, Any]) -> Example:
    _only(record, "input", *PREFERRED, *NON_PREFERRED)
    given = record.get("input")
    if not isinstance(given, dict) or not isinstance(given.get("messages"), list):
        raise Mistake("`input` must be a dictionary with `messages`")
    preferred = _named(record, *PREFERRED) or PREFERRED[0]
    rejected = _named(record, *NON_PREFERRED) or NON_PREFERRED[0]
    return _compared(
        {**record, "tools": given.get("tools")}, given["messages"], preferred, rejected
    )


def _pair(record: Mapping[str, Any]) -> Example:
    _only(record, "prompt", "chosen", "rejected", "tools")
    if "prompt" in record:
        return _compared(record, _turns(record, "prompt", "user"), "chosen", "rejected")
    chosen, rejected = record.get("chosen"), record.get("rejected")
    if not isinstance(chosen, list) or not isinstance(rejected, list) or len(chosen) < 2:
        raise Mistake("a pair without `prompt` has two whole conversations")
    if chosen[:-1] != rejected[:-1]:
        raise Mistake("`chosen` and `rejected` differ in more than their last message")
    split = {**record, "chosen": chosen[-1:], "rejected": rejected[-1:]}
    return _compared(split, chosen[:-1], "chosen", "rejected")


def _compared(record: Mapping[str, Any], prompt: list[Any], better: str, worse: str) -> Example:
    preferred = _answered(record, prompt, better)
    rejected = _answered(record, prompt, worse).messages[len(preferred.prompt) :]
    if len(rejected) != 1:
        raise Mistake(f"`{worse}` must be one message of the assistant")
    if rejected[0].said.strip() == preferred.answer.strip():
        raise Mistake(f"`{better}` and `{worse}` are the same")
    return replace(preferred, rejected=rejected[0])


def _answered(record: Mapping[str, Any], prompt: list[Any], answer: str) -> Example:
    """An example of a prompt's messages and the record's answer, which is a text or messages."""
    if answer not in record:
        raise Mistake(f"has no `{answer}`")
    found = Found()
    groups = found.run(parse_groups, record.get("metadata")) or ()
    tools = found.run(parse_tools, record) or ()
    said = found.run(_turns, record, answer, "assistant") or []
    messages = found.without_mistakes(found.run(parse_messages, [*prompt, *said]))
    check_order(messages, learnt=True)
    check_calls(messages)
    return Example(messages=messages, tools=tools, groups=groups)


def _turns(record: Mapping[str, Any], key: str, role: str) -> list[Any]:
    value = record.get(key)
    if isinstance(value, dict):
        return [value]
    if isinstance(value, list) and value:
        return value
    if not isinstance(value, str) or not value.strip():
        raise Mistake(f"`{key}` must be a text that is not empty, or messages")
    return [{"role": role, "content": value}]


def _text(record: Mapping[str, Any], key: str) -> str:
    value = record.get(key)
    if not isinstance(value, str) or not value.strip():
        raise Mistake(f"`{key}` must be a text that is not empty")
    return value


def _named(record: Mapping[str, Any], *keys: str) -> str | None:
    """The first of `keys` that the record has."""
    return next((key for key in keys if key in record), None)


def _only(record: Mapping[str, Any], *known: str) -> None:
    unknown = record.keys() - {*known, "metadata"}
    if any(record[key] not in (None, "", [], {}) for key in unknown):
        raise Mistake(
            f"has a key that is not known beside {', '.join(f'`{key}`' for key in known)}"
        )
