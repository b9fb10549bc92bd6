"""Eight applications that keep calling one alias, streaming and not, and note all they get."""

from __future__ import annotations

import itertools
import threading
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import openai

from examples.demo.data import Example
from examples.demo.verdict import Call, Reference
from service.cli.client import Client

NOTICED_WITHIN = 0.5
"""Seconds after which a changed pace is noticed."""
WHOLE_ANSWER = 96
"""Tokens that hold any answer of the units' data."""
SHOWN_TOKENS = 40
"""Of an answer that is shown: what a base says beyond is chatter, and slow machines pay for it."""
FIRST_TOKENS = 8
"""Of an answer that only has to tell two versions apart, which its first word does."""
ANSWER_SECONDS = 600.0
"""A slow machine is no fault: who waits longer for an answer waits for nothing."""


class Callers:
    """`count` threads in a closed loop over `questions`, each pausing `pace` seconds a round.

    `pace` may be changed while they call.
    """

    def __init__(
        self,
        client: Client,
        model: str,
        questions: Sequence[Example],
        *,
        count: int,
        pace: float,
        max_tokens: int = WHOLE_ANSWER,
    ) -> None:
        # no retries: what goes wrong once must be seen
        self._sdk = client.openai.with_options(max_retries=0, timeout=ANSWER_SECONDS)
        self._model = model
        self._questions = questions
        self._count = count
        self._max_tokens = max_tokens
        self.pace = pace
        self._stop = threading.Event()
        self.calls: list[Call] = []

    @contextmanager
    def calling(self) -> Iterator[None]:
        """They call while the body runs; at the end each finishes the answer it is waiting for."""
        threads = [
            threading.Thread(target=self._run, args=(number,), name=f"caller-{number}", daemon=True)
            for number in range(self._count)
        ]
        for thread in threads:
            thread.start()
        try:
            yield
        finally:
            self._stop.set()
            for thread in threads:
                thread.join(ANSWER_SECONDS + 5.0)

    def answered(self, *, since: float) -> int:
        """Calls that were begun after `since` (monotonic seconds) and have ended, well or not."""
        return sum(call.started > since for call in tuple(self.calls))

    def _run(self, number: int) -> None:
        for turn in itertools.count(number):
            if self._stopped_while_thinking():
                return
            question = turn % len(self._questions)
            # half of the callers begin with a stream, and each alternates
            self.calls.append(
                self._call(question, streamed=(turn // self._count + number) % 2 == 0)
            )

    def _stopped_while_thinking(self) -> bool:
        """Whether they were stopped within the pace in force, which may be changed meanwhile."""
        began = time.monotonic()
        while (left := began + self.pace - time.monotonic()) > 0:
            if self._stop.wait(min(left, NOTICED_WITHIN)):
                return True
        return self._stop.is_set()

    def _call(self, question: int, *, streamed: bool) -> Call:
        started = time.monotonic()
        names: set[str] = set()
        text, finish, problem = "", None, None
        try:
            raw = self._sdk.chat.completions.with_raw_response.create(
                **request(self._model, self._questions[question], max_tokens=self._max_tokens),
                stream=streamed,
            )
            names.add(raw.headers.get("x-adapter-version", "(no header)"))
            answer: Any = raw.parse()
            for part in answer if streamed else [answer]:
                names.add(part.model)
                for choice in part.choices:
                    said = choice.delta if streamed else choice.message
                    text += said.content or ""
                    finish = choice.finish_reason or finish
        except (openai.OpenAIError, OSError, ValueError) as error:
            problem = type(error).__name__
        return Call(
            question=question,
            streamed=streamed,
            names=frozenset(names),
            text=text,
            finish=finish,
            error=problem,
            started=started,
            ended=time.monotonic(),
        )


def request(model: str, example: Example, *, max_tokens: int = WHOLE_ANSWER) -> dict[str, Any]:
    """A greedy chat request."""
    return {
        "model": model,
        "messages": list(example.asked),
        "temperature": 0.0,
        "max_tokens": max_tokens,
    }


def references(
    client: Client,
    version: str,
    questions: Sequence[Example],
    *,
    at_once: int,
    max_tokens: int = WHOLE_ANSWER,
) -> list[Reference]:
    """What a version alone answers to each question, and how sure of each word it is.

    Every question is asked with 1, 2, … `at_once` answers of this version under way, and nothing
    else should be.
    """
    found = [_alone(client, version, example, max_tokens) for example in questions]
    for size in range(1, at_once + 1):
        with ThreadPoolExecutor(size, thread_name_prefix="reference") as pool:
            texts = pool.map(
                lambda example: ask(client, version, example, max_tokens=max_tokens), questions
            )
            found = [
                replace(one, texts=one.texts | {text})
                for one, text in zip(found, texts, strict=True)
            ]
    return found


def _alone(client: Client, version: str, example: Example, max_tokens: int) -> Reference:
    answer = client.openai.chat.completions.create(
        **request(version, example, max_tokens=max_tokens), logprobs=True, top_logprobs=2
    ).choices[0]
    tokens = (answer.logprobs.content if answer.logprobs else None) or []
    margins = [
        token.top_logprobs[0].logprob - token.top_logprobs[1].logprob
        for token in tokens
        if len(token.top_logprobs) > 1
    ]
    return Reference(
        texts=frozenset({answer.message.content or ""}), margin=min(margins, default=0.0)
    )


def ask(client: Client, model: str, example: Example, *, max_tokens: int) -> str:
    """One greedy answer."""
    answer = client.openai.chat.completions.create(**request(model, example, max_tokens=max_tokens))
    return answer.choices[0].message.content or ""
