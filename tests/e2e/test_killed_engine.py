"""A real service, killed again and again: nothing acknowledged is lost, and no caller is refused;
what it was answering each time is kept away from it; and it ends as it should when it is told to.

`make kills` runs it, with `KILLS` (20; `make soak` takes 200) of an API process and of the engine's
core in turn. It says how long the service was gone each time.
"""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from statistics import median

import httpx2
import openai
import psutil
import pytest

from adapters.settings import Settings
from service.launch.engine_guard import RECOVERED_AFTER
from service.launch.launcher import with_base
from tests.e2e.deaths import (
    HANGS_SECONDS,
    kill_under_a_stream,
    long_stream,
    restarts,
    seconds_until_back,
)
from tests.e2e.drawn import publish_drawn
from tests.e2e.stack import Stack, command, start, up, wait_for, write_units
from tests.service.world import free_port
from tests.simulation.cluster import remembered
from tests.steady_callers import calling, check_nobody_was_refused

KILLS = int(os.environ.get("KILLS", "20"))
BASE = "wardrobe-base"
pytestmark = [pytest.mark.kills, pytest.mark.timeout(3600 + 600 * KILLS)]


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
        self.acknowledged: list[str] = []
        self._stack = stack

    def promote(self, turn: int) -> str:
        """The name of the one that is live now, acknowledged."""
        version = self.names[turn % 2]
        answer = self._stack.http().post("/v1/adapters/support/promote", json={"version": version})
        assert answer.status_code == 200, answer.text
        assert answer.json()["state"] == "complete", answer.text
        self.acknowledged.append(version)
        return version


def check_nothing_is_lost(stack: Stack, live: str, *, kills: int) -> None:
    """Every live version is loaded, and what was acknowledged holds."""
    http = stack.http()
    assert http.get("/v1/status").json()["missing"] == []
    assert http.get("/v1/adapters/support").json()["route"]["stable"] == live
    assert restarts(stack) == kills
    answer = stack.client().chat.completions.create(
        model="support", messages=[{"role": "user", "content": f"after {kills}"}], max_tokens=4
    )
    assert answer.model == live


def test_kills_of_the_service_and_of_its_core_lose_nothing_and_refuse_nobody(
    killed: Stack,
) -> None:
    versions, took = Versions(killed), []
    versions.promote(1)
    with calling(killed.asking("support")) as met:
        for number in range(KILLS):
            live = versions.promote(number)
            # who dies younger than this is started again later each time, and that is not measured
            time.sleep(RECOVERED_AFTER)
            victim = killed.engine_core() if number % 2 else killed.service()
            kill_under_a_stream(killed, victim, f"stream {number}")
            took.append(seconds_until_back(killed))
            check_nothing_is_lost(killed, live, kills=number + 1)
    assert killed.http().get("/v1/audit/verify").json()["intact"] is True
    kept = [flip.version for flip in remembered(killed.page, "support")]
    assert kept == versions.acknowledged
    print(
        f"{KILLS} kills, back after {median(took):.0f} s in the middle and {max(took):.0f} s at "
        f"the longest; callers met {dict(met)}"
    )
    check_nobody_was_refused(met)


def refusal(stack: Stack, words: str) -> str | None:
    """The code with which these words are refused, as a stream; None where they are answered."""
    try:
        with long_stream(stack, words, model=BASE) as stream:
            next(iter(stream))
    except openai.BadRequestError as error:
        return error.code
    return None


def test_a_request_under_which_the_core_dies_twice_is_refused_until_an_operator_allows_it(
    killed: Stack,
) -> None:
    for _ in range(2):
        assert refusal(killed, "poison") is None
        kill_under_a_stream(killed, killed.engine_core(), "poison", model=BASE)
        seconds_until_back(killed)
    assert refusal(killed, "poison") == "request_quarantined"
    assert refusal(killed, "another") is None
    subprocess.run(
        command("engine", "quarantine", "clear"), env=killed.environment, check=True, timeout=600
    )
    assert refusal(killed, "poison") is None


def test_a_service_that_is_told_to_end_finishes_its_stream_and_leaves_nothing(
    tmp_path: Path,
) -> None:
    write_units(tmp_path / "units")
    stack = start(tmp_path, free_port(), WARDROBE_DRAIN_SECONDS=str(HANGS_SECONDS))
    family: list[psutil.Process] = []
    try:
        wait_for(stack.ready, seconds=HANGS_SECONDS, what="it is ready")
        family = psutil.Process(stack.process.pid).children(recursive=True)
        ask = stack.asking(BASE)
        stream = long_stream(stack, "hello", model=BASE)
        chunks = [next(stream)]
        stack.process.send_signal(signal.SIGTERM)
        met = ask_until_refused(ask)
        chunks += list(stream)
        assert chunks[-1].choices[0].finish_reason == "length"
        assert set(met) <= {"200", "draining", "gone"}, met
        assert stack.process.wait(HANGS_SECONDS) == 0, (tmp_path / "up.log").read_text()
        assert not [child for child in family if child.is_running() and child.status() != "zombie"]
    finally:
        for process in family:
            if process.is_running():
                process.kill()
        if stack.process.poll() is None:
            stack.process.kill()
        for client in stack.opened:
            client.close()


def ask_until_refused(ask: Callable[[str], httpx2.Response]) -> Counter[str]:
    """What new requests meet, up to the first that is not answered: told so while the stream runs,
    or nobody there where that was over first.
    """
    met: Counter[str] = Counter()
    while not met - Counter({"200": met["200"]}):
        try:
            answer = ask("new")
        except httpx2.HTTPError:
            met["gone"] += 1
        else:
            code = None if answer.status_code == 200 else answer.json()["error"]["code"]
            met[code or "200"] += 1
    return met
