"""Canaries and shadows over HTTP: who gets which version, what is counted, and what follows."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import openai
import pytest

from adapters.domain.names import Digest
from adapters.domain.principals import SYSTEM
from service.engine.quarantine_record import QuarantineRecord
from service.engine.turns import Load
from service.reconcile.copies import MAX_COPIES, Copies
from tests.service.world import World, running

HELLO = [{"role": "user", "content": "hello"}]
WAIT_SECONDS = 60.0
"""A bound on hanging, not on speed."""


def soon(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + WAIT_SECONDS
    while not condition():
        assert time.monotonic() < deadline, "it did not come"
        time.sleep(0.05)


def command(world: World, path: str, generation: int | None = None, **words: Any) -> Any:
    seen = {} if generation is None else {"expected_generation": generation}
    return world.http("support").post(f"/v1/adapters/support/{path}", json={**seen, **words})


def show(world: World, path: str = "") -> Any:
    return world.http("support").get(f"/v1/adapters/support{path}").json()


def published(world: World, number: int = 2) -> None:
    """So many versions, of which the first is live."""
    for _ in range(number):
        world.publish("support")
    assert command(world, "promote", version=1).json()["state"] == "complete"


def canaried(world: World, weight: float = 50.0, **words: Any) -> Any:
    published(world)
    words = {"steps": [{"weight": weight, "minutes": 0}], "advances": weight < 100.0, **words}
    begun = command(world, "canary", 1, version=2, **words)
    assert begun.json()["state"] == "complete", begun.text
    return begun.json()


def ask(world: World, **words: Any) -> str:
    headers = words.pop("headers", {})
    body = {"model": "support", "messages": HELLO, **words}
    answer = world.http("support").post("/v1/chat/completions", json=body, headers=headers)
    named = answer.headers["x-adapter-version"]
    if answer.status_code == 200:
        assert answer.json()["model"] == named
        assert answer.json()["choices"][0]["message"]["content"] == f"answer of {named}"
        assert len(answer.headers["x-adapter-digest"]) == 64
    return str(named)


# -- choosing


def test_a_canary_answers_a_part_and_every_answer_names_its_version(world: World) -> None:
    begun = canaried(world, reason="new data")
    assert begun["route"]["canary"] == {"version": "support:2", "weight": 50.0}
    assert (begun["action"], begun["weight"], begun["reason"]) == ("canary", 50.0, "new data")
    assert {ask(world) for _ in range(40)} == {"support:1", "support:2"}


def test_steps_are_taken_from_the_smallest_weight_on(world: World) -> None:
    published(world)
    begun = command(world, "canary", 1, version=2, steps=[{"weight": 50}, {"weight": 5}])
    assert begun.json()["route"]["canary"]["weight"] == 5.0
    weights = [step["weight"] for step in show(world, "/canary")["plan"]["steps"]]
    assert weights == [5.0, 50.0]


@pytest.mark.parametrize(
    "named",
    [
        lambda who: {"user": who},
        lambda who: {"safety_identifier": who},
        lambda who: {"prompt_cache_key": who},
        lambda who: {"headers": {"x-wardrobe-sticky": who}},
    ],
    ids=["user", "safety_identifier", "prompt_cache_key", "header"],
)
def test_whoever_names_itself_gets_one_version_and_keeps_the_canary_as_it_grows(
    world: World, named: Callable[[str], dict[str, Any]]
) -> None:
    canaried(world)
    people = [f"person {number}" for number in range(12)]
    first = {who: ask(world, **named(who)) for who in people}
    assert set(first.values()) == {"support:1", "support:2"}
    assert {who: ask(world, **named(who)) for who in people} == first
    assert command(world, "canary/weight", 2, weight=80).json()["state"] == "complete"
    for who, version in first.items():
        if version == "support:2":
            assert ask(world, **named(who)) == version


def test_a_version_by_its_name_answers_beside_a_canary(world: World) -> None:
    canaried(world, weight=100.0)
    assert ask(world) == "support:2"
    assert ask(world, model="support:1") == "support:1"


def test_where_a_canary_cannot_be_loaded_its_part_gets_the_stable_version(tmp_path: Path) -> None:
    with running(tmp_path / "state") as world:
        canaried(world, weight=100.0, rolls_back=False)
        version = world.runtime.registry.versions.get("support", 2, SYSTEM)
        weights = world.runtime.store.fetch(version.digest) / "adapter_model.safetensors"
        weights.chmod(0o644)
        weights.write_bytes(b"torn")
    with running(tmp_path / "state") as world:
        assert {ask(world) for _ in range(5)} == {"support:1"}
        soon(lambda: show(world, "/canary")["canary"]["errors"] >= 5)


def test_who_goes_away_has_waited_so_long_at_least(world: World) -> None:
    canaried(world)
    world.engine.token_seconds = 1.0
    for _ in range(2):
        with pytest.raises(openai.APITimeoutError):
            world.client(timeout=0.5).chat.completions.create(model="support", messages=HELLO)
    soon(lambda: _requests(world) == 2)
    found = show(world, "/canary")
    slowest = max(found[arm]["p95_seconds"] or 0.0 for arm in ("canary", "stable"))
    assert slowest >= 0.5


def _requests(world: World) -> int:
    found = show(world, "/canary")
    return sum(int(found[arm]["requests"]) for arm in ("canary", "stable"))


# -- moving and ending


def test_weight_abort_and_promotion_move_the_route_at_once(world: World) -> None:
    canaried(world)
    assert command(world, "canary/weight", 2, weight=0).json()["state"] == "complete"
    assert {ask(world) for _ in range(20)} == {"support:1"}
    assert command(world, "abort", 3, reason="no").json()["state"] == "complete"
    assert show(world)["route"]["canary"] is None
    assert show(world, "/canary")["state"] == "aborted"
    again = command(world, "canary", 4, version=2, steps=[{"weight": 100.0}], advances=False)
    assert again.json()["state"] == "complete"
    done = command(world, "promote", 5, version=2)
    assert (done.json()["state"], done.json()["route"]["stable"]) == ("complete", "support:2")
    assert show(world, "/canary")["state"] == "promoted"
    assert {ask(world) for _ in range(5)} == {"support:2"}


def test_a_rollback_takes_the_canary_out_and_marks_it(world: World) -> None:
    canaried(world)
    back = command(world, "rollback", 2)
    assert (back.json()["state"], back.json()["replaced"]) == ("complete", "support:2")
    assert command(world, "rollback", 2).json()["id"] == back.json()["id"]
    assert {ask(world) for _ in range(20)} == {"support:1"}
    assert show(world, "/versions/2")["rolled_back_at"] is not None


def test_a_bad_canary_is_rolled_back_by_itself_with_the_numbers(world: World) -> None:
    canaried(world)
    world.engine.failing.add("support:2")
    asked = 0
    while show(world)["route"]["canary"] is not None:
        ask(world)
        asked += 1
        assert asked < 3_000
    found = show(world, "/canary")
    assert found["state"] == "rolled_back"
    assert found["reason"].startswith("errors: ")
    newest = show(world, "/rollouts")["data"][0]
    assert (newest["action"], newest["actor"]) == ("rollback", f"canary:{found['id']}")
    assert newest["reason"] == found["reason"]
    assert {ask(world) for _ in range(5)} == {"support:1"}


@pytest.mark.slow
def test_a_good_canary_goes_on_and_is_promoted_by_itself(world: World) -> None:
    canaried(world, min_requests=10, tolerance=1.0, slow_tolerance=1.0)
    asked = 0
    while show(world)["route"]["stable"] != "support:2":
        for _ in range(20):
            ask(world)
        asked += 20
        assert asked < 6_000
    found = show(world, "/canary")
    assert (found["state"], found["canary"]["errors"]) == ("promoted", 0)


def test_what_was_counted_is_shown_with_what_it_waits_for(world: World) -> None:
    canaried(world)
    for _ in range(10):
        ask(world)
    soon(lambda: show(world, "/canary")["waits_for"] is not None)
    found = show(world, "/canary")
    assert found["canary"]["requests"] + found["stable"]["requests"] == 10
    assert "of the 100 requests" in found["waits_for"]
    assert found["plan"]["steps"] == [{"weight": 50.0, "minutes": 0.0}]


def test_scores_are_kept_once_and_of_the_two_versions_only(world: World) -> None:
    canaried(world)
    world.publish("support")
    said = [
        {"id": "chatcmpl-1", "version": "support:1", "score": 0.5},
        {"id": "chatcmpl-2", "version": "support:2", "score": 1.0},
    ]
    assert command(world, "canary/scores", scores=said).json()["new"] == 2
    assert command(world, "canary/scores", scores=said).json()["new"] == 0
    found = show(world, "/canary")
    assert (found["stable"]["mean_score"], found["canary"]["mean_score"]) == (0.5, 1.0)
    other = [{"id": "3", "version": "support:3", "score": 1.0}]
    refused = command(world, "canary/scores", scores=other)
    assert (refused.status_code, refused.json()["error"]["code"]) == (409, "not_compared")


def test_what_a_command_may_not_say_is_refused_by_name(world: World) -> None:
    published(world)
    for path, words, param in (
        ("canary", {"version": 2}, "expected_generation"),
        ("canary", {"version": 2, "expected_generation": 1, "steps": [{"weight": 100}]}, None),
        ("canary", {"version": True, "expected_generation": 1}, "version.int"),
        ("canary", {"version": 2, "expected_generation": 1, "weight": 5}, "weight"),
        ("canary/weight", {"weight": 101, "expected_generation": 1}, "weight"),
        ("canary/weight", {"weight": "5", "expected_generation": 1}, "weight"),
        ("abort", {"reason": "a\nb", "expected_generation": 1}, "reason"),
        ("abort", {"reason": "a" * 501, "expected_generation": 1}, "reason"),
        ("shadow", {"version": 2, "share": -1, "expected_generation": 1}, "share"),
        ("canary/scores", {"scores": []}, "scores"),
        ("canary/scores", {"scores": [{"id": "a b", "version": "support:1", "score": 1}]},
         "scores.0.id"),
        ("canary/scores", {"scores": [{"id": "a", "version": "support:1", "score": 2}]},
         "scores.0.score"),
    ):  # fmt: skip
        answer = command(world, path, **words)
        assert answer.status_code == 400, (path, words, answer.text)
        assert answer.json()["error"]["param"] == param
    assert show(world)["route"]["generation"] == 1


@pytest.mark.parametrize("path", ["promote", "warm", "canary", "shadow"])
def test_a_version_of_a_base_that_no_replica_serves_is_refused_by_all_that_load_it(
    world: World, path: str
) -> None:
    published(world, 1)
    world.publish("support", base=Digest("c" * 64))
    refused = command(world, path, 1, version=2)
    assert refused.status_code == 409
    error = refused.json()["error"]
    assert error["code"] == "base_mismatch"
    assert "than the one served" in error["message"]


def test_another_units_routes_look_unknown_to_every_command(world: World) -> None:
    canaried(world)
    sales = world.http("sales")
    for path in ("canary", "canary/weight", "canary/scores", "abort", "shadow", "shadow/end",
                 "warm"):  # fmt: skip
        body = {"expected_generation": 2, "version": 2, "weight": 5.0, "scores": []}
        answer = sales.post(f"/v1/adapters/support/{path}", json=body)
        assert answer.status_code in (400, 404), path
        assert "support:" not in answer.text
    for path in ("canary", "shadow"):
        assert sales.get(f"/v1/adapters/support/{path}").status_code == 404
    pin = sales.post("/v1/adapters/support/versions/2/pin", json={})
    assert pin.status_code == 404


def test_a_warm_version_answers_without_a_load(world: World) -> None:
    published(world)
    warmed = command(world, "warm", version=2)
    assert (warmed.json()["state"], warmed.json()["action"]) == ("complete", "warm")
    assert show(world)["route"]["generation"] == 1
    loads = list(world.engine.loads)
    assert ask(world, model="support:2") == "support:2"
    assert world.engine.loads == loads


def test_a_pinned_version_is_loaded_and_stays(world: World) -> None:
    published(world)
    pinned = world.http("support").post("/v1/adapters/support/versions/2/pin", json={})
    assert pinned.json()["pinned_at"] is not None
    soon(lambda: "support:2" in world.engine.loads)
    undone = world.http("support").post(
        "/v1/adapters/support/versions/2/pin", json={"pinned": False}
    )
    assert undone.json()["pinned_at"] is None


def test_who_withdraws_a_version_may_say_why(world: World) -> None:
    published(world)
    assert command(world, "versions/2/retire", reason="leaks names").status_code == 200
    assert command(world, "versions/2/retire").status_code == 200
    logged = world.http("admin").get("/v1/audit?limit=100").json()["data"]
    (entry,) = [each for each in logged if each["action"] == "version.retired"]
    assert entry["reason"] == "leaks names"


# -- shadows


def shadowed(world: World, share: float = 100.0) -> None:
    published(world)
    begun = command(world, "shadow", 1, version=2, share=share)
    assert begun.json()["state"] == "complete", begun.text


@pytest.mark.parametrize("stream", [False, True])
def test_a_shadow_is_asked_and_compared_and_never_answers(world: World, stream: bool) -> None:
    shadowed(world)
    client = world.client()
    for _ in range(4):
        answer = client.chat.completions.create(
            model="support",
            messages=HELLO,
            stream=stream,
            **({"stream_options": {"include_usage": True}} if stream else {}),
        )
        named = {chunk.model for chunk in answer} if stream else {answer.model}
        assert named == {"support:1"}
        soon(lambda: not world.runtime.copies._tasks)
    soon(lambda: show(world, "/shadow")["copies"] == 4)
    found = show(world, "/shadow")
    assert (found["agreement"], found["errors"], found["dropped"]) == (0.0, 0, 0)
    assert found["length_ratio"] == 1.0
    labels = {"unit": "support", "alias": "support", "version": "support:2"}
    copies = world.prometheus.get_sample_value(
        "wardrobe_shadow_copies_total", {**labels, "outcome": "differed"}
    )
    assert copies == 4
    asked = world.prometheus.get_sample_value(
        "wardrobe_requests_total", {**labels, "outcome": "ok"}
    )
    assert asked is None, "a copy is no request of the unit's"


def test_a_shadow_that_fails_is_counted_and_disturbs_nobody(world: World) -> None:
    shadowed(world)
    world.engine.failing.add("support:2")
    assert ask(world) == "support:1"
    soon(lambda: show(world, "/shadow")["errors"] == 1)


def test_an_answer_does_not_wait_for_its_copy(world: World) -> None:
    shadowed(world)
    world.engine.token_seconds = 0.5
    assert ask(world) == "support:1"
    soon(lambda: bool(world.runtime.copies._tasks))  # it begins behind the last byte, and goes on
    soon(lambda: not world.runtime.copies._tasks)


def test_a_copy_that_kills_the_engine_is_the_suspect_and_no_caller(world: World) -> None:
    shadowed(world)
    world.engine.token_seconds = 0.5
    assert ask(world) == "support:1"
    soon(lambda: bool(world.runtime.copies._tasks))
    world.engine.alive = False
    soon(lambda: not world.runtime.copies._tasks)
    record = QuarantineRecord(world.settings.state_folder.in_flight)
    try:
        record.settle()
        assert len(record.suspects()) == 1
    finally:
        record.close()


async def test_copies_keep_to_their_bounds() -> None:
    copies = Copies()
    forever = asyncio.Event()

    async def wait() -> None:
        await forever.wait()

    for _ in range(MAX_COPIES):
        assert copies.has_room
        copies.start(wait())
    assert not copies.has_room
    copies.stop()
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    assert not copies._tasks
    assert not copies.has_room


def test_a_copy_is_dropped_where_the_engine_has_other_work(world: World) -> None:
    shadowed(world)
    turns = world.runtime.turns
    whole = turns.take_spare(Load(sequences=turns.shared, tokens=1))
    assert whole is not None
    assert ask(world) == "support:1", "a caller waits for nobody's copies"
    soon(lambda: show(world, "/shadow")["dropped"] == 1)
    whole.__exit__()
    assert ask(world) == "support:1"
    soon(lambda: show(world, "/shadow")["copies"] == 1)


def test_a_shadow_that_ended_gets_no_more_copies(world: World) -> None:
    shadowed(world)
    assert command(world, "shadow/end", 2).json()["state"] == "complete"
    assert show(world)["route"]["shadow"] is None
    ask(world)
    assert world.http("support").get("/v1/adapters/support/shadow").status_code == 404
    assert not world.runtime.copies._tasks
