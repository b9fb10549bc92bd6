"""Promote and roll back over HTTP, with clients that never stop calling."""

from __future__ import annotations

import concurrent.futures
import dataclasses
import threading
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import openai
import pytest

from adapters.domain.gates import at_least
from adapters.domain.names import Alias, Digest, JobId, Unit, VersionId
from adapters.domain.principals import SYSTEM
from adapters.domain.versions import Version
from adapters.errors import Conflict, Unavailable
from adapters.registry.ports import Acknowledgement, NewVersion, ProcessId, Registration
from service.api.adapters import retire
from service.api.route_commands import Why
from service.cli.client import Client
from service.reconcile.rollouts import LAST_LOOK_SECONDS, WATCH_SECONDS
from tests.service.world import FINGERPRINT, World, offline, running
from tests.simulation.engine import BASE, SimulatedEngine

HELLO = [{"role": "user", "content": "hello"}]


def promote(world: World, version: int | str, alias: str = "support", **extra: Any) -> Any:
    body = {"version": version, **extra}
    return world.http(alias).post(f"/v1/adapters/{alias}/promote", json=body)


def rollback(world: World, generation: int, alias: str = "support", **extra: Any) -> Any:
    body = {"expected_generation": generation, **extra}
    return world.http(alias).post(f"/v1/adapters/{alias}/rollback", json=body)


def in_flight(world: World) -> None:
    """Waits until a request is being answered."""
    deadline = time.monotonic() + 10
    while not world.runtime.leases.total:
        assert time.monotonic() < deadline
        time.sleep(0.005)


def test_a_promotion_moves_the_route_and_keeps_the_old_version_for_rollback(world: World) -> None:
    world.publish("support")
    world.publish("support")
    first, second = promote(world, 1).json(), promote(world, "support:2").json()
    assert (first["state"], second["state"]) == ("complete", "complete")
    assert second["route"]["stable"] == "support:2"
    assert second["replaced"] == "support:1"
    assert second["route"]["generation"] == 2
    back = rollback(world, 2).json()
    assert back["route"]["stable"] == "support:1"
    assert world.engine.loads == ["support:1", "support:2"]
    states = {
        v["id"]: v["state"]
        for v in world.http("support").get("/v1/adapters/support/versions").json()["data"]
    }
    assert states == {"support:1": "live", "support:2": "retired"}


def test_after_promote_answers_every_new_request_is_the_new_versions(world: World) -> None:
    client = world.client()
    for number in (1, 2, 3, 4, 5):
        version = world.publish("support")
        assert promote(world, number).status_code == 200
        answer = client.chat.completions.create(model="support", messages=HELLO)
        assert answer.model == version.name


def test_promoting_what_is_live_changes_nothing(world: World) -> None:
    world.publish("support")
    assert promote(world, 1).json()["route"]["generation"] == 1
    again = promote(world, 1)
    assert again.status_code == 200
    assert again.json()["route"]["generation"] == 1


def test_of_two_promotions_at_once_one_wins_and_one_is_told_with_a_code(world: World) -> None:
    for _ in range(2):
        world.publish("support")
    world.engine.load_seconds = 0.3
    with concurrent.futures.ThreadPoolExecutor(2) as pool:
        answers = list(pool.map(lambda n: promote(world, n, expected_generation=0), (1, 2)))
    assert sorted(a.status_code for a in answers) == [200, 409]
    lost = next(a for a in answers if a.status_code == 409)
    assert lost.json()["error"]["code"] in {"rollout_in_progress", "version_conflict"}
    assert lost.headers["x-should-retry"] == "false"


def test_a_promotion_from_an_old_look_is_refused(world: World) -> None:
    for _ in range(2):
        world.publish("support")
    promote(world, 1)
    stale = promote(world, 2, expected_generation=0)
    assert stale.status_code == 409
    assert stale.json()["error"]["code"] == "version_conflict"


def test_a_rejected_version_is_never_promoted_nor_served(world: World) -> None:
    version, fence = published_by_a_job(world)
    no = at_least("task", 0.1, 0.9, "worse than the base")
    world.runtime.registry.versions.record_gates(version.id, [no], fence=fence, evidence={})
    answer = promote(world, 1)
    assert answer.status_code == 409
    assert answer.json()["error"]["code"] == "version_rejected"
    assert "task" in answer.json()["error"]["message"]
    with pytest.raises(openai.NotFoundError):
        world.client().chat.completions.create(model=version.name, messages=HELLO)
    shown = world.http("support").get("/v1/adapters/support/versions/1").json()
    assert shown["state"] == "rejected"
    assert shown["gates"][0]["outcome"] == "failed"


def published_by_a_job(world: World) -> tuple[Version, int]:
    """A version whose gates are to be decided, and the fence of the job that may."""
    client = world.client()
    line = b'{"messages": []}\n'
    file = client.files.create(file=("x.jsonl", line), purpose="fine-tune")
    made = client.fine_tuning.jobs.create(model=BASE, training_file=file.id)
    registry = world.runtime.registry
    registry.jobs.accept(JobId(made.id), error=None)
    job = registry.jobs.claim(owner="trainer", lease_seconds=60)
    assert job is not None
    assert job.lease is not None
    new = NewVersion(
        adapter="support",
        unit=Unit("support"),
        digest=world.publish("hr").digest,
        base_fingerprint=FINGERPRINT,
        rank=8,
        size_bytes=1,
        evidence={},
    )
    fence = job.lease.fence
    return registry.versions.publish(new, job_id=job.id, fence=fence), fence


def test_a_version_whose_gates_are_not_decided_cannot_be_promoted(world: World) -> None:
    version, fence = published_by_a_job(world)
    unproven = promote(world, version.number)
    assert unproven.status_code == 409
    assert unproven.json()["error"]["code"] == "version_unproven"
    yes = at_least("task", 0.9, 0.1, "better than the base")
    world.runtime.registry.versions.record_gates(version.id, [yes], fence=fence, evidence={})
    assert promote(world, version.number).status_code == 200


def test_a_version_of_another_base_never_reaches_the_engine(world: World) -> None:
    world.publish("support", base=Digest("c" * 64))
    answer = promote(world, 1)
    assert answer.status_code == 409
    assert answer.json()["error"]["code"] in {"rollout_failed", "base_mismatch"}
    assert "another base model" in answer.json()["error"]["message"]
    assert world.engine.loads == []


def test_what_the_engine_refuses_changes_nothing_and_says_why(world: World) -> None:
    world.publish("support")
    promote(world, 1)
    world.publish("support")
    world.engine.refused.add("support:2")
    answer = promote(world, 2)
    assert answer.status_code == 409
    assert answer.json()["error"]["code"] == "rollout_failed"
    assert (
        world.client().chat.completions.create(model="support", messages=HELLO).model == "support:1"
    )


def test_a_damaged_artifact_is_found_before_the_engine_sees_it(world: World) -> None:
    version = world.publish("support")
    folder = world.runtime.store.fetch(version.digest)
    weights = folder / "adapter_model.safetensors"
    weights.chmod(0o644)
    weights.write_bytes(weights.read_bytes()[:-1] + b"!")
    answer = promote(world, 1)
    assert answer.status_code == 409
    assert world.engine.loads == []


@pytest.mark.parametrize(
    "body",
    [{}, {"version": "x"}, {"version": "support:0"}, {"version": -1}, {"version": 1, "extra": 1},
     {"version": 1, "timeout": 1e9}, {"version": [1]}, {"version": 1, "expected_generation": -1},
     {"version": True}, {"version": 1.0}, {"version": 1, "wait": 1},
     {"version": 1, "expected_generation": "0"}, {"version": 1, "expected_generation": False}],
)  # fmt: skip
def test_a_promotion_in_wrong_words_is_a_400_that_names_the_field(
    world: World, body: dict[str, Any]
) -> None:
    answer = world.http("support").post("/v1/adapters/support/promote", json=body)
    assert answer.status_code == 400
    assert set(answer.json()["error"]) == {"message", "type", "param", "code"}


def test_unknown_and_foreign_adapters_and_versions_are_404(world: World) -> None:
    world.publish("hr")
    world.publish("support")
    assert promote(world, 7).status_code == 404
    assert promote(world, "hr:1").status_code == 404
    for path in ("hr", "nothing", "hr/versions", "hr/versions/1", "hr/rollouts"):
        assert world.http("support").get(f"/v1/adapters/{path}").status_code == 404, path
    for verb in ("promote", "rollback"):
        body = {"version": 1} if verb == "promote" else {"expected_generation": 0}
        answer = world.http("support").post(f"/v1/adapters/hr/{verb}", json=body)
        assert answer.status_code == 404


def test_there_is_nothing_to_roll_back_before_a_second_promotion(world: World) -> None:
    answer = rollback(world, 0)
    assert answer.status_code == 409
    assert answer.json()["error"]["code"] == "nothing_to_roll_back"


OTHER = ProcessId(replica="other:1", incarnation="1")


def other_replica(world: World, *loaded: VersionId) -> int:
    """Another replica, that has read the routes as they are now; the answer is their revision."""
    replicas = world.runtime.registry.replicas
    replicas.register(Registration(process=OTHER, base_fingerprint=FINGERPRINT, limits={}))
    replicas.heartbeat(OTHER, ready=True, lease_seconds=15)
    has_loaded(world, *loaded)
    return replicas.observe(OTHER, world.runtime.registry.routes.revision())


def has_loaded(world: World, *loaded: VersionId) -> None:
    told = [Acknowledgement(version_id=version) for version in loaded]
    world.runtime.registry.replicas.acknowledge(OTHER.replica, OTHER.incarnation, told)


def soon(condition: Callable[[], bool], seconds: float = 10.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def stable(world: World) -> Any:
    return world.http("support").get("/v1/adapters/support").json()["route"]["stable"]


def test_complete_is_never_said_while_a_replica_that_may_answer_has_not_observed_the_flip(
    world: World,
) -> None:
    version = world.publish("support")
    other_replica(world, version.id)
    answer = promote(world, 1, timeout=3.0)
    assert answer.status_code == 200, "it is committed: an SDK would repeat anything else"
    assert answer.json()["state"] == "flipped"
    assert answer.json()["waits_for"] == ["other:1"]
    assert answer.json()["route"]["stable"] == "support:1"
    status = world.http("admin").get("/v1/status").json()
    assert [(r["state"], r["waits_for"]) for r in status["rollouts"]] == [("flipped", ["other:1"])]
    registry = world.runtime.registry
    registry.replicas.observe(OTHER, registry.routes.revision())
    again = promote(world, 1)
    assert again.json()["state"] == "complete"
    assert again.json()["route"]["generation"] == 1


def test_a_replica_that_reports_and_lacks_the_version_holds_the_flip_and_one_that_left_does_not(
    world: World,
) -> None:
    world.publish("support")
    other_replica(world)
    waiting = promote(world, 1, timeout=1.0)
    assert (waiting.status_code, waiting.json()["state"]) == (200, "loading")
    assert waiting.json()["waits_for"] == ["other:1"]
    assert stable(world) is None
    world.runtime.registry.replicas.leave(OTHER)
    soon(lambda: stable(world) == "support:1")


def test_an_operators_word_ends_the_wait_for_a_replica_that_is_gone(world: World) -> None:
    version = world.publish("support")
    other_replica(world, version.id)
    promote(world, 1, wait=False)
    soon(lambda: newest(world)["state"] == "flipped")
    soon(lambda: is_open(world, "flipped") == 1)
    admin = world.http("admin")
    early = admin.post("/v1/replicas/other:1/retire")
    assert (early.status_code, early.json()["error"]["code"]) == (409, "replica_reporting")
    soon(lambda: not replica(world, "other:1")["reporting"], seconds=20.0)
    assert newest(world)["waits_for"] == ["other:1"], "silence is not an observation"
    assert admin.post("/v1/replicas/other:1/retire").status_code == 200
    soon(lambda: newest(world)["state"] == "complete")
    soon(lambda: is_open(world, "flipped") is None)
    assert world.http("support").get("/v1/replicas").status_code == 403
    assert world.http("support").post("/v1/replicas/other:1/retire").status_code == 403


def is_open(world: World, state: str) -> float | None:
    """What the alert about rollouts that do not complete asks."""
    labels = {"unit": "support", "alias": "support", "state": state}
    return world.prometheus.get_sample_value("wardrobe_rollout_open", labels)


def newest(world: World) -> Any:
    return world.http("support").get("/v1/adapters/support/rollouts").json()["data"][0]


def replica(world: World, name: str) -> Any:
    listed = world.http("admin").get("/v1/replicas").json()["data"]
    return next(each for each in listed if each["id"] == name)


def test_a_rollback_names_the_generation_it_was_decided_on(world: World) -> None:
    for number in (1, 2):
        world.publish("support")
        promote(world, number)
    refused = world.http("support").post("/v1/adapters/support/rollback", json={})
    assert refused.status_code == 400
    assert refused.json()["error"]["param"] == "expected_generation"
    assert "GET /v1/adapters/support" in refused.json()["error"]["message"]
    assert stable(world) == "support:2"


def test_repeating_a_rollback_is_doing_it_once(world: World) -> None:
    for number in (1, 2, 3):
        world.publish("support")
        promote(world, number)
    answers = [rollback(world, 3).json() for _ in range(3)]
    assert {(a["id"], a["version"], a["state"]) for a in answers} == {
        (answers[0]["id"], "support:2", "complete")
    }
    assert stable(world) == "support:2"


def test_a_second_rollback_goes_further_back_and_never_to_the_bad_version(world: World) -> None:
    for number in (1, 2, 3):
        world.publish("support")
        promote(world, number)
    assert rollback(world, 3).json()["version"] == "support:2"
    assert rollback(world, 4).json()["version"] == "support:1"
    assert rollback(world, 5).json()["error"]["code"] == "nothing_to_roll_back"
    assert stable(world) == "support:1"


def test_the_cli_and_the_sdk_repeat_a_rollback_without_a_second_effect(world: World) -> None:
    for number in (1, 2, 3):
        world.publish("support")
        promote(world, number)
    with Client(world.url, world.key("support")) as client:
        seen = client.adapter("support")["route"]["generation"]
        first = client.rollback("support")
        again = client.rollback("support", generation=seen)
    assert (first["version"], again["id"]) == ("support:2", first["id"])
    assert stable(world) == "support:2"


def test_a_retired_version_is_never_served_again_and_a_live_one_is_not_retired(
    world: World,
) -> None:
    world.publish("support")
    promote(world, 1)
    world.publish("support")
    client = world.client()
    client.chat.completions.create(model="support:2", messages=HELLO)
    http = world.http("support")
    live = http.post("/v1/adapters/support/versions/1/retire")
    assert (live.status_code, live.json()["error"]["code"]) == (409, "version_live")
    for _ in range(2):
        gone = http.post("/v1/adapters/support/versions/2/retire")
        assert gone.status_code == 200
        assert gone.json()["retired_at"]

    def is_gone() -> bool:
        return bool(
            http.post(
                "/v1/chat/completions", json={"model": "support:2", "messages": HELLO}
            ).status_code
            == 404
        )

    soon(is_gone, 1.0)
    soon(lambda: "support:2" not in world.engine.names.values(), 5.0)
    assert promote(world, 2).json()["error"]["code"] == "version_retired"
    foreign = world.http("hr").post("/v1/adapters/support/versions/1/retire")
    assert foreign.status_code == 404


def test_an_alias_that_moves_to_another_unit_starts_anew(world: World) -> None:
    world.publish("hr-screening", "hr")
    assert promote_as(world, "hr", "hr-screening", "hr-screening:1").status_code == 200
    folder = world.settings.units
    (folder / "hr.yaml").write_text("unit: hr\naliases: [hr]\n")
    (folder / "sales.yaml").write_text("unit: sales\naliases: [sales, hr-screening]\n")
    soon(lambda: world.http("sales").get("/v1/adapters/hr-screening").status_code == 200)
    moved = world.http("sales").get("/v1/adapters/hr-screening").json()
    assert (moved["unit"], moved["route"]["stable"]) == ("sales", None)
    assert world.http("hr").get("/v1/adapters/hr-screening").status_code == 404
    for owner in ("hr", "sales"):
        said = {"model": "hr-screening", "messages": HELLO}
        assert world.http(owner).post("/v1/chat/completions", json=said).status_code == 404
    assert world.http("sales").get("/v1/adapters/hr-screening/rollouts").json()["data"] == []


def promote_as(world: World, owner: str, alias: str, version: str) -> Any:
    return world.http(owner).post(f"/v1/adapters/{alias}/promote", json={"version": version})


def test_a_deleted_units_key_alias_and_versions_are_refused_and_its_versions_can_be_retired(
    world: World,
) -> None:
    world.publish("sales")
    assert promote_as(world, "sales", "sales", "sales:1").status_code == 200
    sales, admin = world.http("sales"), world.http("admin")
    said = {"model": "sales", "messages": HELLO}
    assert sales.post("/v1/chat/completions", json=said).status_code == 200
    (world.settings.units / "sales.yaml").unlink()
    soon(lambda: sales.get("/v1/models").status_code == 401, 5.0)
    for model in ("sales", "sales:1"):
        said = {"model": model, "messages": HELLO}
        assert admin.post("/v1/chat/completions", json=said).status_code == 404
    retired = admin.post("/v1/adapters/sales/versions/1/retire")
    assert retired.status_code == 200, retired.text


def test_what_was_committed_is_not_answered_with_an_error_when_the_registry_goes_away(
    tmp_path: Path,
) -> None:
    failing = threading.Event()
    with running(tmp_path / "state") as world:
        world.publish("support")
        world.engine.load_seconds = 1.0
        rollouts = world.runtime.swap.rollouts
        rollouts._rollouts = Unreachable(rollouts._rollouts, failing)
        with concurrent.futures.ThreadPoolExecutor(1) as pool:
            asked = pool.submit(promote, world, 1, timeout=2.0)
            soon(lambda: world.engine.asked == ["support:1"])
            failing.set()
            answer = asked.result()
        assert (answer.status_code, answer.json()["state"]) == (200, "loading")
        assert answer.json()["waits_for"] is None, "it could not be read"


def test_a_registry_that_hangs_keeps_a_command_hardly_longer_than_it_said(tmp_path: Path) -> None:
    hanging, free = threading.Event(), threading.Event()
    with running(tmp_path / "state") as world:
        world.publish("support")
        world.engine.load_seconds = 1.0
        rollouts, registry = world.runtime.swap.rollouts, world.runtime.registry
        rollouts._rollouts = Hanging(rollouts._rollouts, hanging, free)
        world.runtime.registry = dataclasses.replace(
            registry, routes=Hanging(registry.routes, hanging, free)
        )
        try:
            with concurrent.futures.ThreadPoolExecutor(1) as pool:
                asked = pool.submit(promote, world, 1, timeout=1.0)
                soon(lambda: world.engine.asked == ["support:1"])
                hanging.set()
                began = time.monotonic()
                answer = asked.result()
                took = time.monotonic() - began
        finally:
            free.set()
        assert (answer.status_code, answer.json()["state"]) == (200, "loading")
        assert answer.json()["waits_for"] is None, "it could not be read"
        assert answer.json()["route"]["generation"] == 0
        # one last look at the rollout, one at its route; a late call alone takes ten seconds
        assert took < 1.0 + 2 * LAST_LOOK_SECONDS + 3.0


class Hanging:
    """A port whose calls end only once `free` is set, from when `hanging` is set."""

    def __init__(self, port: Any, hanging: threading.Event, free: threading.Event) -> None:
        self._port = port
        self._hanging = hanging
        self._free = free

    def __getattr__(self, name: str) -> Any:
        def call(*args: Any, **kwargs: Any) -> Any:
            if self._hanging.is_set():
                self._free.wait(60)
            return getattr(self._port, name)(*args, **kwargs)

        return call


class Unreachable:
    """A port whose calls fail while the event is set."""

    def __init__(self, port: Any, failing: threading.Event) -> None:
        self._port = port
        self._failing = failing

    def __getattr__(self, name: str) -> Any:
        def call(*args: Any, **kwargs: Any) -> Any:
            if self._failing.is_set():
                raise Unavailable("the database is away")
            return getattr(self._port, name)(*args, **kwargs)

        return call


def test_commands_that_wait_for_one_rollout_look_at_it_as_one_would(tmp_path: Path) -> None:
    many = 40
    with running(tmp_path / "state") as world:
        world.publish("support")
        world.engine.load_seconds = 4.0
        rollouts = world.runtime.swap.rollouts
        counting = Counting(rollouts._rollouts)
        rollouts._rollouts = counting
        with concurrent.futures.ThreadPoolExecutor(many) as pool:
            began = time.monotonic()
            asked = [
                pool.submit(promote, world, 1, timeout=2.0, expected_generation=0)
                for _ in range(many)
            ]
            answers = [answer.result().json() for answer in asked]
            took = time.monotonic() - began
        assert {answer["id"] for answer in answers} == {answers[0]["id"]}
        assert {answer["state"] for answer in answers} == {"loading"}
        # one look in a tenth of a second, and one for each answer
        assert counting.calls["get"] <= took / WATCH_SECONDS + many


class Counting:
    """A port that counts its calls."""

    def __init__(self, port: Any) -> None:
        self._port = port
        self.calls: Counter[str] = Counter()

    def __getattr__(self, name: str) -> Any:
        self.calls[name] += 1
        return getattr(self._port, name)


async def test_a_replica_that_has_not_seen_a_promotion_retires_no_version_that_is_live(
    tmp_path: Path,
) -> None:
    with offline(tmp_path / "state") as late:
        version = late.make_live(late.publish("support"))
        assert late.runtime.table.live() == {}, "what another replica did was seen already"
        with pytest.raises(Conflict, match="live or about to be"):
            await retire("support", "1", late.runtime, SYSTEM, Why())
        route = late.runtime.registry.routes.route(Alias("support"), version.unit)
        assert route.stable == version.id


def test_a_generation_that_no_database_can_hold_is_no_server_error(world: World) -> None:
    world.publish("support")
    promote(world, 1)
    for generation in (2**31, 2**63, 10**30):
        for answer in (
            promote(world, 1, expected_generation=generation),
            rollback(world, generation),
        ):
            assert answer.status_code in (400, 409), answer.text


def test_history_says_who_moved_the_route_and_when(world: World) -> None:
    world.publish("support")
    promote(world, 1)
    listed = world.http("support").get("/v1/adapters/support/rollouts").json()
    assert [r["version"] for r in listed["data"]] == ["support:1"]
    assert listed["data"][0]["actor"].startswith("key_")
    assert listed["data"][0]["finished_at"] >= listed["data"][0]["created_at"]


def test_eight_clients_see_no_failure_and_no_mixed_answer_over_forty_swaps(world: World) -> None:
    for _ in range(2):
        world.publish("support")
    promote(world, 1)
    world.engine.token_seconds = 0.002
    stop, wrong, answered = threading.Event(), [], [0]

    def call(streaming: bool) -> None:
        client = world.client()
        while not stop.is_set():
            if streaming:
                chunks = list(
                    client.chat.completions.create(model="support", messages=HELLO, stream=True)
                )
                names = {chunk.model for chunk in chunks}
                text = "".join(c.choices[0].delta.content or "" for c in chunks)
                whole = chunks[-1].choices[0].finish_reason == "stop"
            else:
                answer = client.chat.completions.create(model="support", messages=HELLO)
                names, text, whole = {answer.model}, answer.choices[0].message.content, True
            answered[0] += 1
            if len(names) != 1 or text != f"answer of {next(iter(names))}" or not whole:
                wrong.append((names, text))

    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        callers = [pool.submit(call, bool(i % 2)) for i in range(8)]
        try:
            for swap in range(40):
                assert promote(world, 2 - swap % 2).status_code == 200
        finally:
            stop.set()  # or the pool would wait for the callers for ever
        for caller in callers:
            caller.result()
    assert wrong == []
    assert answered[0] > 40


def test_no_more_versions_are_resident_than_the_engine_has_slots(tmp_path: Path) -> None:
    with running(tmp_path / "state", SimulatedEngine(capacity=3)) as world:
        client = world.client()
        for number in range(1, 9):
            version = world.publish("support")
            assert (
                client.chat.completions.create(model=version.name, messages=HELLO).model
                == version.name
            )
            if number == 2:
                promote(world, 2)
        assert world.engine.most_resident == 3
        assert client.chat.completions.create(model="support", messages=HELLO).model == "support:2"


def test_a_restarted_replica_loads_every_live_version_before_it_is_ready(tmp_path: Path) -> None:
    state = tmp_path / "state"
    with running(state) as world:
        for alias in ("support", "sales"):
            world.publish(alias)
            promote(world, 1, alias)
    slow = SimulatedEngine()
    slow.load_seconds = 0.5
    with running(state, slow) as world:
        assert set(slow.loads) == {"support:1", "sales:1"}
        assert world.http(None).get("/readyz").status_code == 200


def damaged(world: World, alias: str) -> tuple[Path, bytes]:
    """A byte of the alias's first version is wrong; the answer is the file and what it held."""
    version = world.runtime.registry.versions.get(alias, 1, SYSTEM)
    weights = world.runtime.store.fetch(version.digest) / "adapter_model.safetensors"
    whole = weights.read_bytes()
    weights.chmod(0o644)
    weights.write_bytes(whole[:-1] + b"!")
    return weights, whole


def test_a_damaged_live_version_is_its_own_units_trouble_and_nobody_elses(tmp_path: Path) -> None:
    state = tmp_path / "state"
    with running(state) as world:
        for alias in ("support", "sales"):
            world.publish(alias)
            promote(world, 1, alias)
        damaged(world, "sales")
    with running(state) as world:
        ready = world.http(None).get("/readyz")
        assert ready.status_code == 200, "the others of the only pod would be unreachable"
        assert ready.json()["checks"]["unavailable"] == "1 live versions cannot be served"
        assert "sales" not in ready.text
        said = {"model": "sales", "messages": HELLO}
        refused = world.http("sales").post("/v1/chat/completions", json=said)
        error = refused.json()["error"]
        assert (refused.status_code, error["code"]) == (503, "version_unavailable")
        assert "artifact is damaged" in error["message"]
        assert str(tmp_path) not in refused.text
        assert refused.headers["retry-after"]
        answered = world.client().chat.completions.create(model="support", messages=HELLO)
        assert answered.model == "support:1"
        soon(lambda: series(world, "sales", "artifact_damaged") == 1)
        shown = world.http("sales").get("/v1/adapters/sales/versions/1").json()
        assert (shown["resident"], shown["load_error_code"]) == (False, "artifact_damaged")
        status = world.http("support").get("/v1/status").json()
        assert (status["ready"], status["unavailable"]) == (True, [])
        # its own successor takes the route
        world.publish("sales")
        assert promote(world, 2, "sales").json()["state"] == "complete"
        soon(lambda: series(world, "sales", "artifact_damaged") is None)


def series(world: World, alias: str, reason: str) -> float | None:
    return world.prometheus.get_sample_value(
        "wardrobe_version_unavailable",
        {"unit": alias, "alias": alias, "version": f"{alias}:1", "reason": reason},
    )


def test_a_damaged_live_version_recovers_by_itself_when_its_artifact_is_whole_again(
    tmp_path: Path,
) -> None:
    state = tmp_path / "state"
    with running(state) as world:
        world.publish("sales")
        promote(world, 1, "sales")
        weights, whole = damaged(world, "sales")
    with running(state) as world:
        said = {"model": "sales", "messages": HELLO}
        http = world.http("sales")
        assert http.post("/v1/chat/completions", json=said).status_code == 503
        weights.write_bytes(whole)
        soon(lambda: http.post("/v1/chat/completions", json=said).status_code == 200, 15.0)


def test_more_live_versions_than_slots_is_the_trouble_of_those_without_one(
    tmp_path: Path,
) -> None:
    state = tmp_path / "state"
    with running(state) as world:
        for alias in ("support", "sales", "hr"):
            world.publish(alias)
            promote(world, 1, alias)
    engine = SimulatedEngine(capacity=2)
    with running(state, engine) as world:
        assert world.http(None).get("/readyz").status_code == 200
        answers = {}
        for alias in ("support", "sales", "hr"):
            said = {"model": alias, "messages": HELLO}
            answers[alias] = world.http(alias).post("/v1/chat/completions", json=said)
        assert sorted(a.status_code for a in answers.values()) == [200, 200, 503]
        refused = next(a for a in answers.values() if a.status_code == 503)
        assert "WARDROBE_MAX_CPU_LORAS" in refused.json()["error"]["message"]
        time.sleep(1.5)
        assert len(engine.loads) == 2, "live versions take turns in the slots"


def test_draining_is_red_refuses_new_requests_and_lets_running_ones_finish(world: World) -> None:
    world.publish("support")
    promote(world, 1)
    world.engine.token_seconds = 0.4
    client = world.client()
    with concurrent.futures.ThreadPoolExecutor(1) as pool:
        running_one = pool.submit(
            lambda: list(
                client.chat.completions.create(model="support", messages=HELLO, stream=True)
            )
        )
        in_flight(world)
        world.runtime.draining = True
        assert world.http(None).get("/readyz").status_code == 503
        with pytest.raises(openai.InternalServerError) as refused:
            world.client().chat.completions.create(model="support", messages=HELLO)
        assert refused.value.status_code == 503
        assert refused.value.code == "draining"
        assert running_one.result()[-1].choices[0].finish_reason == "stop"
