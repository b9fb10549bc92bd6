"""An engine that is killed, hangs or dies of a request comes back, and no caller is refused."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections import Counter
from pathlib import Path
from typing import Any

import httpx2
import openai
import pytest

from service.engine.quarantine import LOAD_DEATHS
from tests.servers.certificates import write_pair
from tests.simulation.cluster import Cluster
from tests.simulation.core import FATAL
from tests.simulation.guarded import Guarded, guarded, make_live, wait_for
from tests.simulation.replica import WAIT_SECONDS
from tests.steady_callers import calling, check_nobody_was_refused

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1200)]

KILLS = int(os.environ.get("SIMULATED_KILLS", "4"))


def promote(replica: Guarded, version: str) -> None:
    answer = replica.post("/v1/adapters/support/promote", version=version)
    assert answer.status_code == 200, answer.text
    assert answer.json()["state"] == "complete", answer.text


def test_a_service_killed_again_and_again_loses_nothing_acknowledged_and_refuses_nobody(
    tmp_path: Path,
) -> None:
    with guarded(tmp_path) as replica:
        promote(replica, replica.house.publish("support"))
        took = []
        with calling(lambda words: replica.chat("support", words)) as met:
            for _ in range(KILLS):
                version = replica.house.publish("support")
                promote(replica, version)
                replica.signal_service(signal.SIGKILL)
                wait_for(lambda: replica.readiness() == 503, what="it is gone")
                assert replica.get("/livez").status_code == 200, "a probe must not end the pod"
                took.append(replica.wait_ready())
                answer = replica.chat("support", f"after {version}")
                assert answer.status_code == 200, answer.text
                assert answer.headers["x-adapter-version"] == version
        print(f"{KILLS} kills, recovered in {min(took):.1f}..{max(took):.1f} s: {dict(met)}")
        check_nobody_was_refused(met)
        assert replica.restarts() == {"signal": KILLS}


def test_a_death_behind_tls_is_told_over_tls(tmp_path: Path) -> None:
    certificate, key = write_pair(tmp_path, "one")
    with guarded(tmp_path, WARDROBE_TLS_CERT=certificate, WARDROBE_TLS_KEY=key) as replica:
        promote(replica, replica.house.publish("support"))
        with calling(lambda words: replica.chat("support", words)) as met:
            wait_for(lambda: met["200"], what="callers are answered")
            replica.signal_service(signal.SIGKILL)
            wait_for(lambda: replica.readiness() == 503, what="it is gone")
            with pytest.raises(httpx2.HTTPError):
                httpx2.get(f"http://127.0.0.1:{replica.port}/livez", timeout=60, trust_env=False)
            replica.wait_ready()
            assert replica.chat("support", "after").status_code == 200
        check_nobody_was_refused(met)
        assert replica.restarts() == {"signal": 1}


def test_a_request_that_kills_the_engine_twice_is_refused_and_those_beside_it_are_answered(
    tmp_path: Path,
) -> None:
    poison = f"please {FATAL} now"
    with guarded(tmp_path, SIMULATED_STEP_SECONDS=0.05) as replica:
        promote(replica, replica.house.publish("support", words=40))
        for _ in range(2):
            # the same innocents beside it both times, as clients that repeat are
            asked = [
                threading.Thread(target=ask_until_answered, args=(replica, n)) for n in range(3)
            ]
            for thread in asked:
                thread.start()
            time.sleep(0.3)
            assert replica.chat("support", poison).status_code in (500, 503)
            wait_for(lambda: replica.readiness() == 503, what="it has died")
            replica.wait_ready()
            for thread in asked:
                thread.join()
        refused = replica.chat("support", poison)
        assert (refused.status_code, refused.json()["error"]["code"]) == (
            400,
            "request_quarantined",
        )
        for number in range(3):
            assert replica.chat("support", f"innocent {number}").status_code == 200
        assert replica.restarts() == {"exit": 2}


def ask_until_answered(replica: Guarded, number: int) -> None:
    """As the SDK does: the same request again, until it is answered."""
    while True:
        try:
            if replica.chat("support", f"innocent {number}").status_code == 200:
                return
        except httpx2.HTTPError:
            pass
        time.sleep(0.2)


def test_a_live_version_whose_load_ends_the_engine_is_given_up_and_everybody_else_is_served(
    tmp_path: Path,
) -> None:
    def both_live(house: Cluster) -> None:
        make_live(house, house.publish("support"))
        make_live(house, house.publish_text("sales", f"some {FATAL} words"))

    with guarded(tmp_path, before=both_live) as replica:
        assert replica.restarts() == {"exit": LOAD_DEATHS}
        assert replica.chat("support", "hi").status_code == 200
        refused = replica.chat("sales", "hi")
        assert refused.status_code == 503
        assert refused.json()["error"]["code"] == "version_unavailable"


def test_a_service_that_says_nothing_for_too_long_is_ended_and_started_again(
    tmp_path: Path,
) -> None:
    with guarded(tmp_path, WARDROBE_ENGINE_SILENCE_SECONDS=10) as replica:
        before = replica.service()
        replica.signal_service(signal.SIGSTOP)
        answer = replica.chat("wardrobe-base", "hi")  # waits in the socket, and is answered
        assert answer.status_code == 503
        replica.wait_ready()
        assert replica.service() != before
        assert replica.restarts() == {"unresponsive": 1}
        assert "has said nothing for too long; starting it again in 1 s" in replica.said


def stream_of(replica: Guarded) -> Any:
    """A stream of the real SDK, which repeats nothing by itself."""
    client = openai.OpenAI(
        base_url=f"{replica.url}/v1", api_key=replica.headers["Authorization"][7:], max_retries=0
    )
    return client.chat.completions.create(
        model="support", messages=[{"role": "user", "content": "hi"}], stream=True, max_tokens=60
    )


def test_a_drained_replica_finishes_its_streams_and_refuses_no_connection_until_it_is_gone(
    tmp_path: Path,
) -> None:
    with guarded(tmp_path, SIMULATED_STEP_SECONDS=0.1) as replica:
        version = replica.house.publish("support", words=40)
        promote(replica, version)
        stream = stream_of(replica)
        chunks = [next(stream)]
        replica.popen.send_signal(signal.SIGTERM)
        wait_for(lambda: replica.readiness() == 503, what="it drains")
        assert replica.get("/livez").status_code == 200
        refused = replica.chat("support", "new")
        assert (refused.status_code, refused.json()["error"]["code"]) == (503, "draining")
        assert refused.headers["connection"] == "close"
        chunks += list(stream)
        said = "".join(chunk.choices[0].delta.content or "" for chunk in chunks)
        assert said.split() == replica.house.texts[version].split()
        assert chunks[-1].choices[0].finish_reason == "stop"
        met: Counter[str] = Counter()
        while replica.popen.poll() is None:
            try:
                met[str(replica.chat("support", "late").status_code)] += 1
            except httpx2.HTTPError as error:
                met[type(error).__name__] += 1
                gone = time.monotonic()
                wait_for(lambda: replica.popen.poll() is not None, what="it ends")
                assert time.monotonic() - gone < 5.0, "refused long before its end"
        assert met["503"] > 0
        assert set(met) <= {"503", "ConnectError", "ReadError", "RemoteProtocolError"}


def test_an_answer_that_a_drain_does_not_wait_for_raises_in_the_sdk(tmp_path: Path) -> None:
    with guarded(tmp_path, SIMULATED_STEP_SECONDS=2, WARDROBE_DRAIN_SECONDS=1) as replica:
        promote(replica, replica.house.publish("support", words=40))
        stream = stream_of(replica)
        next(stream)
        replica.popen.send_signal(signal.SIGTERM)
        with pytest.raises(openai.APIError):
            list(stream)
        assert replica.popen.wait(WAIT_SECONDS) == 0
