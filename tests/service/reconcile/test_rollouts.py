"""Promote and roll back over HTTP, with clients that never stop calling."""

from __future__ import annotations

import concurrent.futures
import shutil
import threading
import time
from pathlib import Path
from typing import Any

import openai
import pytest

from adapters.domain.gates import at_least
from adapters.domain.jobs import JobStatus
from adapters.domain.names import Digest, Unit, VersionId
from adapters.domain.routes import Rollout, RolloutState
from adapters.domain.versions import Version
from adapters.registry import NewVersion, ReplicaReport
from adapters.registry.memory import MemoryRegistry
from service.reconcile import rollouts
from tests.service.simulated import BASE, SimulatedEngine
from tests.service.world import FINGERPRINT, World, offline, running

HELLO = [{"role": "user", "content": "hello"}]


def promote(world: World, version: int | str, alias: str = "support", **extra: Any) -> Any:
    body = {"version": version, **extra}
    return world.http(alias).post(f"/v1/adapters/{alias}/promote", json=body)


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
    assert second["route"]["previous"] == "support:1"
    assert second["route"]["generation"] == 2
    back = world.http("support").post("/v1/adapters/support/rollback").json()
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
    no = at_least("held_out", 0.1, 0.9, "worse than the base")
    world.runtime.registry.record_gates(version.id, [no], fence=fence, evidence={})
    answer = promote(world, 1)
    assert answer.status_code == 409
    assert answer.json()["error"]["code"] == "version_rejected"
    assert "held_out" in answer.json()["error"]["message"]
    with pytest.raises(openai.NotFoundError):
        world.client().chat.completions.create(model=version.name, messages=HELLO)
    shown = world.http("support").get("/v1/adapters/support/versions/1").json()
    assert shown["state"] == "rejected"
    assert shown["gates"][0]["passed"] is False


def published_by_a_job(world: World) -> tuple[Version, int]:
    """A version whose gates are to be decided, and the fence of the job that may."""
    client = world.client()
    line = b'{"messages": []}\n'
    file = client.files.create(file=("x.jsonl", line), purpose="fine-tune")
    made = client.fine_tuning.jobs.create(model=BASE, training_file=file.id)
    registry = world.runtime.registry
    registry.move_job(made.id, JobStatus.QUEUED, fence=None)
    job = registry.claim_job(owner="trainer", now=time.time(), lease_seconds=60)
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
    return registry.publish_version(new, job_id=job.id, fence=fence, at=time.time()), fence


def test_a_version_whose_gates_are_not_decided_cannot_be_promoted(world: World) -> None:
    version, fence = published_by_a_job(world)
    unproven = promote(world, version.number)
    assert unproven.status_code == 409
    assert unproven.json()["error"]["code"] == "version_unproven"
    yes = at_least("held_out", 0.9, 0.1, "better than the base")
    world.runtime.registry.record_gates(version.id, [yes], fence=fence, evidence={})
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
     {"version": 1, "timeout": 1e9}, {"version": [1]}, {"version": 1, "expected_generation": -1}],
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
        answer = world.http("support").post(f"/v1/adapters/hr/{verb}", json={"version": 1})
        assert answer.status_code == 404


def test_there_is_nothing_to_roll_back_before_a_second_promotion(world: World) -> None:
    answer = world.http("support").post("/v1/adapters/support/rollback")
    assert answer.status_code == 409
    assert answer.json()["error"]["code"] == "nothing_to_roll_back"


def other_replica(*loaded: VersionId) -> ReplicaReport:
    """One that has read nothing yet."""
    return ReplicaReport(
        id="other:1",
        at=time.time(),
        revision=0,
        loaded=frozenset(loaded),
        ready=True,
        base_fingerprint=FINGERPRINT,
        limits={},
    )


def test_a_promotion_is_not_called_complete_before_every_live_replica_routes_by_it(
    world: World,
) -> None:
    version = world.publish("support")
    world.runtime.registry.report_replica(other_replica(version.id))
    answer = promote(world, 1, timeout=1.0)
    assert answer.status_code == 503
    assert answer.json()["error"]["code"] == "rollout_unobserved"
    world.runtime.registry.forget_replica("other:1")
    again = promote(world, 1)
    assert again.json()["state"] == "complete"
    assert again.json()["route"]["generation"] == 1


class CountingRegistry(MemoryRegistry):
    """Counts how often it is asked for a rollout."""

    asked = 0

    def rollout(self, rollout_id: int) -> Rollout:
        self.asked += 1
        return super().rollout(rollout_id)


async def test_waiting_for_a_rollout_that_no_tick_has_seen_does_not_spin(tmp_path: Path) -> None:
    registry = CountingRegistry()
    with offline(tmp_path / "state", registry=registry) as world:
        await world.runtime.converger.tick()
        begun = world.begin(world.publish("support"))
        ended = await rollouts.complete(world.runtime, begun, timeout=0.3)
        assert ended.state is RolloutState.LOADING
        assert registry.asked <= 2


def test_a_live_replica_that_lacks_the_version_holds_the_flip_and_a_dead_one_does_not(
    world: World,
) -> None:
    world.publish("support")
    world.runtime.registry.report_replica(other_replica())
    waiting = promote(world, 1, timeout=1.0)
    assert waiting.json()["state"] == "loading"
    world.runtime.registry.forget_replica("other:1")
    deadline = time.monotonic() + 10
    while world.http("support").get("/v1/adapters/support").json()["route"]["stable"] is None:
        assert time.monotonic() < deadline
        time.sleep(0.05)


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


def test_readiness_stays_red_while_a_live_version_cannot_be_loaded(tmp_path: Path) -> None:
    state = tmp_path / "state"
    with running(state) as world:
        for alias in ("support", "sales"):
            world.publish(alias)
            promote(world, 1, alias)
        digest = world.runtime.registry.version("sales", 1, unit=None).digest
        folder = world.runtime.store.fetch(digest)
    folder.chmod(0o755)
    shutil.rmtree(folder)
    with running(state) as world:
        answer = world.http(None).get("/readyz")
        assert answer.status_code == 503
        assert "1 live versions" in answer.json()["checks"]["versions"]
        assert "sales" not in answer.text
        # the other units are not hurt
        assert (
            world.client().chat.completions.create(model="support", messages=HELLO).model
            == "support:1"
        )
        shown = world.http("sales").get("/v1/adapters/sales/versions/1").json()
        assert shown["resident"] is False
        assert shown["load_error"]


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
