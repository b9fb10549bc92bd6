"""One real engine behind two API processes: leases, residency and observation across them."""

from __future__ import annotations

import concurrent.futures
import json
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx2
import pytest

from adapters.domain.versions import Version
from adapters.settings import Settings
from service.launch.launcher import with_base
from tests.e2e.deaths import HANGS_SECONDS, kill_under_a_stream, seconds_until_back
from tests.e2e.drawn import publish_drawn
from tests.e2e.stack import Stack, up, wait_for
from tests.steady_callers import calling, check_nobody_was_refused

pytestmark = pytest.mark.timeout(3600)

SLOTS = 4
HELLO = [{"role": "user", "content": "Where is my parcel?"}]


class Service:
    """A running service with two API processes, and what tests ask of it."""

    def __init__(self, stack: Stack) -> None:
        self.stack = stack
        self._settings = with_base(
            Settings(state=stack.state.root, units=stack.folder / "units", base="tiny")
        )
        self._drawn = 0

    def http(self, owner: str = "support") -> httpx2.Client:
        # each request on a connection of its own: the processes share them out
        headers = {"Authorization": f"Bearer {self.stack.key(owner)}", "Connection": "close"}
        return httpx2.Client(base_url=self.stack.url, headers=headers, timeout=HANGS_SECONDS)

    def publish(self) -> Version:
        """A version of a strength that no other has."""
        self._drawn += 1
        return publish_drawn(self._settings, strength=1 + self._drawn)

    def wait_for_both(self) -> None:
        """Returns once both processes have said that they are ready."""
        found: set[int] = set()

        def both() -> bool:
            with httpx2.Client(base_url=self.stack.url, timeout=HANGS_SECONDS) as client:
                answer = client.get("/readyz")
            if answer.status_code == 200:
                found.add(answer.json()["process"])
            return found == {0, 1}

        wait_for(both, seconds=HANGS_SECONDS, what="both processes are ready")


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    options = {
        "WARDROBE_API_SERVERS": "2",
        # two requests that are held leave room in a batch for whom they push out nobody
        "WARDROBE_MAX_LORAS": "3",
        "WARDROBE_MAX_CPU_LORAS": str(SLOTS),
        "WARDROBE_DRAIN_SECONDS": "10",
    }
    with up(tmp_path_factory.mktemp("two"), **options) as stack:
        started = Service(stack)
        started.wait_for_both()
        yield started
    with stack.registry() as registry:
        assert registry.replicas.list() == [], "a clean exit takes its rows back at once"


def move(http: httpx2.Client, verb: str, **body: Any) -> Any:
    generation = http.get("/v1/adapters/support").json()["route"]["generation"]
    answer = http.post(
        f"/v1/adapters/support/{verb}", json={"expected_generation": generation, **body}
    )
    assert answer.status_code == 200, answer.text
    return answer.json()


def ask(http: httpx2.Client, model: str, tokens: int) -> tuple[set[str], bool]:
    """The names that a stream goes by, and whether it ends as it should."""
    said = {
        "model": model, "messages": HELLO, "max_tokens": tokens, "temperature": 0,
        "stream": True, "ignore_eos": True,
    }  # fmt: skip
    with http.stream("POST", "/v1/chat/completions", json=said) as answer:
        assert answer.status_code == 200, answer.read()
        events = [line[6:] for line in answer.iter_lines() if line.startswith("data: ")]
    chunks = [json.loads(event) for event in events if event != "[DONE]"]
    assert not any("error" in chunk for chunk in chunks), chunks
    finished = any(c["finish_reason"] == "length" for chunk in chunks for c in chunk["choices"])
    return {chunk["model"] for chunk in chunks}, finished and events[-1] == "[DONE]"


def test_twenty_swaps_under_clients_of_both_processes_are_observed_by_both(
    service: Service,
) -> None:
    first, second = service.publish(), service.publish()
    admin = service.http()
    assert move(admin, "promote", version=first.number)["state"] == "complete"
    stop, wrong = threading.Event(), []

    def call() -> int:
        asked = 0
        with service.http() as http:
            while not stop.is_set():
                names, whole = ask(http, "support", 8)
                asked += 1
                if len(names) != 1 or not whole:
                    wrong.append((names, whole))
        return asked

    with concurrent.futures.ThreadPoolExecutor(4) as pool:
        callers = [pool.submit(call) for _ in range(4)]
        try:
            for swap in range(20):
                done = (
                    move(admin, "rollback")
                    if swap % 2
                    else move(admin, "promote", version=second.number)
                )
                assert done["state"] == "complete"
                expected = first.name if swap % 2 else second.name
                # whoever is asked now, in whichever process, answers by the new route
                for _ in range(4):
                    assert ask(admin, "support", 1) == ({expected}, True)
        finally:
            stop.set()
        assert all(caller.result() > 0 for caller in callers)
    assert wrong == []
    service.wait_for_both()


def test_a_canary_is_drawn_alike_in_both_processes_and_counted_once(service: Service) -> None:
    canary = service.publish()
    with service.http() as http:
        stable = http.get("/v1/adapters/support").json()["route"]["stable"]
        begun = move(http, "canary", version=canary.number, steps=[{"weight": 50.0}])
        assert (begun["state"], begun["route"]["stable"]) == ("complete", stable)
        drawn = {f"person {number}": set[str]() for number in range(16)}
        for _ in range(2):
            for person, named in drawn.items():
                said = {"model": "support", "messages": HELLO, "max_tokens": 2, "user": person}
                answer = http.post("/v1/chat/completions", json=said)
                assert answer.json()["model"] == answer.headers["x-adapter-version"]
                named.add(answer.headers["x-adapter-version"])
        assert all(len(named) == 1 for named in drawn.values()), drawn
        assert set.union(*drawn.values()) == {stable, canary.name}

        def counted() -> bool:
            found = http.get("/v1/adapters/support/canary").json()
            return sum(int(found[arm]["requests"]) for arm in ("canary", "stable")) == 32

        wait_for(counted, seconds=HANGS_SECONDS, what="both processes have told their counts")
        assert move(http, "abort")["state"] == "complete"
        assert ask(http, "support", 1) == ({stable}, True)


@pytest.mark.parametrize("stream", [False, True])
def test_a_shadow_is_asked_by_the_real_engine_and_never_answers(
    service: Service, stream: bool
) -> None:
    shadow = service.publish()
    with service.http() as http:
        stable = http.get("/v1/adapters/support").json()["route"]["stable"]
        assert move(http, "shadow", version=shadow.number, share=100)["state"] == "complete"
        said = {
            "model": "support", "messages": HELLO, "max_tokens": 6, "temperature": 0,
            "stream": stream, **({"stream_options": {"include_usage": True}} if stream else {}),
        }  # fmt: skip
        for _ in range(3):
            answer = http.post("/v1/chat/completions", json=said)
            assert (answer.status_code, answer.headers["x-adapter-version"]) == (200, stable)

        def compared() -> bool:
            found = http.get("/v1/adapters/support/shadow").json()
            assert found["errors"] == 0, found
            return bool(found["copies"] + found["dropped"] == 3 and found["copies"])

        wait_for(compared, seconds=HANGS_SECONDS, what="the copies are compared")
        assert move(http, "shadow/end")["state"] == "complete"


def test_no_version_is_unloaded_under_a_request_of_either_process(service: Service) -> None:
    versions = [service.publish() for _ in range(2 * SLOTS)]
    with concurrent.futures.ThreadPoolExecutor(2) as pool:
        held = [pool.submit(ask, service.http(), version.name, 200) for version in versions[:2]]
        with service.http() as http:
            for version in [*versions[2:], *versions[2:]]:
                assert ask(http, version.name, 1) == ({version.name}, True)
        answers = [one.result() for one in held]
    assert answers == [({version.name}, True) for version in versions[:2]]
    status = service.http("admin").get("/v1/status").json()
    assert len(status["resident"]) <= SLOTS
    assert status["ready"] is True


def test_the_engines_sockets_stand_in_the_state_folder(service: Service) -> None:
    stack = service.stack
    assert [path for path in stack.state.temporary.iterdir() if path.is_socket()]
    assert list(Path(stack.environment["TMPDIR"]).iterdir()) == []


def test_both_processes_are_one_replica_of_the_registry(service: Service) -> None:
    listed = service.http("admin").get("/v1/replicas").json()["data"]
    assert [(each["ready"], each["reporting"]) for each in listed] == [(True, True)]
    assert len(list(service.stack.state.engines.iterdir())) == 1


@pytest.mark.parametrize(
    "victim", ["the core", pytest.param("an API process", marks=pytest.mark.kills)]
)
def test_where_one_of_several_dies_all_come_back_and_nobody_is_refused(
    service: Service, victim: str
) -> None:
    stack, live = service.stack, service.publish()
    with service.http() as http:
        assert move(http, "promote", version=live.number)["state"] == "complete"
    core, *serving = stack.spawned()
    assert len(serving) == 2
    with calling(stack.asking("support")) as met:
        wait_for(lambda: met["200"], seconds=HANGS_SECONDS, what="callers are answered")
        if victim == "the core":
            kill_under_a_stream(stack, core, "Where is my parcel?")
        else:
            serving[0].kill()
        seconds_until_back(stack)
        service.wait_for_both()
    check_nobody_was_refused(met)
    for _ in range(8):
        with service.http() as http:
            assert ask(http, "support", 1) == ({live.name}, True)
    status = service.http("admin").get("/v1/status").json()
    assert status["missing"] == []
    assert len(list(stack.state.engines.iterdir())) == 1
