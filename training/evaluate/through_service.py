"""Answers and log-probabilities through the running service, as any client would get them.

Evaluation never takes a second inference path: what is measured is the engine, the adapter as the
engine loaded it, and the chat template the service uses. A few questions are under way at once,
so that the engine can batch them.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, TypeVar

import httpx2

from adapters.errors import EngineUnavailable, NotPermitted, Rejected, Unavailable
from adapters.tls_trust import trust
from training.data.examples import as_said
from training.data.questions import Question
from training.evaluate.answers import Answer
from training.evaluate.retries import Patience, Verdict, first_trouble, judge, pause
from training.stopping import Stopped

T = TypeVar("T")

CONCURRENCY = 8
_TIMEOUT = httpx2.Timeout(1800.0, connect=30.0)
"""A dead service closes its connections: whoever is silent and alive is slow, which is no fault."""


class ServiceAnswers:
    """`Answers` over HTTP with the trainer's key."""

    def __init__(
        self,
        client: httpx2.Client,
        *,
        patience: Patience | None = None,
        stopping: Callable[[], bool] = lambda: False,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self._client = client
        self._patience = patience or Patience()
        self._stopping = stopping
        self._sleep = sleep

    def ask(self, model: str, questions: Sequence[Question]) -> list[Answer]:
        """See `Answers.ask`."""

        def ask_one(question: Question) -> Answer:
            body: dict[str, Any] = {
                "model": model,
                "messages": [message.as_request() for message in question.prompt],
                "max_tokens": question.max_tokens,
                "temperature": 0.0,
                "seed": 0,
            }
            if question.tools:
                body["tools"] = list(question.tools)
            return _answer(self._told("/v1/chat/completions", model, body))

        return _each(ask_one, questions)

    def log_probs(self, model: str, questions: Sequence[Question]) -> list[list[float]]:
        """See `Answers.log_probs`. The trainer's key alone may ask for them."""

        def score_one(question: Question) -> list[float]:
            places = self._scored(model, question, top=0)
            reference = question.ids[question.answer_start :]
            return [place[token] for token, place in zip(reference, places, strict=True)]

        return _each(score_one, questions)

    def top_log_probs(
        self, model: str, questions: Sequence[Question], top: int
    ) -> list[list[Mapping[int, float]]]:
        """See `Answers.top_log_probs`. The trainer's key alone may ask for them."""
        return _each(lambda question: self._scored(model, question, top=top), questions)

    def _scored(self, model: str, question: Question, *, top: int) -> list[Mapping[int, float]]:
        body = {
            "model": model,
            "prompt": list(question.ids),
            "prompt_logprobs": top,
            "max_tokens": 1,
            "temperature": 0.0,
        }
        return _places(self._told("/v1/completions", model, body), question)

    def _told(self, path: str, model: str, body: Mapping[str, Any]) -> dict[str, Any]:
        """The only choice of the service's answer, once there is one.

        Raises Rejected when another model gave it, and what `Answers` says.
        """
        attempt, trouble = 0, None
        while True:
            status, answer, retry_after = self._post(path, body)
            if status == 200:
                return _choice(answer, model)
            now = time.monotonic()
            trouble = trouble.then(status, now=now) if trouble else first_trouble(status, now=now)
            verdict = judge(trouble, now=now, patience=self._patience)
            if verdict is not Verdict.AGAIN:
                raise _failure(verdict, status, answer, model)
            if self._stopping():
                raise Stopped
            self._sleep(pause(attempt, retry_after=retry_after))
            attempt += 1

    def _post(self, path: str, body: Mapping[str, Any]) -> tuple[int | None, Any, str | None]:
        """(status, decoded body, Retry-After); a status of None is no answer at all."""
        try:
            response = self._client.post(path, json=body)
            return response.status_code, response.json(), response.headers.get("retry-after")
        except (httpx2.TransportError, ValueError):
            return None, None, None


def service_client(url: str, key: str, *, authority: Path | None = None) -> httpx2.Client:
    """A client of the service with the trainer's key; close it when done.

    `authority`: see `trust`. Raises InvalidRequest for one that cannot be read.
    """
    return httpx2.Client(
        verify=trust(authority),
        base_url=url,
        headers={"authorization": f"Bearer {key}"},
        timeout=_TIMEOUT,
        limits=httpx2.Limits(max_connections=CONCURRENCY),
        trust_env=False,
    )


def _each(ask: Callable[[Question], T], questions: Sequence[Question]) -> list[T]:
    """A few at once; the first that fails ends them all."""
    with ThreadPoolExecutor(CONCURRENCY, thread_name_prefix="ask") as pool:
        waiting = [pool.submit(ask, question) for question in questions]
        try:
            return [future.result() for future in waiting]
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise


def _choice(body: Any, model: str) -> dict[str, Any]:
    if body.get("model") != model:
        raise Rejected(f"the service answered for {model} under another name")
    choice: dict[str, Any] = body["choices"][0]
    return choice


def _answer(choice: Mapping[str, Any]) -> Answer:
    said = choice["message"]
    calls = (call["function"] for call in said.get("tool_calls") or ())
    text = as_said(said.get("content") or "", ((call["name"], call["arguments"]) for call in calls))
    return Answer(text=text, cut=choice.get("finish_reason") == "length")


def _places(choice: Mapping[str, Any], question: Question) -> list[Mapping[int, float]]:
    """vLLM gives a mapping of token to log-probability for each place of the prompt but the first.

    Raises EngineUnavailable where it has not scored the very tokens that were asked about.
    """
    places = (choice.get("prompt_logprobs") or [])[question.answer_start :]
    reference = question.ids[question.answer_start :]
    try:
        scored = [
            {int(token): float(said["logprob"]) for token, said in place.items()}
            for place in places
        ]
        if all(token in place for token, place in zip(reference, scored, strict=True)):
            return list(scored)
    except (AttributeError, KeyError, TypeError, ValueError):
        pass
    raise EngineUnavailable("the service has not scored the tokens it was given") from None


def _failure(verdict: Verdict, status: int | None, answer: Any, model: str) -> Exception:
    said = _message(answer)
    if status in (401, 403):
        return NotPermitted(
            "the service does not accept the trainer's key: it was revoked, or the two use "
            "different state folders or trainer keys"
        )
    if verdict is Verdict.MODEL_REFUSED:
        return Rejected(f"the service cannot serve {model}: it answers {status}{said}")
    if _part(answer, "code") == "version_unavailable":
        return Unavailable(
            f"the service could not serve {model} in all this time{said}; mend that, then start "
            "the job again",
            code="version_unavailable",
        )
    if status is None or status in (429, 502, 503, 504):
        return Unavailable(
            f"the service did not answer for {model} in time; check that it runs, then start the "
            "job again",
            code="service_unavailable",
        )
    return EngineUnavailable(f"the service answers {status} for {model}{said}")


def _message(answer: Any) -> str:
    """The envelope's words, which hold no content; nothing where it is not our envelope."""
    message = _part(answer, "message")
    return f" ({message})" if message else ""


def _part(answer: Any, name: str) -> str | None:
    error = answer.get("error") if isinstance(answer, dict) else None
    part = error.get(name) if isinstance(error, dict) else None
    return part if isinstance(part, str) else None
