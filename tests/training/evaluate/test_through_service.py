"""Asking the service: retries while it restarts, and a clear word when it cannot."""

from __future__ import annotations

import http.server
import json
import ssl
import threading
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx2
import pytest

from adapters.errors import EngineUnavailable, InvalidRequest, NotPermitted, Rejected, Unavailable
from tests.servers.certificates import write_pair
from training.data.examples import Message
from training.data.questions import Question
from training.evaluate.answers import Answer
from training.evaluate.retries import Patience, Verdict, first_trouble, judge, pause
from training.evaluate.through_service import ServiceAnswers, service_client
from training.stopping import Stopped

NOW = Patience(unavailable=0.0, unknown_model=0.0, failing=0.0)


def questions(count: int = 1) -> list[Question]:
    return [
        Question(
            row=str(at),
            prompt=(Message(role="user", content=f"question {at}"),),
            reference=f"answer {at}",
            max_tokens=9,
            ids=(1, 2, 3),
            answer_start=2,
        )
        for at in range(count)
    ]


def service(answer: Callable[[httpx2.Request], httpx2.Response], **options: Any) -> ServiceAnswers:
    client = httpx2.Client(
        transport=httpx2.MockTransport(answer), base_url="http://service", trust_env=False
    )
    return ServiceAnswers(client, sleep=lambda _seconds: None, **options)


def good(request: httpx2.Request, *, finish: str = "stop") -> httpx2.Response:
    body = json.loads(request.content)
    asked = body["messages"][-1]["content"]
    message = {"role": "assistant", "content": asked.replace("question", "answer")}
    choices = [{"message": message, "finish_reason": finish}]
    return httpx2.Response(200, json={"model": body["model"], "choices": choices})


def error(status: int, message: str = "no", code: str = "x") -> httpx2.Response:
    body = {"error": {"message": message, "type": "x", "param": None, "code": code}}
    return httpx2.Response(status, json=body)


def test_answers_come_back_in_the_order_of_their_questions() -> None:
    answers = service(good).ask("support:1", questions(40))
    assert answers == [Answer(text=f"answer {at}") for at in range(40)]


def test_the_request_is_greedy_and_bounded() -> None:
    seen: list[dict[str, Any]] = []

    def answer(request: httpx2.Request) -> httpx2.Response:
        seen.append(json.loads(request.content))
        return good(request, finish="length")

    assert service(answer).ask("support:1", questions()) == [Answer(text="answer 0", cut=True)]
    (body,) = seen
    assert (body["model"], body["temperature"], body["max_tokens"]) == ("support:1", 0.0, 9)


def test_a_restarting_service_is_asked_again_until_it_answers() -> None:
    statuses = iter([503, 429, 404, 500, None, 502])

    def answer(request: httpx2.Request) -> httpx2.Response:
        status = next(statuses, 200)
        if status is None:
            raise httpx2.ConnectError("refused")
        return good(request) if status == 200 else error(status)

    assert service(answer).ask("support:1", questions()) == [Answer(text="answer 0")]


@pytest.mark.parametrize(
    ("status", "raised", "said"),
    [
        (404, Rejected, "cannot serve support:1: it answers 404 (unknown)"),
        (500, Rejected, "cannot serve support:1: it answers 500 (unknown)"),
        (503, Unavailable, "did not answer for support:1 in time"),
        (401, NotPermitted, "does not accept the trainer's key"),
        (400, EngineUnavailable, "answers 400 for support:1 (unknown)"),
    ],
)
def test_what_does_not_pass_is_raised_by_its_kind(
    status: int, raised: type[Exception], said: str
) -> None:
    asked = service(lambda _request: error(status, "unknown"), patience=NOW)
    with pytest.raises(raised) as caught:
        asked.ask("support:1", questions(3))
    assert said in str(caught.value)


def test_why_the_version_could_not_be_served_is_said() -> None:
    why = "support:1 cannot be served now: the artifact store does not answer"
    asked = service(lambda _request: error(503, why, "version_unavailable"), patience=NOW)
    with pytest.raises(Unavailable, match="the artifact store does not answer") as caught:
        asked.ask("support:1", questions())
    assert caught.value.reason == "version_unavailable"


def test_an_answer_under_another_name_is_refused() -> None:
    def other(request: httpx2.Request) -> httpx2.Response:
        return httpx2.Response(200, json=json.loads(good(request).content) | {"model": "tiny"})

    with pytest.raises(Rejected, match="under another name"):
        service(other).ask("support:1", questions())


def test_waiting_ends_when_the_run_is_asked_to_stop() -> None:
    with pytest.raises(Stopped):
        service(lambda _request: error(503), stopping=lambda: True).ask("support:1", questions())


@pytest.mark.parametrize(
    ("status", "waited", "verdict"),
    [
        (503, 1799.0, Verdict.AGAIN),
        (503, 1801.0, Verdict.GIVE_UP),
        (None, 1799.0, Verdict.AGAIN),
        (429, 1.0, Verdict.AGAIN),
        (404, 119.0, Verdict.AGAIN),
        (404, 121.0, Verdict.MODEL_REFUSED),
        (500, 19.0, Verdict.AGAIN),
        (500, 21.0, Verdict.MODEL_REFUSED),
        (400, 0.0, Verdict.GIVE_UP),
        (403, 0.0, Verdict.GIVE_UP),
    ],
)
def test_each_kind_of_failure_has_its_own_patience(
    status: int | None, waited: float, verdict: Verdict
) -> None:
    trouble = first_trouble(status, now=100.0)
    assert judge(trouble, now=100.0 + waited, patience=Patience()) is verdict


def test_a_model_unknown_right_after_a_long_restart_gets_its_own_time() -> None:
    trouble = first_trouble(503, now=0.0).then(503, now=200.0).then(404, now=210.0)
    assert judge(trouble, now=211.0, patience=Patience()) is Verdict.AGAIN
    assert judge(trouble, now=331.0, patience=Patience()) is Verdict.MODEL_REFUSED


def test_failures_of_all_kinds_in_turn_end_too() -> None:
    trouble = first_trouble(503, now=0.0)
    for at in range(1, 370):
        trouble = trouble.then(404 if at % 2 else 503, now=at * 10.0)
    assert judge(trouble, now=3700.0, patience=Patience()) is Verdict.GIVE_UP


def test_pauses_double_up_to_a_limit_and_obey_retry_after() -> None:
    assert [pause(attempt, retry_after=None) for attempt in (0, 1, 2, 20)] == [0.25, 0.5, 1.0, 10]
    assert pause(0, retry_after="3") == 3.0
    assert pause(0, retry_after="120") == 10.0
    assert pause(0, retry_after="Wed, 21 Oct 2026 07:28:00 GMT") == 0.25


# -- log-probabilities


def scored(request: httpx2.Request, **change: Any) -> httpx2.Response:
    """As vLLM answers `prompt_logprobs: 0`: nothing for the first place."""
    body = json.loads(request.content)
    places = [None] + [{str(t): {"logprob": -t / 8, "rank": 1}} for t in body["prompt"][1:]]
    choice = {"text": "x", "prompt_logprobs": places, "finish_reason": "length"} | change
    return httpx2.Response(200, json={"model": body["model"], "choices": [choice]})


def test_the_log_probabilities_are_those_of_the_reference_and_of_nothing_else() -> None:
    seen: list[dict[str, Any]] = []

    def answer(request: httpx2.Request) -> httpx2.Response:
        seen.append(json.loads(request.content))
        return scored(request)

    asked = [replace(question, answer_start=1) for question in questions(3)]
    assert service(answer).log_probs("support:1", asked) == [[-2 / 8, -3 / 8]] * 3
    assert seen[0] == {
        "model": "support:1",
        "prompt": [1, 2, 3],
        "prompt_logprobs": 0,
        "max_tokens": 1,
        "temperature": 0.0,
    }


@pytest.mark.parametrize("places", [None, [None, None, None], [None, {"2": {"logprob": -1.0}}]])
def test_a_service_that_has_not_scored_the_tokens_it_was_given_is_an_error(places: Any) -> None:
    asked = service(lambda request: scored(request, prompt_logprobs=places))
    with pytest.raises(EngineUnavailable, match="has not scored"):
        asked.log_probs("support:1", questions())


def test_log_probabilities_are_asked_for_again_as_answers_are() -> None:
    statuses = iter([503, 404])

    def answer(request: httpx2.Request) -> httpx2.Response:
        status = next(statuses, 200)
        return scored(request) if status == 200 else error(status)

    assert service(answer).log_probs("support:1", questions()) == [[-3 / 8]]


@contextmanager
def encrypted_service(pair: tuple[Path, Path]) -> Iterator[str]:
    """Answers every GET with 404, over TLS."""
    server = http.server.HTTPServer(("127.0.0.1", 0), http.server.BaseHTTPRequestHandler)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(*pair)
    server.socket = context.wrap_socket(server.socket, server_side=True)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    try:
        yield f"https://127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


@pytest.mark.parametrize("told_by", ["setting", "environment", "nobody"])
def test_a_certificate_is_believed_by_the_authority_that_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, told_by: str
) -> None:
    pair = write_pair(tmp_path, "localhost")
    if told_by == "environment":
        monkeypatch.setenv("SSL_CERT_FILE", str(pair[0]))
    authority = pair[0] if told_by == "setting" else None
    with (
        encrypted_service(pair) as url,
        closing(service_client(url, "key", authority=authority)) as client,
    ):
        if told_by == "nobody":
            with pytest.raises(httpx2.ConnectError, match="certificate"):
                client.get("/readyz")
        else:
            assert client.get("/readyz").status_code == 501


def test_an_authority_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    for content in (None, b"no certificate"):
        path = tmp_path / "ca.crt"
        if content is not None:
            path.write_bytes(content)
        with pytest.raises(InvalidRequest, match="WARDROBE_SERVICE_CA"):
            service_client("https://localhost", "key", authority=path)
