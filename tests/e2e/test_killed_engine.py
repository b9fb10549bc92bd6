"""A real service, killed again and again: nothing acknowledged is lost, and no caller is refused.

`make kills` runs it, with `KILLS` (20; `make soak` takes 200) of an API process and of the engine's
core in turn. It says how long the service was gone each time.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from statistics import median

import pytest

from adapters.settings import Settings
from service.launch.engine_guard import RECOVERED_AFTER
from service.launch.launcher import with_base
from tests.e2e.deaths import kill_under_a_stream, restarts, seconds_until_back
from tests.e2e.drawn import publish_drawn
from tests.e2e.stack import Stack, up
from tests.simulation.cluster import remembered
from tests.steady_callers import calling, check_nobody_was_refused

KILLS = int(os.environ.get("KILLS", "20"))
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
