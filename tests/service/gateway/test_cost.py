"""What is reserved for a request, before the engine has counted anything."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from adapters.domain.limits import Usage
from service.gateway.cost import MESSAGE_TOKENS, UNSAID_TOKENS, Cost, cost_of

LONGEST = 1000


def chat(content: Any, **more: Any) -> Cost:
    body = {"messages": [{"role": "user", "content": content}], **more}
    return cost_of(body, longest=LONGEST)


def test_a_prompt_is_a_third_of_its_bytes_and_an_answer_is_as_long_as_it_may_be() -> None:
    assert chat("x" * 90, max_tokens=5) == Cost(1, Usage(MESSAGE_TOKENS + 30, 5))
    assert chat("ж" * 45, max_completion_tokens=5) == Cost(1, Usage(MESSAGE_TOKENS + 30, 5))
    parts = [{"type": "text", "text": "x" * 30}, {"type": "text", "text": "x" * 60}]
    assert chat(parts).tokens.prompt >= MESSAGE_TOKENS + 30
    assert chat("hi").tokens.completion == UNSAID_TOKENS


def test_every_answer_is_reserved_for_and_none_beyond_the_engines_length() -> None:
    assert chat("", n=4, max_tokens=5).tokens.completion == 20
    assert chat("", n=4, max_tokens=10**18) == Cost(4, Usage(8, 4 * (LONGEST - 8)))
    assert chat("x" * 10**6, max_tokens=50) == Cost(1, Usage(LONGEST, 1))


@pytest.mark.parametrize(
    ("prompt", "sequences", "tokens"),
    [("x" * 30, 1, 10), ([1, 2, 3], 1, 3), (["x" * 30, "x"], 2, 11), ([[1, 2], [3]], 2, 3)],
)
def test_prompts_are_texts_or_tokens_one_or_several(
    prompt: Any, sequences: int, tokens: int
) -> None:
    body = {"prompt": prompt, "max_tokens": 1}
    assert cost_of(body, longest=LONGEST) == Cost(sequences, Usage(tokens, sequences))


def test_tools_and_tool_calls_are_part_of_a_prompt() -> None:
    tool = {"type": "function", "function": {"name": "f", "parameters": {"a" * 300: {}}}}
    assert chat("", tools=[tool]).tokens.prompt > 100
    called = {"role": "assistant", "tool_calls": [{"function": {"arguments": "x" * 300}}]}
    assert cost_of({"messages": [called]}, longest=LONGEST).tokens.prompt > 100


@given(
    st.recursive(
        st.none() | st.integers() | st.text(), lambda e: st.lists(e) | st.dictionaries(st.text(), e)
    )
)
def test_whatever_a_body_is_made_of_it_costs_something_that_is_bounded(value: Any) -> None:
    for body in ({"input": value}, {"messages": [{"content": value}]}):
        cost = cost_of(body, longest=LONGEST)
        assert 0 < cost.tokens.total <= 2 * LONGEST
