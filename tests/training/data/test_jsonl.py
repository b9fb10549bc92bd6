"""Training files as people really upload them: what is read, and what each mistake is called."""

from __future__ import annotations

import io
import json
from typing import Any

import pytest

from adapters.errors import InvalidFile
from training.data.jsonl import Bounds, iterate_examples

SECRET = "Zanzibar-4711"
BOUNDS = Bounds(min_examples=1, max_examples=100, max_line=4096)


def chat(*turns: tuple[str, Any], **extra: Any) -> dict[str, Any]:
    return {"messages": [{"role": role, "content": text} for role, text in turns], **extra}


def line(*turns: tuple[str, Any], **extra: Any) -> bytes:
    return json.dumps(chat(*turns, **extra)).encode() + b"\n"


GOOD = line(("user", f"Where is {SECRET}?"), ("assistant", f"{SECRET} is here."))


def read(content: bytes, bounds: Bounds = BOUNDS) -> Any:
    return list(iterate_examples(io.BytesIO(content), param="training_file", bounds=bounds))


def refusal(content: bytes, bounds: Bounds = BOUNDS) -> InvalidFile:
    with pytest.raises(InvalidFile) as caught:
        read(content, bounds)
    return caught.value


def test_a_good_file_becomes_examples_with_their_line_numbers() -> None:
    lines = read(GOOD + b"\n" + line(("system", "Be kind."), ("user", "Hi"), ("assistant", "Yes?")))
    assert [item.number for item in lines] == [1, 3]
    assert lines[0].example.answer == f"{SECRET} is here."
    assert [message.role for message in lines[1].example.prompt] == ["system", "user"]


def test_a_byte_order_mark_and_windows_line_ends_are_tolerated() -> None:
    content = (
        b"\xef\xbb\xbf" + GOOD.replace(b"\n", b"\r\n") + b"\r\n" + GOOD.replace(b"\n", b"\r\n")
    )
    assert [item.number for item in read(content)] == [1, 3]


def test_developer_messages_are_system_messages() -> None:
    (only,) = read(line(("developer", "Be brief."), ("user", "Hi"), ("assistant", "Yes")))
    assert only.example.messages[0].role == "system"


def test_a_weight_of_zero_keeps_an_answer_out_of_the_loss() -> None:
    record = chat(("user", "a"), ("assistant", "b"), ("user", "c"), ("assistant", "d"))
    record["messages"][1]["weight"] = 0
    record["messages"][3]["weight"] = 1
    (only,) = read(json.dumps(record).encode())
    assert [message.learn for message in only.example.messages] == [False, False, False, True]


def test_empty_tool_keys_of_an_export_are_tolerated() -> None:
    record = chat(("user", "a"), ("assistant", "b"), tools=[])
    record["messages"][1] |= {"tool_calls": None, "refusal": None}
    assert len(read(json.dumps(record).encode())) == 1


def _weighted(weight: Any, role: int = 1) -> bytes:
    record = chat(("user", SECRET), ("assistant", "b"))
    record["messages"][role]["weight"] = weight
    return json.dumps(record).encode()


def _image() -> bytes:
    parts = [{"type": "image_url", "image_url": {"url": SECRET}}]
    return line(("user", parts), ("assistant", "b"))


def _with_message_key(key: str, value: Any) -> bytes:
    record = chat(("user", SECRET), ("assistant", "b"))
    record["messages"][1][key] = value
    return json.dumps(record).encode()


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "is empty"),
        (b"\n\r\n  \n", "is empty"),
        (b"\x1f\x8b\x08\0" + b"\0" * 900, "line 1: has NUL bytes"),
        ("{}".encode("utf-16"), "line 1: is UTF-16"),
        (GOOD + b'{"a": "\xff\xfe"}\n', "line 2: is not UTF-8 text (byte 8)"),
        (b"[\n" + GOOD, "line 1: begins a JSON list"),
        (f"hello {SECRET}\n".encode(), "line 1: is not JSON"),
        (
            GOOD + GOOD[:50],
            (
                "line 2: is not JSON: Unterminated string starting at, "
                "column 43 (is the file cut off?)"
            ),
        ),
        (b"[" * 3000 + b"\n", "line 1: is not JSON that can be read"),
        (b'{"messages": ' + b"1" * 4000 + b"}", "line 1:"),
        (b'["' + SECRET.encode() + b'"]\n', "line 1: is not a JSON dictionary"),
        (b"{}", "line 1: has no `messages`"),
        (b'{"messages": []}', "line 1: `messages` must be a list"),
        (b'{"messages": {"role": 1}}', "line 1: `messages` must be"),
        (b'{"messages": ["x"]}', "line 1: message 1 is not a JSON dict"),
        (b'{"prompt": "a", "answer": "b"}', "has no `completion`"),
        (b'{"input": {}, "preferred_completion": []}', "`input` must be a dictionary with"),
        (line(("user", "a"), ("assistant", "b"), **{SECRET: 1}), "not known"),
        (line(("user", "a"), ("assistant", "b"), tools=[{}]), "tool 1 is no `function`"),
        (line(("user", "a"), ("assistant", "b"), functions=[{}]), "tool 1 has no `name`"),
        (line((SECRET, "a"), ("assistant", "b")), "message 1: `role` must be"),
        (b'{"messages": [{"content": "a"}]}', "message 1: `role` must be"),
        (b'{"messages": [{"role": ["user"]}]}', "`role` must be"),
        (line(("user", "a"), ("tool", "b"), ("assistant", "c")), "message 2: its `tool_call_id`"),
        (line(("user", 5), ("assistant", "b")), "message 1: `content` must"),
        (line(("user", None), ("assistant", "b")), "message 1: `content` must"),
        (line(("user", "a"), ("assistant", "  ")), "message 2: the assistant"),
        (line(("user", "\ud800"), ("assistant", "b")), "surrogate"),
        (_image(), "message 1: images, audio and files"),
        (line(("user", [{"type": ["x"]}]), ("assistant", "b")), "message 1: `content` must"),
        (line(("user", [{"type": {}}, 5]), ("assistant", "b")), "message 1: `content` must"),
        (_with_message_key("tool_calls", [{}]), "message 2: a tool call has no `function`"),
        (_with_message_key("audio", {"id": 1}), "`audio`"),
        (_with_message_key(SECRET, 1), "message 2 has a key"),
        (_weighted(2), "`weight` must be 0 or 1"),
        (_weighted(True), "`weight` must be 0 or 1"),
        (_weighted([]), "`weight` must be 0 or 1"),
        (_weighted(0), "line 1: the last answer has `weight` 0"),
        (_weighted(1, 0), "only assistant messages may"),
        (line(("user", "a")), "last message must be the assistant's"),
        (line(("user", "a"), ("assistant", "b"), ("user", "c")), "last message"),
        (line(("assistant", "a")), "nothing before the answer"),
        (line(("user", "a"), ("system", "b"), ("assistant", "c")), "system messages must"),
        (line(("user", "x" * 5000), ("assistant", "c")), ("line 1: is longer than 4096 bytes")),
    ],
)
def test_a_bad_file_is_refused_with_its_line_and_without_its_content(
    content: bytes, said: str
) -> None:
    error = refusal(content)
    assert said in error.message
    assert SECRET not in error.message
    assert (error.param, error.reason) == ("training_file", "invalid_training_file")


def test_the_error_of_a_validation_file_names_that_parameter() -> None:
    with pytest.raises(InvalidFile) as caught:
        list(iterate_examples(io.BytesIO(b"x"), param="validation_file", bounds=BOUNDS))
    assert (caught.value.param, caught.value.reason) == (
        "validation_file",
        "invalid_validation_file",
    )


def test_twenty_mistakes_are_named_and_the_rest_is_counted() -> None:
    error = refusal(b"x\n" * 33 + GOOD)
    assert error.message.count("line ") == 20
    assert "line 20:" in error.message
    assert error.message.endswith("and 13 more")


def test_reading_goes_on_behind_an_overlong_line() -> None:
    content = GOOD + b'{"a": "' + b"x" * 100_000 + b'"}\n' + b"nonsense\n"
    message = refusal(content).message
    assert "line 2: is longer than 4096 bytes; line 3: is not JSON" in message


def test_a_line_of_exactly_the_cap_is_read() -> None:
    exact = Bounds(max_examples=5, max_line=len(GOOD) - 1)
    assert len(read(GOOD * 2, exact)) == 2
    assert "longer than" in refusal(GOOD, Bounds(max_examples=5, max_line=len(GOOD) - 2)).message


def test_too_few_examples_are_refused_with_their_count() -> None:
    message = refusal(GOOD * 3, Bounds(min_examples=10, max_examples=100)).message
    assert "has 3 examples; at least 10 are needed" in message


def test_too_many_examples_are_refused_before_the_rest_is_read() -> None:
    file = io.BytesIO(GOOD * 50)
    with pytest.raises(InvalidFile, match="more than the 7 examples allowed"):
        list(iterate_examples(file, param="training_file", bounds=Bounds(max_examples=7)))
    assert file.tell() == 8 * len(GOOD)
