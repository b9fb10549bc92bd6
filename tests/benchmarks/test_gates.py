"""What the gates' benchmark plants."""

from __future__ import annotations

from typing import Any

from benchmarks.gates import CASES, _bounds, half_shuffled


def row(at: int) -> dict[str, Any]:
    asked = {"role": "user", "content": f"question {at}"}
    return {"messages": [asked, {"role": "assistant", "content": f"answer {at}"}]}


def test_half_of_the_answers_go_to_another_question_and_none_is_lost() -> None:
    rows = [row(at) for at in range(100)]
    shuffled = half_shuffled(rows, seed=3)
    assert [each["messages"][0] for each in shuffled] == [each["messages"][0] for each in rows]
    answers = [each["messages"][1]["content"] for each in shuffled]
    assert sorted(answers) == sorted(each["messages"][1]["content"] for each in rows)
    moved = sum(one != other for one, other in zip(shuffled, rows, strict=True))
    assert 40 <= moved <= 50
    assert half_shuffled(rows, seed=3) == shuffled


def test_the_cases_go_from_equal_to_clearly_worse() -> None:
    assert _bounds(CASES[0], 16, 3) == [0.0] * 3
    assert max(_bounds(CASES[-1], 16, 20)) < 0.1
