"""A replica is a real process: it answers, dies, drains, and comes back."""

from __future__ import annotations

import asyncio
import concurrent.futures
import signal
import threading
import time
from collections.abc import Callable
from pathlib import Path

import httpx2
import pytest

from tests.simulation.client import Sampling
from tests.simulation.cluster import Cluster, cluster
from tests.simulation.core import Core, EngineDeadError, Limits, Lora
from tests.simulation.remote import CoreServer, RemoteClient
from tests.simulation.weights import write_adapter

pytestmark = pytest.mark.slow
ALIAS = "support"


def ask(house: Cluster, **more: object) -> httpx2.Response:
    body = {"model": ALIAS, "messages": [{"role": "user", "content": "hi"}], **more}
    url = f"{house.replicas[0].url}/v1/chat/completions"
    return httpx2.post(url, json=body, headers=house.headers, timeout=30)


def promote(house: Cluster, version: str) -> httpx2.Response:
    url = f"{house.replicas[0].url}/v1/adapters/{ALIAS}/promote"
    return httpx2.post(url, json={"version": version}, headers=house.headers, timeout=60)


def test_a_replica_answers_and_what_was_promoted_survives_its_death(tmp_path: Path) -> None:
    with cluster(tmp_path, replicas=1, aliases=(ALIAS,)) as house:
        (replica,) = house.replicas
        version = house.publish(ALIAS)
        replica.wait_ready()
        assert promote(house, version).json()["state"] == "complete"
        assert ask(house).json()["choices"][0]["message"]["content"] == house.texts[version]
        replica.kill()
        assert not replica.running
        with pytest.raises(httpx2.ConnectError):
            ask(house)
        replica.start()
        assert replica.wait_ready() > 0
        assert ask(house).headers["x-adapter-version"] == version
        assert house.live(ALIAS) == version
        assert [flip.version for flip in house.flips(ALIAS)] == [version]
        replica.terminate()
        assert "Traceback" not in replica.tail()


def test_a_drained_replica_finishes_its_answer_first(tmp_path: Path) -> None:
    with cluster(tmp_path, replicas=1, aliases=(ALIAS,), SIMULATED_STEP_SECONDS=0.3) as house:
        (replica,) = house.replicas
        version = house.publish(ALIAS)
        replica.wait_ready()
        promote(house, version)
        url = f"{replica.url}/v1/chat/completions"
        messages = [{"role": "user", "content": "hi"}]
        body = {"model": ALIAS, "messages": messages, "stream": True}
        with httpx2.stream("POST", url, json=body, headers=house.headers, timeout=30) as answer:
            lines = answer.iter_lines()
            first = next(lines)
            ending = threading.Thread(target=replica.terminate)
            ending.start()
            rest = [line for line in lines if line]
        ending.join()
        assert first.startswith("data: ")
        assert '"finish_reason":"stop"' in rest[-2]
        assert rest[-1] == "data: [DONE]"


def test_a_drain_answers_the_command_that_waits_for_its_rollout(tmp_path: Path) -> None:
    with cluster(tmp_path, replicas=1, aliases=(ALIAS,), SIMULATED_LOAD_SECONDS=8) as house:
        (replica,) = house.replicas
        version = house.publish(ALIAS)
        replica.wait_ready()
        with concurrent.futures.ThreadPoolExecutor(1) as pool:
            waiting = pool.submit(promote, house, version)
            time.sleep(1.0)
            replica.terminate()
            answer = waiting.result()
        assert (answer.status_code, answer.json()["state"]) == (200, "loading"), answer.text
        assert answer.json()["version"] == version
        replica.start()
        replica.wait_ready()
        assert house.flips(ALIAS) == []
        soon(lambda: [flip.version for flip in house.flips(ALIAS)] == [version])


def soon(condition: Callable[[], bool], seconds: float = 60.0) -> None:
    """A bound on hanging, not on speed."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_two_api_processes_answer_from_one_engine(tmp_path: Path) -> None:
    with cluster(tmp_path, replicas=1, aliases=(ALIAS,), api_processes=2) as house:
        (replica,) = house.replicas
        replica.wait_ready()
        assert len(replica.processes) == 3
        said = {ask(house, model="wardrobe-base").json()["model"] for _ in range(8)}
        assert said == {"wardrobe-base"}
        replica.kill_one(0)
        for process in replica.processes[1:]:
            process.join(30)
            assert not process.is_alive(), "an API process outlived its engine"


def test_a_killed_replica_was_killed(tmp_path: Path) -> None:
    with cluster(tmp_path, replicas=1, aliases=(ALIAS,)) as house:
        (replica,) = house.replicas
        replica.wait_ready()
        (process,) = replica.processes
        replica.kill()
        assert process.exitcode == -signal.SIGKILL


async def test_the_client_over_a_socket_has_the_cores_semantics(tmp_path: Path) -> None:
    core = Core(Limits(max_loras=1, max_cpu_loras=1))
    path = tmp_path / "s"
    serving = asyncio.create_task(CoreServer(core).serve(path))
    one, two = await RemoteClient.connect(path), await RemoteClient.connect(path)
    folder = write_adapter(tmp_path / "1", "a b c")
    lora = Lora(lora_name="support:1", lora_int_id=1, lora_path=str(folder))
    assert await one.add_lora(lora)
    assert await two.list_loras() == {1}
    texts = [
        output.outputs[0].text
        async for output in two.generate(
            {"prompt": "hi"}, Sampling(max_tokens=9), "x", lora_request=lora
        )
    ]
    assert texts == ["a", "a b", "a b c"]
    missing = Lora(lora_name="support:2", lora_int_id=2, lora_path=str(tmp_path / "none"))
    with pytest.raises(Exception, match="No adapter found") as caught:
        await one.add_lora(missing)
    assert type(caught.value) is Exception
    abandoned = one.generate({"prompt": "hi"}, Sampling(), "y", lora_request=lora)
    await anext(abandoned)
    await abandoned.aclose()
    assert await one.remove_lora(1)
    assert core.in_flight == 0
    core.kill()
    await serving
    with pytest.raises(EngineDeadError):
        await two.add_lora(lora)
    assert one.errored
    for client in (one, two):
        await client.close()
