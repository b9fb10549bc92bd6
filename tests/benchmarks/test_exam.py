"""Reading and scoring the test file, and what the command lines refuse."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from benchmarks import overhead, quality
from benchmarks.draw import draw
from benchmarks.exam import BadExam, read_exam, score, tokens_needed
from tests.service.conftest import world
from tests.service.tiny_tokenizer import tiny_tokenizer
from tests.service.world import World

__all__ = ["world"]


def lines(*answers: str) -> str:
    said = [{"role": "system", "content": "Be short."}, {"role": "user", "content": "Well?"}]
    conversations = [
        {"messages": [*said, {"role": "assistant", "content": answer}]} for answer in answers
    ]
    return "".join(f"{json.dumps(each)}\n" for each in conversations)


def test_the_last_answer_is_what_is_asked_for(tmp_path: Path) -> None:
    path = tmp_path / "test.jsonl"
    path.write_text(lines("yes", "no"))
    questions = read_exam(path)
    assert [question.answer for question in questions] == ["yes", "no"]
    assert [message["role"] for message in questions[0].asked] == ["system", "user"]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "no examples"),
        (lines("yes") + "{", "line 2"),
        ('{"messages": []}\n', "line 1"),
        ('{"messages": [{"role": "user", "content": "?"}]}\n', "line 1"),
        ('{"messages": [{"role": "assistant", "content": "!"}]}\n', "line 1"),
        ('"text"\n', "line 1"),
    ],
)
def test_a_file_that_cannot_be_scored_is_refused_with_its_line(
    tmp_path: Path, text: str, said: str
) -> None:
    path = tmp_path / "test.jsonl"
    path.write_text(text)
    with pytest.raises(BadExam, match=said):
        read_exam(path)


def test_a_binary_file_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "test.jsonl"
    path.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(BadExam, match="not text"):
        read_exam(path)


def test_answers_may_be_as_long_as_the_longest_right_one(tmp_path: Path) -> None:
    path = tmp_path / "test.jsonl"
    path.write_text(lines("yes", "größer"))
    # a tokenizer of single bytes
    (tmp_path / "tokenizer.json").write_text(tiny_tokenizer().tokenizer)
    assert tokens_needed(read_exam(path), tmp_path) == 9


def test_lines_are_drawn_the_same_every_time_and_never_twice(tmp_path: Path) -> None:
    whole, one, two = tmp_path / "train.jsonl", tmp_path / "one", tmp_path / "two"
    whole.write_text(lines(*map(str, range(50))))
    for folder in (one, two):
        folder.mkdir()
    drawn = draw(whole, 20, one).read_text()
    assert draw(whole, 20, two).read_text() == drawn
    assert len(set(drawn.splitlines())) == 20
    assert set(drawn.splitlines()) <= set(whole.read_text().splitlines())
    assert len(draw(whole, 99, two).read_text().splitlines()) == 50


def test_exact_match_is_the_share_of_answers_word_for_word(world: World, tmp_path: Path) -> None:
    path = tmp_path / "test.jsonl"
    path.write_text(lines("answer of support:1", "answer", "answer of support:1 ", "Answer"))
    version = world.publish("support")
    assert score(world.client(), version.name, read_exam(path), max_tokens=9) == 0.5


@pytest.mark.parametrize(
    ("main", "words", "said"),
    [
        (overhead.main, ["--tokens", "0"], "whole number above 0"),
        (overhead.main, ["--concurrency", "many"], "whole number above 0"),
        (quality.main, ["--unit", "hr"], "required"),
        (quality.main, ["--unit", "../hr"], "beginning with a letter"),
        (quality.main, ["--train", "nowhere.jsonl"], "there is no file nowhere.jsonl"),
        (quality.main, ["--examples", "-1"], "whole number above 0"),
    ],
)
def test_wrong_words_are_refused_before_anything_starts(
    capsys: pytest.CaptureFixture[str],
    main: Callable[[list[str]], int],
    words: list[str],
    said: str,
) -> None:
    with pytest.raises(SystemExit) as ended:
        main(words)
    assert ended.value.code == 2
    assert said in capsys.readouterr().err


def test_an_unusable_test_file_ends_before_a_service_is_started(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "data.jsonl"
    path.write_text("nothing\n")
    files = [word for split in ("train", "valid", "test") for word in (f"--{split}", str(path))]
    assert quality.main([*files, "--unit", "hr"]) == 1
    assert "line 1" in capsys.readouterr().err
