"""Exact match of greedy answers: the test file, asked through the API."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import openai
from openai.types.chat import ChatCompletionMessageParam
from tokenizers import Tokenizer

AT_ONCE = 16
MOST_TOKENS = 512


class BadExam(Exception):
    """The file cannot be used; says which line and why."""


@dataclass(frozen=True, kw_only=True)
class Question:
    """A conversation without its last answer, and that answer."""

    asked: Sequence[Mapping[str, Any]]
    answer: str


def read_exam(path: Path) -> list[Question]:
    """OpenAI chat JSONL whose every line ends with the answer. Raises BadExam, OSError."""
    try:
        lines = path.read_text("utf-8").splitlines()
    except UnicodeDecodeError:
        raise BadExam(f"{path} is not text") from None
    questions = [_question(path, number, line) for number, line in enumerate(lines, 1) if line]
    if not questions:
        raise BadExam(f"{path} holds no examples")
    return questions


def _question(path: Path, number: int, line: str) -> Question:
    try:
        *asked, answer = json.loads(line)["messages"]
        if answer["role"] == "assistant" and asked and isinstance(answer["content"], str):
            return Question(asked=asked, answer=answer["content"])
    except (ValueError, KeyError, TypeError):
        pass
    raise BadExam(f"{path}, line {number}: no conversation that ends with the assistant's answer")


def tokens_needed(questions: Sequence[Question], base: Path) -> int:
    """Tokens of the longest right answer and its end: who says more is wrong already."""
    tokenizer = Tokenizer.from_file(str(base / "tokenizer.json"))
    encoded = (tokenizer.encode(q.answer, add_special_tokens=False) for q in questions)
    return min(MOST_TOKENS, max(len(answer.ids) for answer in encoded) + 1)


def score(
    client: openai.OpenAI, model: str, questions: Sequence[Question], *, max_tokens: int
) -> float:
    """Share of questions answered word for word. Raises openai.APIError."""
    with ThreadPoolExecutor(AT_ONCE) as pool:
        right = pool.map(lambda question: _is_right(client, model, question, max_tokens), questions)
        return sum(right) / len(questions)


def _is_right(client: openai.OpenAI, model: str, question: Question, tokens: int) -> bool:
    answered = client.chat.completions.create(
        model=model,
        messages=cast(list[ChatCompletionMessageParam], list(question.asked)),
        max_tokens=tokens,
        temperature=0.0,
    )
    return (answered.choices[0].message.content or "").strip() == question.answer.strip()
