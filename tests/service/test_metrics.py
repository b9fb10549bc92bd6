"""Series come from closed sets, whatever callers send, and go with the versions they are about."""

from __future__ import annotations

import asyncio
import json
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from fastapi import FastAPI
from prometheus_client import CollectorRegistry
from starlette.types import Message
from structlog.testing import capture_logs

from adapters.domain.api_keys import issue
from adapters.domain.names import Unit
from adapters.domain.principals import SYSTEM, Grant, Role, Scope
from adapters.pepper import find_pepper
from service.api import attach
from service.engine.leases import Leases
from service.engine.turns import Load
from service.gateway.gateway import Gateway
from service.metrics import Metrics
from tests.service.world import World, offline
from tests.simulation.engine import BASE

HELLO = [{"role": "user", "content": "hello"}]


def series_of(prometheus: CollectorRegistry) -> set[tuple[str, str]]:
    return {
        (sample.name, json.dumps(sample.labels, sort_keys=True))
        for metric in prometheus.collect()
        for sample in metric.samples
        if not sample.name.endswith("_created")
    }


class Calls:
    """The gateway without a socket: thousands of requests in seconds."""

    def __init__(self, world: World) -> None:
        app = FastAPI()
        attach(app)
        app.state.wardrobe = world.runtime
        world.engine.attach(app)
        self._app = app
        self._gateway = Gateway(app)
        self._key = world.key("support").encode()

    async def ask(self, path: str, body: bytes, *, method: str = "POST") -> int:
        """The status."""
        sent: list[Message] = []
        scope = {
            "type": "http",
            "asgi": {"version": "3.0"},
            "http_version": "1.1",
            "app": self._app,
            "method": method,
            "scheme": "http",
            "path": path,
            "raw_path": path.encode(errors="replace"),
            "query_string": b"",
            "root_path": "",
            "headers": [
                (b"authorization", b"Bearer " + self._key),
                (b"content-type", b"application/json"),
                (b"content-length", str(len(body)).encode()),
            ],
            "client": ("127.0.0.1", 1),
            "server": ("127.0.0.1", 1),
        }

        said = iter([{"type": "http.request", "body": body, "more_body": False}])

        async def receive() -> Message:
            for message in said:
                return message
            await asyncio.Event().wait()  # the client stays and says no more
            raise AssertionError

        async def send(message: Message) -> None:
            sent.append(message)

        await self._gateway(scope, receive, send)
        return int(sent[0]["status"])


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    with offline(tmp_path / "state") as made:
        yield made


def drawn_name(chance: random.Random) -> Any:
    """A name that could be one, or what nobody would call a name."""
    alphabet = "abcdefghijklmnopqrstuvwxyz0123456789-:./\\ \"'{}\n\0é漢"
    length = chance.choice([1, 2, 5, 9, 40, 41, 200])
    text = "".join(chance.choice(alphabet) for _ in range(length))
    name = f"{''.join(chance.choice(alphabet[:26]) for _ in range(6))}"
    return chance.choice([text, name, f"{name}:{chance.randint(0, 10**10)}", [text], None, 7])


async def ask_drawn(calls: Calls, chance: random.Random, *, times: int) -> set[int]:
    """Requests with drawn names in `model`, and every tenth time in a path and as a method."""
    statuses = set()
    for number in range(times):
        body = {"model": drawn_name(chance), "messages": HELLO, "max_tokens": 1}
        statuses.add(await calls.ask("/v1/chat/completions", json.dumps(body).encode()))
        if number % 10 == 0:
            method = chance.choice(["GET", "PUT", f"X{number}"])
            await calls.ask(f"/v1/adapters/{drawn_name(chance)}", b"", method=method)
    return statuses


@pytest.mark.slow
async def test_ten_thousand_values_of_model_make_no_series(world: World) -> None:
    await world.settle()
    calls, chance = Calls(world), random.Random(20)
    assert await ask_drawn(calls, chance, times=500) == {400, 404}
    before = series_of(world.prometheus)
    assert await ask_drawn(calls, chance, times=10_000) == {400, 404}
    await world.settle(rounds=1)
    assert series_of(world.prometheus) == before


async def test_series_of_a_version_go_with_it_and_begin_anew(world: World) -> None:
    """What is kept to count by must not count where nobody looks any more."""
    metrics = world.runtime.metrics
    gone = metrics.answers("support", "support", "support:1")
    gone.ended("ok", seconds=0.1, first_byte=0.05)
    gone.used(prompt=3, completion=4)
    gone.streamed([0, 3, *[0] * 13], seconds=0.006)
    metrics.answers("support", BASE, "base").ended("ok", seconds=0.1, first_byte=None)
    labels = {"unit": "support", "alias": "support", "version": "support:1"}

    def value(name: str, **more: str) -> float | None:
        return world.prometheus.get_sample_value(name, {**labels, **more})

    assert value("wardrobe_tokens_total", kind="completion") == 4.0
    assert value("wardrobe_time_between_tokens_seconds_sum") == pytest.approx(0.006)
    assert value("wardrobe_time_between_tokens_seconds_count") == 3.0
    await world.settle(rounds=1)
    assert not [each for each in series_of(world.prometheus) if "support:1" in each[1]]
    metrics.answers("support", "support", "support:1").ended("ok", seconds=0.1, first_byte=None)
    assert value("wardrobe_requests_total", outcome="ok") == 1.0
    assert world.prometheus.get_sample_value(
        "wardrobe_requests_total",
        {"unit": "support", "alias": BASE, "version": "base", "outcome": "ok"},
    )


async def test_a_key_that_is_about_to_end_is_told_ahead_by_metric_and_once_in_the_log(
    world: World,
) -> None:
    await world.settle()
    pepper = find_pepper(world.settings)
    _, key = issue(
        Grant(role=Role.UNIT, unit=Unit("support"), scopes=frozenset({Scope.INFER})),
        "shop",
        lifetime_s=3600.0,
        pepper=pepper,
    )
    world.runtime.registry.keys.issue(key, by=SYSTEM, idempotency_key=None)
    with capture_logs() as lines:
        await world.settle(rounds=3)
    told = [line for line in lines if line["event"] == "keys_end_soon"]
    assert [(line["unit"], line["holders"]) for line in told] == [("support", 1)]
    ending = world.prometheus.get_sample_value("wardrobe_keys_ending", {"unit": "support"})
    assert ending == 1.0


SEEN_FROM_OUTSIDE = {
    "keys that end": "wardrobe_keys_ending",
    "requests": "wardrobe_requests_total",
    "errors by code": "wardrobe_errors_total",
    "tokens in and out": "wardrobe_tokens_total",
    "time to the first token": "wardrobe_time_to_first_token_seconds",
    "time between tokens": "wardrobe_time_between_tokens_seconds",
    "whole latency": "wardrobe_request_duration_seconds",
    "in flight": "wardrobe_requests_in_flight",
    "queue": "wardrobe_requests_queued",
    "rejected by reason": "wardrobe_requests_refused_total",
    "swaps": "wardrobe_version_loads_total",
    "phases of swaps, load seconds among them": "wardrobe_swap_phase_seconds",
    "resident versions by tier": "wardrobe_versions_resident",
    "lease ages": "wardrobe_oldest_lease_seconds",
    "rollouts": "wardrobe_rollouts_total",
    "canaries: weight": "wardrobe_canary_weight",
    "canaries: answers of both arms": "wardrobe_canary_answers",
    "canaries: errors of both arms": "wardrobe_canary_errors",
    "canaries: evidence": "wardrobe_canary_evidence",
    "shadows, counted apart": "wardrobe_shadow_copies_total",
    "budget used": "wardrobe_budget_used_ratio",
    "engine restarts": "wardrobe_engine_restarts_total",
    "registry lag: revision": "wardrobe_registry_revision",
    "registry lag: time": "wardrobe_registry_read_timestamp_seconds",
    "how long keys are still believed": "wardrobe_key_trust_left_seconds",
    "failed aliases": "wardrobe_version_unavailable",
}
"""What an operator asks, and the metric that answers."""


@pytest.mark.parametrize(("asked", "name"), SEEN_FROM_OUTSIDE.items(), ids=list(SEEN_FROM_OUTSIDE))
def test_what_an_operator_asks_has_a_metric(asked: str, name: str) -> None:
    prometheus = CollectorRegistry()
    Metrics(prometheus)
    shown = {
        metric.name + ("_total" if metric.type == "counter" else ""): metric.documentation
        for metric in prometheus.collect()
    }
    assert shown.get(name), asked


def test_what_is_counted_of_a_version_is_found_once() -> None:
    metrics = Metrics(CollectorRegistry())
    assert metrics.answers("a", "b", "c:1") is metrics.answers("a", "b", "c:1")


async def test_a_stream_has_times_between_its_tokens_and_a_whole_answer_none(
    world: World,
) -> None:
    await world.settle()
    world.engine.token_seconds = 0.02
    calls = Calls(world)
    body = {"model": BASE, "messages": HELLO, "max_tokens": 5}  # three words, and two gaps
    labels = {"unit": "support", "alias": BASE, "version": "base"}

    def between(what: str) -> float | None:
        name = f"wardrobe_time_between_tokens_seconds_{what}"
        return world.prometheus.get_sample_value(name, labels)

    for extra, least in (({}, 0.0), ({"stream": True}, 2.0)):
        said = json.dumps({**body, **extra}).encode()
        assert await calls.ask("/v1/chat/completions", said) == 200
        assert (between("count") or 0.0) >= least
        assert bool(between("count")) == bool(least)
    assert (between("sum") or 0.0) > 0.02


async def test_residents_are_counted_by_tier(world: World) -> None:
    swap = world.runtime.swap

    def tiers() -> list[float | None]:
        return [
            world.prometheus.get_sample_value("wardrobe_versions_resident", {"tier": tier})
            for tier in ("live", "target", "idle")
        ]

    world.make_live(world.publish("support"))
    await world.settle()
    assert tiers() == [1.0, 0.0, 0.0]
    world.begin(world.publish("support"))
    # loaded, and nobody has moved the route yet
    for step in (swap.routes.repeat, *[swap.loader.repeat] * 50, swap.gauges.repeat):
        await step.attempt()
        await asyncio.sleep(0.01)
    assert tiers() == [1.0, 1.0, 0.0]
    await world.settle()
    assert tiers() == [1.0, 0.0, 1.0]


async def test_what_is_being_answered_is_shown(world: World) -> None:
    async def shown() -> float | None:
        await world.runtime.swap.gauges.repeat.attempt()
        return world.prometheus.get_sample_value("wardrobe_requests_in_flight")

    lease = world.runtime.leases.take(None)
    assert lease is not None
    with lease:
        assert await shown() == 1.0
    assert await shown() == 0.0


async def test_what_waits_for_its_turn_is_shown(world: World) -> None:
    async def shown() -> float | None:
        await world.runtime.swap.gauges.repeat.attempt()
        return world.prometheus.get_sample_value("wardrobe_requests_queued")

    turns, one = world.runtime.turns, Load(sequences=1, tokens=1)
    taken = list(iter(lambda: turns.take("flood", 1.0, one), None))
    waiting = asyncio.create_task(turns.wait("flood", 1.0, one))
    await asyncio.sleep(0)
    assert await shown() == 1.0
    taken[0].__exit__()
    await waiting
    assert await shown() == 0.0


async def test_the_age_of_the_oldest_lease_is_the_oldests(world: World) -> None:
    leases: Leases = world.runtime.leases
    assert leases.oldest_seconds == 0.0
    first = leases.take(None)
    await asyncio.sleep(0.05)
    second = leases.take(None)
    assert first is not None
    assert second is not None
    assert leases.oldest_seconds >= 0.05
    with first:
        pass
    assert leases.oldest_seconds < 0.05
    with second:
        pass
    assert leases.oldest_seconds == 0.0
