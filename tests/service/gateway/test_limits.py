"""Limits over real HTTP: what is told, what is refused, and what an answer is settled by."""

from __future__ import annotations

import concurrent.futures
import re
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx2
import openai
import pytest

from adapters.domain.limits import Quota, Traffic
from adapters.domain.principals import SYSTEM
from service.gateway.access import ACCESS
from tests.service.world import World, running, write_units
from tests.simulation.engine import BASE, SimulatedEngine

HELLO = [{"role": "user", "content": "hello there"}]
RATE_HEADERS = [
    f"x-ratelimit-{what}-{of}"
    for what in ("limit", "remaining", "reset")
    for of in ("requests", "tokens")
]


@contextmanager
def limited(
    tmp_path: Path, *, engine: SimulatedEngine | None = None, **limits: int | str
) -> Iterator[World]:
    """A service in which `support` has these limits."""
    said = ", ".join(f"{name}: {value}" for name, value in limits.items())
    write_units(tmp_path / "units", {"support": f"limits: {{{said}}}\n"})
    with running(tmp_path / "state", engine) as world:
        yield world


def ask(world: World, owner: str = "support", **more: Any) -> httpx2.Response:
    said = {"model": BASE, "messages": HELLO, "max_tokens": 4, **more}
    return world.http(owner).post("/v1/chat/completions", json=said)


def until(true: Callable[[], object]) -> None:
    deadline = time.monotonic() + 20
    while not true():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def used(
    world: World, quota: Quota = Quota.TOKENS_PER_MINUTE, account: str = "unit:support"
) -> int:
    meters = world.runtime.meters
    return meters.of(account).used(quota, meters.now())


def test_every_answer_says_what_is_left(tmp_path: Path) -> None:
    with limited(tmp_path, requests_per_minute=5, tokens_per_minute=1000) as world:
        fine = ask(world)
        assert [fine.headers[name] for name in RATE_HEADERS[:2]] == ["5", "1000"]
        assert fine.headers["x-ratelimit-remaining-requests"] == "4"
        usage = fine.json()["usage"]["total_tokens"]
        stream = ask(world, stream=True)
        assert stream.headers["x-ratelimit-remaining-requests"] == "3"
        assert ask(world, max_tokens="many").headers["x-ratelimit-remaining-requests"] == "3"
        assert ask(world, model="nobody").headers["x-ratelimit-remaining-requests"] == "3"
        until(lambda: used(world) == 2 * usage)  # settled behind the answer's last byte
        refused_by_the_engine = ask(world, max_tokens=0)
        assert refused_by_the_engine.status_code == 400
        # what the engine refused has used nothing, once that is settled
        until(lambda: used(world) == 2 * usage)
        for answer in (fine, stream, refused_by_the_engine):
            assert set(RATE_HEADERS) <= set(answer.headers)
        assert (
            stream.headers["x-ratelimit-reset-requests"] == "1m1s"
            or int(stream.headers["x-ratelimit-reset-requests"].removeprefix("1m").rstrip("s"))
            <= 62
        )


def test_every_answer_of_every_route_says_it_and_only_inference_spends_of_it(
    tmp_path: Path,
) -> None:
    with limited(tmp_path, requests_per_minute=5, tokens_per_minute=1000) as world:
        asked = [(row.method, re.sub(r"\{\w+\}", "1", row.template)) for row in ACCESS if row.scope]
        statuses = set()
        for method, path in [*asked, ("GET", "/v1/nothing"), ("PUT", "/v1/files")]:
            answer = world.http("support").request(method, path, content=b"{")
            statuses.add(answer.status_code)
            assert set(RATE_HEADERS) <= set(answer.headers), (method, path, answer.status_code)
            assert answer.headers["x-ratelimit-remaining-requests"] == "5", (method, path)
        assert {200, 400, 403, 404, 405} <= statuses
        world.runtime.draining = True
        drains = ask(world)
        world.runtime.draining = False
        assert (drains.status_code, drains.headers["x-ratelimit-remaining-requests"]) == (503, "5")
        for owner in ("admin", "trainer", None):
            unlimited = world.http(owner).get("/v1/models")
            assert not set(RATE_HEADERS) & set(unlimited.headers)


def test_more_requests_than_a_minute_has_are_told_when_to_come_back(tmp_path: Path) -> None:
    with limited(tmp_path, requests_per_minute=3) as world:
        assert [ask(world).status_code for _ in range(5)] == [200, 200, 200, 429, 429]
        refused = ask(world)
        assert refused.json()["error"] | {"message": ""} == {
            "message": "", "type": "rate_limit_error", "param": None, "code": "rate_limit_exceeded",
        }  # fmt: skip
        assert 55 <= int(refused.headers["retry-after"]) <= 62
        assert refused.headers["x-ratelimit-remaining-requests"] == "0"
        assert ask(world, "sales").status_code == 200
        with pytest.raises(openai.RateLimitError):
            world.client().chat.completions.create(model=BASE, messages=HELLO)


def test_a_request_that_no_waiting_makes_possible_is_refused_for_good(tmp_path: Path) -> None:
    with limited(tmp_path, tokens_per_minute=100, max_concurrent_sequences=8) as world:
        for name, value in (("max_tokens", 200), ("n", 9)):
            answer = ask(world, **{name: value})  # type: ignore[arg-type]
            assert answer.status_code == 400
            assert answer.json()["error"]["param"] == name
        assert used(world) == 0
        assert world.runtime.meters.of("unit:support").sequences == 0


def test_a_budget_that_is_used_up_is_told_so_and_no_client_asks_again(tmp_path: Path) -> None:
    with limited(tmp_path, tokens_per_day=60) as world:
        first = ask(world, max_tokens=4)
        assert first.status_code == 200
        until(lambda: used(world, Quota.TOKENS_PER_DAY) > 0)
        answer = ask(world, max_tokens=100)
        assert answer.status_code == 429
        assert answer.json()["error"]["code"] == "insufficient_quota"
        assert answer.json()["error"]["type"] == "insufficient_quota"
        assert answer.headers["x-should-retry"] == "false"
        assert "retry-after" not in answer.headers
        client = world.client(max_retries=5)
        before = world.prometheus.get_sample_value(
            "wardrobe_requests_refused_total", {"code": "insufficient_quota"}
        )
        with pytest.raises(openai.RateLimitError) as refused:
            client.chat.completions.create(model=BASE, messages=HELLO, max_tokens=100)
        assert refused.value.code == "insufficient_quota"
        after = world.prometheus.get_sample_value(
            "wardrobe_requests_refused_total", {"code": "insufficient_quota"}
        )
        assert (before, after) == (1, 2)


def test_what_is_used_of_a_budget_is_shown_by_unit(tmp_path: Path) -> None:
    with limited(tmp_path, tokens_per_day=200, tokens_per_month=0) as world:

        def shown(budget: str, unit: str = "support") -> float | None:
            labels = {"unit": unit, "budget": budget}
            return world.prometheus.get_sample_value("wardrobe_budget_used_ratio", labels)

        until(lambda: shown("day") == 0.0)
        assert shown("month") == 1.0, "nothing is left of nothing"
        assert shown("day", "sales") is None, "it has no budget"
        write_units(tmp_path / "units", {"support": "limits: {tokens_per_day: 200}\n"})
        until(lambda: ask(world).status_code == 200)
        until(lambda: shown("day") == used(world, Quota.TOKENS_PER_DAY) / 200)
        assert (shown("day") or 0) > 0
        until(lambda: shown("month") is None)


def test_a_budget_of_nothing_lets_nothing_through_and_one_that_is_raised_works_at_once(
    tmp_path: Path,
) -> None:
    with limited(tmp_path, tokens_per_month=0) as world:
        assert ask(world).json()["error"]["code"] == "insufficient_quota"
        write_units(tmp_path / "units", {"support": "limits: {tokens_per_month: 5000}\n"})
        until(lambda: ask(world).status_code == 200)


def test_a_budget_that_is_lowered_while_it_is_reserved_owes_nothing_and_gives_nothing(
    tmp_path: Path,
) -> None:
    engine = SimulatedEngine()
    with limited(tmp_path, engine=engine, tokens_per_day=5000, tokens_per_minute=4000) as world:
        engine.token_seconds = 1.0
        with concurrent.futures.ThreadPoolExecutor(1) as pool:
            asked = pool.submit(ask, world, max_tokens=400)
            until(lambda: used(world, Quota.TOKENS_PER_DAY) > 400)
            lowered = "limits: {tokens_per_day: 50, tokens_per_minute: 60}\n"
            write_units(tmp_path / "units", {"support": lowered})
            units = world.runtime.units
            until(lambda: units.current.limits_of("support").most[Quota.TOKENS_PER_DAY] == 50)
            refused = ask(world)
            assert refused.status_code == 429
            assert refused.headers["x-ratelimit-remaining-tokens"] == "0"
            assert 1 <= int(refused.headers.get("retry-after", "1")) <= 120
            engine.token_seconds = 0.0
            assert asked.result().status_code == 200
        until(lambda: used(world, Quota.TOKENS_PER_DAY) < 50)
        assert ask(world, max_tokens=1).status_code == 200


def test_a_client_that_goes_away_has_used_what_the_engine_has_done(tmp_path: Path) -> None:
    engine = SimulatedEngine()
    with limited(tmp_path, engine=engine) as world:
        engine.token_seconds = 0.2
        head = (
            "POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\n"
            f"Authorization: Bearer {world.key('support')}\r\nContent-Length: "
        )
        for stream in ("true", "false"):
            before = used(world)
            body = (
                f'{{"model": "{BASE}", "messages": [{{"role": "user", "content": "hello"}}],'
                f' "max_tokens": 400, "stream": {stream}}}'
            )
            with socket.create_connection(("127.0.0.1", world.settings.port)) as raw:
                raw.sendall(f"{head}{len(body)}\r\n\r\n{body}".encode())
                until(lambda: used(world) > 400)
                until(lambda: any(s.token_ids for s in engine.client.under_way.values()))
            until(lambda: world.runtime.meters.of("unit:support").sequences == 0)
            assert 0 < used(world) - before < 50
            assert world.runtime.leases.total == 0
            assert world.runtime.turns.waiting == 0


def test_answers_are_counted_by_the_sequence(tmp_path: Path) -> None:
    engine = SimulatedEngine()
    with limited(tmp_path, engine=engine, max_concurrent_sequences=16) as world:
        engine.token_seconds = 1.0
        with concurrent.futures.ThreadPoolExecutor(1) as pool:
            asked = pool.submit(ask, world, n=16)
            until(lambda: world.runtime.meters.of("unit:support").sequences == 16)
            assert ask(world).status_code == 429
            engine.token_seconds = 0.0
            assert asked.result().status_code == 200
        assert ask(world).status_code == 200


def test_each_key_of_a_unit_has_limits_of_its_own_within_the_units(tmp_path: Path) -> None:
    with limited(tmp_path, requests_per_minute=5, per_key="{requests_per_minute: 3}") as world:
        made = world.http().post(
            "/v1/keys", json={"name": "shop", "unit": "support", "scopes": ["infer", "base"]}
        )
        assert made.status_code == 200, made.text
        secret = made.json()["secret"]
        said = {"model": BASE, "messages": HELLO, "max_tokens": 4}
        headers = {"Authorization": f"Bearer {secret}"}

        def ask_with_it() -> httpx2.Response:
            return httpx2.post(f"{world.url}/v1/chat/completions", json=said, headers=headers)

        until(lambda: ask_with_it().status_code != 401)
        statuses = [ask_with_it().status_code for _ in range(4)]
        assert statuses == [200, 200, 429, 429], "one was asked before"
        told = ask(world)
        assert told.headers["x-ratelimit-limit-requests"] == "5"
        assert told.headers["x-ratelimit-remaining-requests"] == "1", "the tightest is told"
        assert [ask(world).status_code for _ in range(2)] == [200, 429], "the unit's hold as well"


def test_a_keys_own_limits_take_the_place_of_those_that_keys_usually_have(tmp_path: Path) -> None:
    usual = "{requests_per_minute: 3, tokens_per_minute: 900}"
    with limited(tmp_path, requests_per_minute=50, per_key=usual) as world:
        asked: dict[str, Any] = {"name": "shop", "unit": "support", "scopes": ["infer", "base"]}
        asked |= {"limits": {"requests_per_minute": 7}}
        secret = world.http().post("/v1/keys", json=asked).json()["secret"]
        said = {"model": BASE, "messages": HELLO, "max_tokens": 4}
        headers = {"Authorization": f"Bearer {secret}"}
        answers: list[httpx2.Response] = []

        def answered() -> bool:
            url = f"{world.url}/v1/chat/completions"
            answers.append(httpx2.post(url, json=said, headers=headers))
            return answers[-1].status_code == 200

        until(answered)
        told = answers[-1].headers
        assert told["x-ratelimit-limit-requests"] == "7"
        assert told["x-ratelimit-limit-tokens"] == "900"


def test_a_body_that_is_still_being_sent_counts_already(tmp_path: Path) -> None:
    with limited(tmp_path, max_concurrent_requests=2) as world:
        unfinished = []
        for _ in range(2):
            raw = socket.create_connection(("127.0.0.1", world.settings.port))
            raw.sendall(
                "POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\n"
                f"Authorization: Bearer {world.key('support')}\r\n"
                'Content-Length: 1000\r\n\r\n{"model"'.encode()
            )
            unfinished.append(raw)
        meter = world.runtime.meters.of("unit:support")
        until(lambda: meter.requests == 2)
        assert ask(world).status_code == 429
        assert ask(world, "sales").status_code == 200
        for raw in unfinished:
            raw.close()
        until(lambda: meter.requests == 0)
        assert ask(world).status_code == 200


def test_evaluation_uses_nobodys_allowance(tmp_path: Path) -> None:
    with limited(tmp_path, requests_per_minute=1, tokens_per_minute=100) as world:
        version = world.publish("support")
        until(lambda: world.runtime.table.knows(version.name))
        for _ in range(3):
            answer = ask(world, "trainer", model=version.name)
            assert answer.status_code == 200
            assert answer.json()["seen"]["priority"] == Traffic.EVALUATION.priority
        assert used(world) == 0
        assert "priority" not in ask(world).json()["seen"]


def test_usage_is_added_up_and_survives_a_clean_exit(tmp_path: Path) -> None:
    with running(tmp_path / "state", price_prompt=2.0, price_completion=10.0) as world:
        totals = [ask(world).json()["usage"] for _ in range(3)]
        registry_url = world.settings.registry_url
    from adapters.registry.open import open_registry

    registry = open_registry(registry_url)
    (found,) = registry.usage.days(SYSTEM, since=0, until=10**6)
    registry.close()
    assert (found.key.unit, found.key.alias, found.key.version) == ("support", BASE, "base")
    prompt = sum(each["prompt_tokens"] for each in totals)
    completion = sum(each["completion_tokens"] for each in totals)
    assert (found.used.requests, found.used.prompt_tokens) == (3, prompt)
    assert found.used.cost_nano == prompt * 2000 + completion * 10_000


@pytest.mark.parametrize(
    "wrong", ["requests_per_minute: 0", "tokens_per_minute: -1", "tokens_per_day: 1.5", "weight: 0",
              "tokens_per_day: 99999999999999999999", "tokens_per_minute: .inf", "weight: .nan"],
)  # fmt: skip
def test_a_limit_that_means_nothing_is_refused(tmp_path: Path, wrong: str) -> None:
    from adapters.domain.units import InvalidUnits, load_units

    write_units(tmp_path / "units", {"support": f"limits: {{{wrong}}}\n"})
    with pytest.raises(InvalidUnits):
        load_units(tmp_path / "units")
