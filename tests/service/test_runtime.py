"""One service process: how it drains, lets go of the registry and watches its own tasks."""

from __future__ import annotations

import asyncio
import json
import os
import signal
from collections.abc import Callable, Iterator, MutableMapping
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from structlog.testing import capture_logs

from adapters.domain.principals import SYSTEM
from adapters.errors import InvalidKey, Unavailable
from adapters.registry.open import open_registry
from adapters.registry.ports import Retention
from adapters.state_folder import StateFolder
from service.engine.vital_signs import RestartReason, VitalSigns
from service.gateway.gateway import Gateway
from service.launch.plugin import SHUTDOWN_SECONDS, follow_server
from tests.service.world import World, offline


class Ending:
    """In the place of vLLM's own exit."""

    def __init__(self) -> None:
        self.reached = asyncio.Event()

    def __call__(self) -> None:
        self.reached.set()


@pytest.fixture
def still(tmp_path: Path) -> Iterator[World]:
    """A service whose tasks are not started."""
    with offline(tmp_path / "state", drain_seconds=5.0) as world:
        yield world


def replicas(world: World) -> list[str]:
    """Asked beside the runtime: its own registry is closed when it has stopped."""
    registry = open_registry(world.settings.state_folder.database_url)
    try:
        return [replica.id for replica in registry.replicas.list()]
    finally:
        registry.close()


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(10):
        while not condition():  # noqa: ASYNC110
            await asyncio.sleep(0.01)


async def registered(world: World) -> None:
    await until(lambda: world.runtime.swap.membership.admits)


@pytest.fixture
def server() -> Iterator[SimpleNamespace]:
    """What vLLM's launcher leaves in the app's state once it serves; SIGTERM is put back after."""
    before = signal.getsignal(signal.SIGTERM)
    yield SimpleNamespace(
        started=False, should_exit=False, config=SimpleNamespace(timeout_graceful_shutdown=None)
    )
    signal.signal(signal.SIGTERM, before)


async def test_sigterm_refuses_new_requests_waits_for_running_ones_and_only_then_ends(
    still: World, server: SimpleNamespace
) -> None:
    ending = Ending()
    runtime = replace(still.runtime, end=ending)
    runtime.start()
    vllms_own = signal.getsignal(signal.SIGTERM)
    following = asyncio.create_task(follow_server(runtime, SimpleNamespace(server=server)))
    await asyncio.sleep(0.3)
    assert signal.getsignal(signal.SIGTERM) is vllms_own, "vLLM would set its own after ours"
    server.started = True
    await registered(still)
    with closing(VitalSigns(still.settings.state_folder.vital_signs)) as seen:
        await until(lambda: seen.accepting)
    # it looks for the server now and then: a signal before that would end this process
    await until(lambda: signal.getsignal(signal.SIGTERM) is not vllms_own)
    lease = runtime.leases.take(None)
    assert lease is not None
    with lease:
        os.kill(os.getpid(), signal.SIGTERM)
        os.kill(os.getpid(), signal.SIGTERM)
        await asyncio.sleep(0.2)
        assert runtime.draining
        assert not runtime.ready
        assert not ending.reached.is_set()
        assert replicas(still)
    await asyncio.wait_for(ending.reached.wait(), 5)
    assert replicas(still) == [], "rollouts would wait for it"
    with closing(VitalSigns(still.settings.state_folder.vital_signs)) as seen:
        assert not seen.accepting, "whoever comes now is answered by the fallback server"
    server.should_exit = True
    await following
    asyncio.get_running_loop().remove_signal_handler(signal.SIGTERM)


async def test_the_web_server_waits_for_open_connections_no_longer_than_a_limit(
    still: World, server: SimpleNamespace
) -> None:
    server.started = server.should_exit = True
    await follow_server(still.runtime, SimpleNamespace(server=server))
    assert server.config.timeout_graceful_shutdown == SHUTDOWN_SECONDS
    asyncio.get_running_loop().remove_signal_handler(signal.SIGTERM)


async def test_a_drain_ends_although_an_answer_does_not(tmp_path: Path) -> None:
    ending = Ending()
    with offline(tmp_path / "state", drain_seconds=0.1) as world:
        runtime = replace(world.runtime, end=ending)
        lease = runtime.leases.take(None)
        assert lease is not None
        with lease:
            await asyncio.wait_for(runtime.drain(), 5)
    assert ending.reached.is_set()


async def test_a_request_that_a_shutdown_cuts_off_is_answered_in_our_envelope(still: World) -> None:
    reached = asyncio.Event()
    sent: list[MutableMapping[str, Any]] = []

    async def for_ever(*_: object) -> None:
        reached.set()
        await asyncio.Event().wait()

    async def receive() -> MutableMapping[str, Any]:
        return {"type": "http.request"}

    async def send(message: MutableMapping[str, Any]) -> None:
        sent.append(message)

    scope = {
        "type": "http", "method": "GET", "path": "/readyz", "headers": [],
        "app": SimpleNamespace(state=SimpleNamespace(wardrobe=still.runtime)),
    }  # fmt: skip
    request = asyncio.create_task(Gateway(for_ever)(scope, receive, send))
    await reached.wait()
    request.cancel("the server's own limit is over")
    with pytest.raises(asyncio.CancelledError):
        await request
    start, body = sent
    assert (start["status"], json.loads(body["body"])["error"]["code"]) == (503, "draining")


async def test_a_replica_whose_engine_died_is_not_ready(still: World) -> None:
    await still.settle(rounds=2)
    ready = [still.runtime.ready]
    still.engine.alive = False
    ready.append(still.runtime.ready)
    assert ready == [True, False]


async def test_no_key_is_called_wrong_before_any_key_could_be_known(still: World) -> None:
    with pytest.raises(Unavailable) as early:
        still.runtime.authenticate(b"Bearer whatever")
    assert early.value.reason == "starting"
    await still.settle(rounds=1)
    with pytest.raises(InvalidKey):
        still.runtime.authenticate(b"Bearer whatever")


def is_settled(world: World) -> bool:
    return world.runtime.settled


async def test_a_replica_that_is_cut_off_believes_its_keys_for_so_long_and_no_longer(
    tmp_path: Path,
) -> None:
    now = [1000.0]
    with offline(tmp_path / "state", clock=lambda: now[0], key_trust_seconds=60.0) as world:
        await world.settle()
        runtime, header = world.runtime, f"Bearer {world.key('support')}".encode()

        def left() -> float | None:
            return world.prometheus.get_sample_value("wardrobe_key_trust_left_seconds")

        holder = runtime.authenticate(header)
        runtime.registry.keys.revoke(holder.id, by=SYSTEM)
        now[0] += 59.0  # and no look at the registry meanwhile
        assert runtime.authenticate(header) == holder
        assert is_settled(world)
        await runtime.swap.gauges.step()
        assert left() == 1.0
        now[0] += 2.0
        for bearer in (header, b"Bearer wr-nobody-knows-this-key"):
            with pytest.raises(Unavailable) as refused:
                runtime.authenticate(bearer)
            assert refused.value.reason == "registry_unavailable"
        assert not is_settled(world)
        await runtime.swap.gauges.step()
        assert left() == 0.0
        await world.settle(rounds=1)
        assert is_settled(world)
        with pytest.raises(InvalidKey):
            runtime.authenticate(header)
        assert runtime.authenticate(f"Bearer {world.key('sales')}".encode()).unit == "sales"


async def test_a_stopped_replica_takes_its_rows_back_at_once(still: World) -> None:
    still.runtime.start()
    await registered(still)
    assert replicas(still)
    await still.runtime.stop()
    assert replicas(still) == []


async def test_a_background_task_that_ends_by_itself_is_told_of(still: World) -> None:
    runtime = still.runtime
    with capture_logs() as logs:
        runtime.start()
        await registered(still)
        runtime.swap.loader.repeat.stop()
        await asyncio.sleep(0.5)
    ended = [line for line in logs if line["event"] == "background_task_ended"]
    assert [line["task"] for line in ended] == ["loader"]
    await runtime.stop()


def test_what_is_kept_is_a_setting(tmp_path: Path) -> None:
    with offline(
        tmp_path / "state", keep_retired=3, keep_rejected_days=1.0, keep_history_days=7.0
    ) as world:
        kept = world.runtime.swap.collector._retention
    assert kept == Retention(retired_versions=3, rejected_days=1.0, event_days=7.0)


async def test_a_command_that_is_answered_while_the_process_ends_still_reads(still: World) -> None:
    runtime = still.runtime
    runtime.start()
    await registered(still)
    await runtime.stop()
    assert await runtime.threads.read(SYSTEM, runtime.registry.replicas.list) == []


def test_the_first_process_shows_what_the_supervisor_has_counted_and_no_other_does(
    tmp_path: Path,
) -> None:
    state = StateFolder(tmp_path / "state").create()
    with closing(VitalSigns(state.vital_signs)) as supervisor:
        supervisor.note_end(RestartReason.OUT_OF_MEMORY, was_ready=True, delay=1.0)
    for process, counted in ((0, 1.0), (1, None)):
        with offline(state.root, process=process) as world:

            def value(reason: str, world: World = world) -> float | None:
                name = "wardrobe_engine_restarts_total"
                return world.prometheus.get_sample_value(name, {"reason": reason})

            assert value("out_of_memory") == counted
            assert value("unresponsive") == (None if counted is None else 0.0)
