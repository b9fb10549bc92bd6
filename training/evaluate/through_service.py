"""Held-out answers through the running service, as any client would get them.

Evaluation never takes a second inference path: what is measured is the engine, the adapter as the
engine loaded it, and the chat template the service uses. A few questions are under way at once,
so that the engine can batch them.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx2

from adapters.errors import EngineUnavailable, NotPermitted, Rejected, Unavailable
from training.data.questions import Question
from training.evaluate.answers import Answer
from training.evaluate.retries import Patience, Verdict, first_trouble, judge, pause
from training.stopping import Stopped

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
        with ThreadPoolExecutor(CONCURRENCY, thread_name_prefix="ask") as pool:
            waiting = [pool.submit(self._ask_one, model, each) for each in questions]
            try:
                return [future.result() for future in waiting]
            except BaseException:
                pool.shutdown(wait=False, cancel_futures=True)
                raise

    def _ask_one(self, model: str, question: Question) -> Answer:
        body = {
            "model": model,
            "messages": [message.as_chat() for message in question.prompt],
            "max_tokens": question.max_tokens,
            "temperature": 0.0,
            "seed": 0,
        }
        attempt, trouble = 0, None
        while True:
            status, answer, retry_after = self._post(body)
            if status == 200:
                return _answer(answer, model)
            now = time.monotonic()
            trouble = trouble.then(status, now=now) if trouble else first_trouble(status, now=now)
            verdict = judge(trouble, now=now, patience=self._patience)
            if verdict is not Verdict.AGAIN:
                raise _failure(verdict, status, answer, model)
            if self._stopping():
                raise Stopped
            self._sleep(pause(attempt, retry_after=retry_after))
            attempt += 1

    def _post(self, body: dict[str, Any]) -> tuple[int | None, Any, str | None]:
        """(status, decoded body, Retry-After); a status of None is no answer at all."""
        try:
            response = self._client.post("/v1/chat/completions", json=body)
            return response.status_code, response.json(), response.headers.get("retry-after")
        except (httpx2.TransportError, ValueError):
            return None, None, None


def service_client(url: str, key: str) -> httpx2.Client:
    """A client of the service with the trainer's key; close it when done."""
    return httpx2.Client(
        base_url=url,
        headers={"authorization": f"Bearer {key}"},
        timeout=_TIMEOUT,
        limits=httpx2.Limits(max_connections=CONCURRENCY),
        trust_env=False,
    )


def _answer(body: Any, model: str) -> Answer:
    """Raises Rejected when another model gave the answer."""
    if body.get("model") != model:
        raise Rejected(f"the service answered for {model} under another name")
    choice = body["choices"][0]
    return Answer(
        text=choice["message"]["content"] or "", cut=choice.get("finish_reason") == "length"
    )


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
