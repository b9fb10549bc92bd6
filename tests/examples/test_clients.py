"""The client snippets are valid programs, and the job they start is followed to its end."""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import httpx2
import pytest
from openai import OpenAI

from examples.clients import finetune
from tests.examples.data_files import DATA, ROOT

CLIENTS = ROOT / "examples" / "clients"


@pytest.mark.parametrize("path", sorted(CLIENTS.glob("*.py")), ids=lambda path: path.name)
def test_a_python_snippet_compiles(path: Path) -> None:
    compile(path.read_text(encoding="utf-8"), str(path), "exec")


def test_the_shell_snippet_is_valid_bash() -> None:
    subprocess.run(["bash", "-n", str(CLIENTS / "chat.sh")], check=True, timeout=20)


@pytest.mark.skipif(shutil.which("node") is None, reason="node is not installed")
def test_the_node_snippet_is_valid() -> None:
    subprocess.run(["node", "--check", str(CLIENTS / "chat.mjs")], check=True, timeout=20)


@pytest.mark.parametrize("name", ["chat.py", "finetune.py", "chat.mjs", "chat.sh"])
def test_a_snippet_says_how_to_run_it_and_which_settings_it_reads(name: str) -> None:
    text = (CLIENTS / name).read_text(encoding="utf-8")
    assert "Run: " in text
    assert "OPENAI_BASE_URL" in text
    assert "OPENAI_API_KEY" in text


def test_the_first_exchange_of_a_file_is_what_stands_in_its_first_line() -> None:
    path = DATA / "support" / "test.jsonl"
    messages = json.loads(path.read_text(encoding="utf-8").splitlines()[0])["messages"]
    assert finetune.first_exchange(path) == tuple(m["content"] for m in messages)


def test_following_a_job_prints_each_event_once_and_oldest_first(
    capsys: pytest.CaptureFixture[str],
) -> None:
    service = _TwoLookService()
    job = finetune.follow(_client(service.gateway.response), "ftjob-1", pause=0)
    assert job.fine_tuned_model == "support:1"
    assert capsys.readouterr().out.splitlines() == ["info  queued", "info  started", "info  done"]


@pytest.mark.timeout(20)
def test_a_paused_job_is_not_followed_for_ever() -> None:
    def answer(request: httpx2.Request) -> httpx2.Response:
        if request.url.path.endswith("/events"):
            return httpx2.Response(200, json={"object": "list", "data": [], "has_more": False})
        return httpx2.Response(200, json=_job(done=False) | {"status": "paused"})

    status: str = finetune.follow(_client(answer), "ftjob-1", pause=0).status
    assert status == "paused"


@pytest.mark.parametrize("alias", [None, "hr-screening"])
def test_the_adapter_is_named_by_an_alias_or_not_at_all(alias: str | None) -> None:
    sent: list[dict[str, object]] = []

    def answer(request: httpx2.Request) -> httpx2.Response:
        if request.url.path.endswith("/files"):
            return httpx2.Response(200, json={"id": "file-1", "object": "file"})
        sent.append(json.loads(request.content))
        return httpx2.Response(200, json=_job(done=False))

    finetune.start(_client(answer), "base", DATA / "hr", alias)
    assert sent[0]["suffix"] == alias


def _client(answer: Callable[[httpx2.Request], httpx2.Response]) -> OpenAI:
    return OpenAI(
        base_url="http://service.test/v1",
        api_key="any",
        http_client=httpx2.Client(transport=httpx2.MockTransport(answer)),
    )


class _TwoLookService:
    """Answers as a service whose job is running at the first look and done at the second."""

    def __init__(self) -> None:
        self._looks = 0

    def answer(self, request: httpx2.Request) -> httpx2.Response:
        if request.url.path.endswith("/events"):
            messages = ("queued", "started", "done")[: self._looks + 1]
            events = [_event(number, message) for number, message in enumerate(messages)]
            page = {"object": "list", "data": events[::-1], "has_more": False}
            return httpx2.Response(200, json=page)
        self._looks += 1
        return httpx2.Response(200, json=_job(done=self._looks == 2))


def _event(number: int, message: str) -> dict[str, object]:
    return {
        "id": f"ftevent-{number}",
        "object": "fine_tuning.job.event",
        "created_at": number,
        "level": "info",
        "message": message,
    }


def _job(*, done: bool) -> dict[str, object]:
    return {
        "id": "ftjob-1",
        "object": "fine_tuning.job",
        "status": "succeeded" if done else "running",
        "fine_tuned_model": "support:1" if done else None,
    }
