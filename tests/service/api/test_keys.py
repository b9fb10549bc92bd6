"""`/v1/keys` over HTTP, and how soon what it changes holds."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import httpx2
import pytest

from adapters.domain.api_keys import DAY_S, make_key
from adapters.domain.names import Unit
from adapters.domain.principals import SYSTEM, Role, Scope
from adapters.errors import InvalidKey
from tests.service.world import World, offline, running
from tests.simulation.engine import BASE

HELLO = [{"role": "user", "content": "hello"}]
PROMPT = {"model": BASE, "messages": HELLO}
SHOP = {"name": "shop", "unit": "support", "scopes": ["infer", "base"]}


def make(world: World, **asked: Any) -> dict[str, Any]:
    """A new key with its secret."""
    answer = world.http().post("/v1/keys", json={**SHOP, **asked})
    assert answer.status_code == 200, answer.text
    made: dict[str, Any] = answer.json()
    return made


def ask(world: World, key: dict[str, Any], method: str, path: str, **more: Any) -> httpx2.Response:
    headers = {"Authorization": f"Bearer {key['secret']}"}
    return httpx2.request(method, world.url + path, headers=headers, **more)


def wait_until(condition: Callable[[], bool], seconds: float = 10.0) -> float:
    began = time.monotonic()
    while not condition():
        assert time.monotonic() - began < seconds
        time.sleep(0.01)
    return time.monotonic() - began


def answers(world: World, key: dict[str, Any], status: int) -> bool:
    return ask(world, key, "GET", "/v1/models").status_code == status


def test_a_key_is_shown_once_and_does_what_it_was_made_for(world: World) -> None:
    made = make(world, expires_in=90 * DAY_S)
    assert made["object"] == "api_key"
    assert made["secret"].startswith("wr-support-")
    assert made["expires_at"] - made["created_at"] == 90 * DAY_S
    assert ask(world, made, "POST", "/v1/chat/completions", json=PROMPT).status_code == 200
    refused = ask(world, made, "GET", "/v1/files")
    assert (refused.status_code, refused.json()["error"]["code"]) == (
        403, "insufficient_permissions",
    )  # fmt: skip
    assert "`train`" in refused.json()["error"]["message"]
    shown = world.http().get(f"/v1/keys/{made['id']}").json()
    assert "secret" not in shown
    assert shown == {name: value for name, value in made.items() if name != "secret"}
    listed = world.http().get("/v1/keys?limit=1").json()
    assert listed["data"] == [shown]
    assert listed["has_more"]


def test_whoever_was_answered_may_use_the_key_at_once_or_no_more(world: World) -> None:
    for _ in range(10):
        made = make(world)
        assert answers(world, made, 200)
        after = world.http().post(f"/v1/keys/{made['id']}/rotate", json={"overlap": 60}).json()
        assert answers(world, after, 200)
        for key in (made, after):
            assert world.http().post(f"/v1/keys/{key['id']}/revoke").status_code == 200
            assert answers(world, key, 401)


def test_no_answer_and_no_file_of_the_service_holds_a_usable_key(world: World) -> None:
    made = make(world)
    answers = world.http().get("/v1/keys").text + world.http().get(f"/v1/keys/{made['id']}").text
    database = world.settings.state_folder.root / "registry.sqlite3"
    kept = b"".join(path.read_bytes() for path in database.parent.glob("registry.sqlite3*"))
    assert made["secret"] not in answers
    assert made["secret"].encode() not in kept
    assert world.runtime.hasher.hash(made["secret"]) not in answers


def test_a_key_for_one_alias_names_no_other_of_its_unit(world: World) -> None:
    for alias in ("hr", "hr-screening"):
        version = world.publish(alias, "hr")
        promoted = world.http("hr").post(
            f"/v1/adapters/{alias}/promote", json={"version": version.number}
        )
        assert promoted.json()["state"] == "complete", promoted.text
    made = make(world, unit="hr", scopes=["infer"], aliases=["hr"])
    seen = {model["id"] for model in ask(world, made, "GET", "/v1/models").json()["data"]}
    assert seen == {"hr", "hr:1"}
    others = ("hr-screening", "hr-screening:1", BASE, "sales")
    for model, status in (("hr", 200), ("hr:1", 200), *((other, 404) for other in others)):
        answer = ask(world, made, "POST", "/v1/chat/completions", json={**PROMPT, "model": model})
        assert answer.status_code == status, model
        assert ask(world, made, "GET", f"/v1/models/{model}").status_code == status, model


def test_the_base_model_is_a_grant_of_its_own(world: World) -> None:
    without = make(world, scopes=["infer"])
    unknown = {**PROMPT, "model": "nothing"}
    refused, missing = (
        ask(world, without, "POST", "/v1/chat/completions", json=body) for body in (PROMPT, unknown)
    )
    assert refused.status_code == missing.status_code == 404
    assert refused.content == missing.content
    assert ask(world, without, "GET", "/v1/models").json()["data"] == []
    assert world.engine.asked == []


@pytest.mark.parametrize(
    ("asked", "status", "param"),
    [
        ({"scopes": []}, 400, "scopes"),
        ({"scopes": ["root"]}, 400, "scopes"),
        ({"scopes": ["admin"]}, 400, "scopes"),
        ({"scopes": ["infer", "metrics"]}, 400, "scopes"),
        ({"unit": None}, 400, "scopes"),
        ({"unit": "nothing"}, 404, None),
        ({"unit": "../etc"}, 404, None),
        ({"name": "Shop Floor"}, 400, "name"),
        ({"name": "metrics key", "unit": None, "scopes": ["metrics"]}, 400, "name"),
        ({"aliases": ["sales"]}, 400, "aliases"),
        ({"aliases": ["nothing"]}, 400, "aliases"),
        ({"aliases": []}, 400, "aliases"),
        ({"aliases": ["support"], "scopes": ["train"]}, 400, "aliases"),
        ({"expires_in": 1}, 400, "expires_in"),
        ({"expires_in": 1e12}, 400, "expires_in"),
        ({"expires_in": "90"}, 400, "expires_in"),
        ({"role": "admin"}, 400, "role"),
        ({"limits": {"requests_per_minute": 0}}, 400, "limits"),
        ({"limits": {"requests_per_hour": 1}}, 400, "limits"),
        ({"limits": {"tokens_per_day": "10"}}, 400, "limits"),
        ({"limits": {"tokens_per_day": 10}, "scopes": ["train"]}, 400, "limits"),
        ({"limits": {"tokens_per_day": 10}, "scopes": ["metrics"], "unit": None}, 400, "limits"),
        ({"hash": "0" * 64}, 400, "hash"),
    ],
)
def test_what_can_be_no_key_is_refused_by_name(
    world: World, asked: dict[str, Any], status: int, param: str | None
) -> None:
    answer = world.http().post("/v1/keys", json={**SHOP, **asked})
    assert answer.status_code == status, answer.text
    if param is not None:
        assert answer.json()["error"]["param"].split(".")[0] == param


def test_limits_of_a_key_are_shown_and_handed_on(world: World) -> None:
    limits = {"requests_per_minute": 60, "max_concurrent_requests": 2}
    made = make(world, limits=limits)
    assert made["limits"] == limits
    assert make(world, name="app")["limits"] == {}
    rotated = world.http().post(f"/v1/keys/{made['id']}/rotate", json={}).json()
    assert rotated["limits"] == limits
    listed = world.http().get("/v1/keys").json()["data"]
    assert [key["limits"] for key in listed if key["name"] == "shop"] == [limits, limits]


def test_keys_are_the_admins_alone(world: World) -> None:
    made = make(world)
    scraper = make(world, name="scraper", unit=None, scopes=["metrics"])
    for secret in (world.key("support"), world.key("trainer"), made["secret"], scraper["secret"]):
        for method, path in (
            ("GET", "/v1/keys"),
            ("POST", "/v1/keys"),
            ("GET", f"/v1/keys/{made['id']}"),
            ("POST", f"/v1/keys/{made['id']}/rotate"),
            ("POST", f"/v1/keys/{made['id']}/revoke"),
        ):
            answer = ask(world, {"secret": secret}, method, path, json={})
            assert answer.status_code == 403, (method, path, answer.text)
    assert ask(world, made, "GET", "/v1/models").status_code == 200


def test_another_admin_may_be_made_and_does_everything(world: World) -> None:
    second = make(world, name="second", unit=None, scopes=["admin"])
    assert ask(world, second, "GET", "/v1/replicas").status_code == 200
    assert ask(world, second, "POST", "/v1/keys", json={**SHOP, "name": "x"}).status_code == 200


def test_both_keys_of_a_rotation_are_valid_until_the_old_one_ends(world: World) -> None:
    first = make(world)
    rotated = world.http().post(f"/v1/keys/{first['id']}/rotate", json={"overlap": 2})
    second = rotated.json()
    assert (second["name"], second["scopes"]) == (first["name"], first["scopes"])
    wait_until(lambda: ask(world, second, "GET", "/v1/models").status_code == 200)
    assert ask(world, first, "GET", "/v1/models").status_code == 200
    full = world.http().post("/v1/keys", json=SHOP)
    assert (full.status_code, full.json()["error"]["code"]) == (409, "too_many_keys")
    wait_until(lambda: ask(world, first, "GET", "/v1/models").status_code == 401)
    assert ask(world, second, "GET", "/v1/models").status_code == 200
    ended = world.http().post(f"/v1/keys/{first['id']}/rotate", json={})
    assert ended.json()["error"]["code"] == "key_ended"


def test_a_key_of_a_file_is_not_rotated_here(world: World) -> None:
    listed = world.http().get("/v1/keys").json()["data"]
    (admin,) = [key for key in listed if key["role"] == "admin"]
    answer = world.http().post(f"/v1/keys/{admin['id']}/rotate", json={})
    assert (answer.status_code, answer.json()["error"]["code"]) == (409, "key_not_rotatable")
    unknown = world.http().post("/v1/keys/key_unknown/rotate", json={})
    assert unknown.status_code == 404


def test_a_repeated_request_finds_its_key_and_shows_no_secret_again(world: World) -> None:
    http, once = world.http(), {"Idempotency-Key": "one"}
    first = http.post("/v1/keys", json=SHOP, headers=once).json()
    repeated = http.post("/v1/keys", json=SHOP, headers=once)
    assert repeated.json() == {**first, "secret": None}
    assert repeated.headers["idempotency-replayed"] == "true"
    other = http.post("/v1/keys", json={**SHOP, "name": "app"}, headers=once)
    assert (other.status_code, other.json()["error"]["code"]) == (409, "idempotency_key_reused")
    for path in ("rotate", "revoke"):
        done = [
            http.post(f"/v1/keys/{first['id']}/{path}", json={}, headers={"Idempotency-Key": path})
            for _ in range(2)
        ]
        assert [answer.status_code for answer in done] == [200, 200]
        assert len({answer.json()["id"] for answer in done}) == 1
        told = [answer.headers.get("idempotency-replayed") for answer in done]
        assert told == [None, "true" if path == "rotate" else None], "to end a key twice is nothing"
    longest = http.post("/v1/keys", json=SHOP, headers={"Idempotency-Key": "x" * 300})
    assert longest.status_code == 400


def test_a_revoked_key_is_refused_within_a_second_in_every_process(tmp_path: Path) -> None:
    state = tmp_path / "state"
    with running(state) as one, running(state) as two:
        made = make(one)
        wait_until(lambda: ask(two, made, "GET", "/v1/models").status_code == 200)
        assert one.http().post(f"/v1/keys/{made['id']}/revoke").json()["revoked_at"]
        for world in (one, two):
            refuses = partial(answers, world, made, 401)
            assert wait_until(refuses) < 1.0
        refused = ask(one, made, "GET", "/v1/models").json()["error"]
        assert refused == ask(one, {"secret": "nobody's"}, "GET", "/v1/models").json()["error"]
        retrieved = one.http().get(f"/v1/keys/{made['id']}").json()
        assert retrieved["revoked_at"] is not None
        assert made["id"] not in one.http().get("/v1/keys").text


async def test_a_use_is_told_to_the_registry_later_and_costs_a_request_no_call(
    tmp_path: Path,
) -> None:
    with offline(tmp_path / "state") as world:
        await world.settle(rounds=2)
        found = world.runtime.authenticate(f"Bearer {world.key('support')}".encode())
        keys = world.runtime.registry.keys
        assert keys.get(found.id).last_used_at is None
        await world.runtime.swap.key_uses.step()
        assert keys.get(found.id).last_used_at is not None


async def test_a_key_that_an_earlier_build_hashed_stays_valid(tmp_path: Path) -> None:
    with offline(tmp_path / "state") as world:
        secret, new = make_key(Role.UNIT, Unit("sales"), pepper=world.runtime.pepper)
        before = world.runtime.hasher.hash_of_earlier_builds(secret)
        world.runtime.registry.keys.add([replace(new, hash=before, hash_version=1)])
        await world.settle(rounds=2)
        assert world.runtime.authenticate(f"Bearer {secret}".encode()).id == new.id
        world.runtime.registry.keys.revoke(new.id, by=SYSTEM)
        await world.settle(rounds=2)
        with pytest.raises(InvalidKey):
            world.runtime.authenticate(f"Bearer {secret}".encode())


def test_every_scope_can_be_given(world: World) -> None:
    for scope in Scope:
        unit = None if scope in (Scope.METRICS, Scope.ADMIN) else "support"
        made = make(world, name=f"only-{scope}", unit=unit, scopes=[scope])
        assert made["scopes"] == [scope]
