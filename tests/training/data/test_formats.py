"""The formats that people bring: each becomes the same example, and says what is wrong with it."""

from __future__ import annotations

import io
import json
from typing import Any

import pytest

from adapters.errors import InvalidFile
from training.data.examples import DataKind, Example
from training.data.jsonl import LISTED, Bounds, InvalidLines, iterate_examples

SECRET = "Zanzibar-4711"
BOUNDS = Bounds(max_examples=5000)
TOOL = {"type": "function", "function": {"name": "find_part", "parameters": {"type": "object"}}}
CALL = {"id": "call_1", "type": "function", "function": {"name": "find_part", "arguments": "{}"}}


def lines(*records: Any) -> bytes:
    return b"".join(json.dumps(record).encode() + b"\n" for record in records)


def read(content: bytes, kind: DataKind = DataKind.CHAT) -> list[Example]:
    found = iterate_examples(io.BytesIO(content), param="training_file", bounds=BOUNDS, kind=kind)
    return [line.example for line in found]


def refusal(content: bytes, kind: DataKind = DataKind.CHAT) -> InvalidLines:
    with pytest.raises(InvalidFile) as caught:
        read(content, kind)
    assert isinstance(caught.value, InvalidLines)
    assert SECRET not in caught.value.message
    return caught.value


def turns(example: Example) -> list[tuple[str, str]]:
    return [(message.role, message.content) for message in example.messages]


@pytest.mark.parametrize(
    ("record", "expected"),
    [
        ({"prompt": "a", "completion": "b"}, [("user", "a"), ("assistant", "b")]),
        (
            {
                "prompt": [{"role": "system", "content": "s"}, {"role": "user", "content": "a"}],
                "completion": [{"role": "assistant", "content": "b"}],
            },
            [("system", "s"), ("user", "a"), ("assistant", "b")],
        ),
        (
            {"instruction": "Sum up.", "context": "a text", "response": "b"},
            [("user", "Sum up.\n\na text"), ("assistant", "b")],
        ),
        (
            {"instruction": "Sum up.", "input": "", "output": "b", "system": "s"},
            [("system", "s"), ("user", "Sum up."), ("assistant", "b")],
        ),
    ],
)
def test_each_format_of_texts_becomes_a_conversation(
    record: dict[str, Any], expected: list[tuple[str, str]]
) -> None:
    (only,) = read(lines(record))
    assert turns(only) == expected
    assert only.kind is DataKind.CHAT


def test_a_csv_of_any_format_is_read_with_quotes_and_lines_inside_a_field() -> None:
    content = 'Prompt;Completion;metadata.desk\r\n"a ""b""\nc";answer;berlin\r\n\r\nd;e;bonn\r\n'
    first, second = read(b"\xef\xbb\xbf" + content.encode())
    assert turns(first) == [("user", 'a "b"\nc'), ("assistant", "answer")]
    assert first.groups == (("desk", "berlin"),)
    assert turns(second) == [("user", "d"), ("assistant", "e")]


def test_a_csv_names_every_wrong_row_by_the_line_it_begins_on() -> None:
    content = f'prompt,completion\n"two\nlines",ok\nshort\n{SECRET},\nx,y\n'
    error = refusal(content.encode())
    assert [problem.line for problem in error.problems] == [4, 5]
    assert "line 4: has 1 columns where the first line names 2" in error.message


def test_a_csv_column_that_is_not_known_is_named_by_its_place() -> None:
    error = refusal(f"prompt,completion,{SECRET}\na,b,c\n".encode())
    assert "line 1: column 3 has a name that is not known" in error.message


def test_a_csv_whose_quotation_mark_never_closes_is_refused() -> None:
    error = refusal(b'prompt,completion\na,b\n"c,d\ne,f\n')
    assert "line 3: is not CSV" in error.message


@pytest.mark.parametrize(
    "record",
    [
        {
            "input": {"messages": [{"role": "user", "content": "a"}], "tools": []},
            "preferred_output": [{"role": "assistant", "content": "good"}],
            "non_preferred_output": [{"role": "assistant", "content": "bad"}],
        },
        {
            "input": {"messages": [{"role": "user", "content": "a"}]},
            "preferred_completion": [{"role": "assistant", "content": "good"}],
            "non_preferred_completion": [{"role": "assistant", "content": "bad"}],
        },
        {"prompt": "a", "chosen": "good", "rejected": "bad"},
        {
            "chosen": [{"role": "user", "content": "a"}, {"role": "assistant", "content": "good"}],
            "rejected": [{"role": "user", "content": "a"}, {"role": "assistant", "content": "bad"}],
        },
    ],
)
def test_each_shape_of_a_preference_becomes_a_pair(record: dict[str, Any]) -> None:
    (pair,) = read(lines(record), DataKind.PAIRS)
    assert turns(pair) == [("user", "a"), ("assistant", "good")]
    assert pair.rejected is not None
    assert pair.rejected.content == "bad"
    chosen, rejected = pair.sides
    assert (chosen.answer, rejected.answer) == ("good", "bad")


@pytest.mark.parametrize(
    ("record", "said"),
    [
        ({"prompt": "a", "chosen": SECRET, "rejected": SECRET}, "are the same"),
        ({"prompt": "a", "chosen": "b"}, "has no `rejected`"),
        ({"prompt": "a", "completion": SECRET}, "conversation without a preference"),
    ],
)
def test_a_pair_that_prefers_nothing_is_refused(record: dict[str, Any], said: str) -> None:
    assert said in refusal(lines(record), DataKind.PAIRS).message


def test_a_preference_is_refused_where_conversations_are_learnt() -> None:
    error = refusal(lines({"prompt": "a", "chosen": "b", "rejected": "c"}))
    assert "is a preference pair; method `supervised` learns from conversations" in error.message


def test_thumbs_say_whether_an_answer_was_liked() -> None:
    records = [{"prompt": "a", "completion": "b", "label": liked} for liked in (True, False)]
    assert [each.liked for each in read(lines(*records), DataKind.THUMBS)] == [True, False]
    (from_csv,) = read(b"prompt,completion,label\na,b,False\n", DataKind.THUMBS)
    assert from_csv.liked is False


def test_tools_their_calls_and_their_results_are_read() -> None:
    record = {
        "tools": [TOOL],
        "parallel_tool_calls": False,
        "messages": [
            {"role": "user", "content": "Where?"},
            {"role": "assistant", "content": None, "tool_calls": [CALL], "refusal": None},
            {"role": "tool", "tool_call_id": "call_1", "content": "shelf nine"},
            {"role": "assistant", "content": "On shelf nine."},
        ],
    }
    (only,) = read(lines(record))
    assert only.tools == (TOOL,)
    assert only.messages[1].as_request()["tool_calls"] == [CALL]
    assert only.messages[1].as_chat()["tool_calls"][0]["function"]["arguments"] == {}
    assert only.messages[1].said == '{"arguments": {}, "name": "find_part"}'
    assert only.messages[2].call_id == "call_1"


def test_the_old_functions_of_a_record_are_tools() -> None:
    record = {
        "functions": [TOOL["function"]],
        "messages": [
            {"role": "user", "content": "Where?"},
            {"role": "assistant", "function_call": {"name": "find_part", "arguments": "{}"}},
            {"role": "function", "name": "find_part", "content": "shelf nine"},
            {"role": "assistant", "content": "On shelf nine."},
        ],
    }
    (only,) = read(lines(record))
    assert only.tools == (TOOL,)
    assert only.messages[1].calls[0].id == only.messages[2].call_id


def test_an_answer_as_a_client_dumps_it_and_content_in_parts_are_tolerated() -> None:
    answer: dict[str, Any] = {
        "role": "assistant",
        "content": "b",
        "annotations": None,
        "reasoning": None,
        "new": [],
    }
    asked = {
        "role": "user",
        "content": [{"type": "text", "text": "a"}, {"type": "text", "text": "!"}],
    }
    (only,) = read(lines({"messages": [asked, answer]}))
    assert turns(only) == [("user", "a!"), ("assistant", "b")]


def test_an_answer_that_nobody_asked_for_is_learnt_and_a_greeting_is_shown() -> None:
    system = {"role": "system", "content": "Greet."}
    hello, asked = {"role": "assistant", "content": "Hello"}, {"role": "user", "content": "Hi"}
    prompted, greeting = read(
        lines({"messages": [system, hello]}, {"messages": [hello, asked, hello]})
    )
    assert prompted.messages[-1].learn
    assert [message.learn for message in greeting.messages] == [False, False, True]


def test_all_mistakes_of_all_lines_are_listed_and_beyond_a_bound_counted() -> None:
    wrong = {"messages": [{"role": "user"}, {"role": SECRET, "content": "b"}], "tool_choice": "x"}
    error = refusal(lines(wrong, wrong))
    assert [problem.line for problem in error.problems] == [1, 1, 1, 2, 2, 2]
    many = refusal(b"x\n" * (LISTED + 7))
    assert (len(many.problems), many.counts) == (LISTED, {"training_file": LISTED + 7})
    assert many.message.endswith(f"and {LISTED + 7 - 20} more")


def test_what_is_nested_too_deeply_or_is_no_text_is_refused_before_anything_walks_it() -> None:
    deep: Any = {}
    for _ in range(400):
        deep = {"a": deep}
    tool = {"type": "function", "function": {"name": "f", "parameters": deep}}
    call = {"id": "c", "function": {"name": "f", "arguments": json.dumps(deep)}}
    half = {"type": "function", "function": {"name": "f", "description": "\ud800"}}
    asked = {"role": "user", "content": "a"}
    said = {"role": "assistant", "content": "b"}
    calling = {"role": "assistant", "tool_calls": [call]}
    error = refusal(
        lines(
            {"messages": [asked, said], "tools": [tool]},
            {"messages": [asked, calling]},
            {"messages": [asked, said], "tools": [half]},
        )
    )
    assert [problem.line for problem in error.problems] == [1, 2, 3]
    assert "nested deeper than 32 levels" in error.message
    assert "surrogate" in error.message
