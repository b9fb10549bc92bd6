"""A real engine, killed again and again: nothing acknowledged is lost, and no caller is refused.

`SOAK_KILLS` (4; `make soak` takes 200) is how many, of the service and of its engine's core in
turn.
"""

from __future__ import annotations

import os
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager

import httpx2
import openai
import psutil
import pytest

from adapters.settings import Settings
from service.launch.launcher import with_base
from tests.e2e.drawn import publish_drawn
from tests.e2e.stack import Stack, up, wait_for

KILLS = int(os.environ.get("SOAK_KILLS", "4"))
pytestmark = pytest.mark.timeout(3600 + 600 * KILLS)
CALLERS = 4
HANGS_SECONDS = 1800.0
"""For what hangs: a slow machine may take its time."""


@pytest.fixture(scope="module")
def killed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    with up(tmp_path_factory.mktemp("killed")) as started:
        yield started


class Versions:
    """Two that answer differently, live in turn."""

    def __init__(self, stack: Stack) -> None:
        settings = with_base(
            Settings(state=stack.state.root, units=stack.folder / "units", base="tiny")
        )
        self.names = [publish_drawn(settings, strength=float(n)).name for n in (2, 4)]
        self._stack = stack

    def promote(self, turn: int) -> str:
        """The name of the one that is live now, acknowledged."""
        version = self.names[turn % 2]
        with self._stack.http() as http:
            answer = http.post("/v1/adapters/support/promote", json={"version": version})
        assert answer.status_code == 200, answer.text
        assert answer.json()["state"] == "complete", answer.text
        return version


@contextmanager
def callers(stack: Stack) -> Iterator[Counter[str]]:
    """What callers met, each on a connection of its own, no request twice."""
    met: Counter[str] = Counter()
    stop = threading.Event()

    def call(number: int) -> None:
        url = f"{stack.url}/v1/chat/completions"
        headers = {"Authorization": f"Bearer {stack.key('support')}"}
        asked = 0
        while not stop.is_set():
            asked += 1
            words = f"question {asked} of {number}"
            body = {
                "model": "support",
                "messages": [{"role": "user", "content": words}],
                "max_tokens": 8,
            }
            try:
                answer = httpx2.post(url, json=body, headers=headers, timeout=HANGS_SECONDS)
            except httpx2.ConnectError:
                met["refused"] += 1
            except httpx2.HTTPError:
                met["cut off"] += 1
            else:
                met[str(answer.status_code)] += 1
                if answer.status_code != 200:
                    assert answer.json()["error"]["code"], answer.text
                    assert 0 < int(answer.headers["retry-after"]) <= 120
                    time.sleep(0.2)

    threads = [threading.Thread(target=call, args=(number,)) for number in range(CALLERS)]
    for thread in threads:
        thread.start()
    try:
        yield met
    finally:
        stop.set()
        for thread in threads:
            thread.join()


def kill_under_a_stream(stack: Stack, victim: psutil.Process, number: int) -> None:
    """Its reader must not take the end for a whole answer."""
    stream = stack.client().chat.completions.create(
        model="support", messages=[{"role": "user", "content": f"stream {number}"}],
        stream=True, max_tokens=900, extra_body={"ignore_eos": True},
    )  # fmt: skip
    next(iter(stream))
    victim.kill()
    with pytest.raises(openai.APIError):
        for _ in stream:
            pass


def test_kills_of_the_service_and_of_its_core_lose_nothing_and_refuse_nobody(
    killed: Stack,
) -> None:
    versions, took = Versions(killed), []
    versions.promote(1)
    with callers(killed) as met:
        for number in range(KILLS):
            live = versions.promote(number)
            service = killed.running("service.engine.vllm_engine")
            assert service is not None
            kill_under_a_stream(killed, killed.engine_core() if number % 2 else service, number)
            began = time.monotonic()
            wait_for(lambda: not killed.ready(), seconds=HANGS_SECONDS, what="it is gone")
            assert killed.http(None).get("/livez").status_code == 200
            wait_for(killed.ready, seconds=HANGS_SECONDS, what="it is back")
            took.append(time.monotonic() - began)
            with killed.http() as http:
                assert http.get("/v1/status").json()["missing"] == []
                route = http.get("/v1/adapters/support").json()["route"]
                assert route["stable"] == live
                shown = http.get("/metrics").text
            assert sum_of_restarts(shown) == number + 1
            answer = killed.client().chat.completions.create(
                model="support", messages=[{"role": "user", "content": f"after {number}"}],
                max_tokens=4,
            )  # fmt: skip
            assert answer.model == live
    print(f"{KILLS} kills, back after {min(took):.0f} to {max(took):.0f} s; met: {dict(met)}")
    assert met["refused"] == 0
    assert met["200"] > 0
    assert met["503"] > 0
    assert set(met) <= {"200", "503", "cut off"}


def sum_of_restarts(page: str) -> float:
    """Over all reasons."""
    name = "wardrobe_engine_restarts_total"
    lines = [line for line in page.splitlines() if line.startswith(name)]
    assert len(lines) == 4, "a series for every reason, from the start"
    return sum(float(line.rsplit(" ", 1)[1]) for line in lines)
