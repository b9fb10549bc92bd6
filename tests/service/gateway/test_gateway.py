"""The gateway over real HTTP: keys, routes, names, limits and errors."""

from __future__ import annotations

import concurrent.futures
import contextlib
import json
import socket
import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import httpx2
import openai
import pytest
from fastapi import FastAPI
from starlette.middleware.cors import CORSMiddleware
from starlette.testclient import TestClient

from service.gateway.access import methods_at
from service.gateway.gateway import Gateway
from service.open_bodies import MAX_OPEN_BODIES
from tests.service.world import World, offline, running, write_units
from tests.simulation.engine import BASE, SimulatedEngine

HELLO = [{"role": "user", "content": "hello"}]


def promoted(world: World, alias: str = "support") -> str:
    version = world.publish(alias)
    answer = world.http(alias).post(
        f"/v1/adapters/{alias}/promote", json={"version": version.number}
    )
    assert answer.status_code == 200, answer.text
    return version.name


@pytest.mark.parametrize(
    "header", [None, "", "Bearer", "Basic abc", "Bearer nope", "Bearer " + "x" * 5000]
)
def test_without_a_known_key_nothing_answers(world: World, header: str | None) -> None:
    headers = {} if header is None else {"Authorization": header}
    for path in ("/v1/models", "/metrics", "/v1/files", "/v1/status", "/tokenize", "/nothing"):
        answer = httpx2.get(world.url + path, headers=headers)
        assert answer.status_code == 401, path
        assert answer.json()["error"]["code"] == "invalid_api_key"
        assert answer.headers["www-authenticate"] == "Bearer"


def test_a_key_full_of_sql_and_strange_bytes_is_just_unknown(world: World) -> None:
    for secret in ("' OR 1=1 --", '"; DROP TABLE keys; --', "\u00ff\u00fe", "%00"):
        answer = httpx2.get(
            world.url + "/v1/models", headers={b"Authorization": f"Bearer {secret}".encode()}
        )
        assert answer.status_code == 401


def test_probes_need_no_key_and_name_nothing(world: World) -> None:
    promoted(world)
    for path in ("/livez", "/readyz", "/health"):
        answer = httpx2.get(world.url + path)
        assert answer.status_code == 200
        assert "support" not in answer.text
        looked = httpx2.head(world.url + path)
        assert (looked.status_code, looked.content) == (200, b"")


def test_an_alias_answers_by_its_live_version_and_says_so(world: World) -> None:
    name = promoted(world)
    answer = world.client().chat.completions.with_raw_response.create(
        model="support", messages=HELLO
    )
    assert answer.headers["x-adapter-version"] == name
    assert len(answer.headers["x-adapter-digest"]) == 64
    assert answer.headers["x-request-id"].startswith("req_")
    assert answer.parse().model == name
    assert answer.parse().choices[0].message.content == f"answer of {name}"


def test_a_stream_passes_through_whole(world: World) -> None:
    name = promoted(world)
    chunks = list(
        world.client().chat.completions.create(model="support", messages=HELLO, stream=True)
    )
    assert "".join(c.choices[0].delta.content or "" for c in chunks) == f"answer of {name}"
    assert chunks[-1].choices[0].finish_reason == "stop"


def test_the_base_model_answers_under_its_own_name(world: World) -> None:
    assert world.client().chat.completions.create(model=BASE, messages=HELLO).model == BASE


def test_a_version_by_name_is_loaded_on_first_use_once_for_all_who_ask(world: World) -> None:
    version = world.publish("support")
    world.engine.load_seconds = 0.3
    client = world.client()
    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        answers = list(
            pool.map(
                lambda _: client.chat.completions.create(model=version.name, messages=HELLO).model,
                range(8),
            )
        )
    assert set(answers) == {version.name}
    assert world.engine.loads == [version.name]


def test_unknown_and_foreign_models_look_the_same(world: World) -> None:
    foreign = promoted(world, "hr")
    client = world.client("support")
    messages = set()
    for name in (
        "nothing",
        "hr",
        foreign,
        "support:99",
        "../etc/passwd",
        "/srv/x",
        "a" * 300,
        "suppört",
    ):
        with pytest.raises(openai.NotFoundError) as refused:
            client.chat.completions.create(model=name, messages=HELLO)
        assert refused.value.code == "model_not_found"
        messages.add(refused.value.message)
    assert len(messages) == 1


def test_only_allow_listed_routes_of_the_engine_exist(world: World) -> None:
    with world.http("admin") as http:
        for method, path in [
            ("POST", "/tokenize"), ("POST", "/invocations"), ("POST", "/v1/load_lora_adapter"),
            ("GET", "/docs"), ("GET", "/openapi.json"), ("GET", "/v1/chat/completions"),
            ("POST", "/v1/chat/completions/"), ("POST", "//v1/chat/completions"),
                ("GET", "/v1/responses/r"), ("POST", "/v1/responses/r/cancel"),
                ("GET", "/v1/modelsx"), ("POST", "/V1/CHAT/COMPLETIONS"),
        ]:  # fmt: skip
            answer = http.request(method, path)
            assert answer.status_code == 404, path
            assert answer.json()["error"]["code"] == "not_found"
            assert "leaked" not in answer.text


def test_the_client_cannot_choose_salt_id_or_engine_headers(world: World) -> None:
    promoted(world)
    with world.http("support") as http:
        answer = http.post(
            "/v1/chat/completions",
            json={"model": "support", "messages": HELLO},
            headers={"X-Request-Id": "evil", "X-Data-Parallel-Rank": "3"},
        ).json()
    assert answer["seen"]["cache_salt"]
    assert "authorization" not in answer["seen_headers"]
    assert "x-data-parallel-rank" not in answer["seen_headers"]
    assert answer["seen_headers"]["x-request-id"].startswith("req_")


def test_two_units_never_share_a_cache_salt(world: World) -> None:
    salts = set()
    for owner in ("support", "sales"):
        with world.http(owner) as http:
            answer = http.post("/v1/chat/completions", json={"model": BASE, "messages": HELLO})
            salts.add(answer.json()["seen"]["cache_salt"])
    assert len(salts) == 2


@pytest.mark.parametrize(
    ("content", "status"),
    [
        (b"", 400),
        (b"{", 400),
        (b"\xff\xfe", 400),
        (b'{"model": NaN}', 400),
        (b"[" * 100_000, 400),
        (b'{"x":"' + b"y" * 3_000_000 + b'"}', 413),
    ],
)
def test_a_bad_body_is_refused_in_the_envelope(world: World, content: bytes, status: int) -> None:
    answer = world.http("support").post("/v1/chat/completions", content=content)
    assert answer.status_code == status
    assert set(answer.json()["error"]) == {"message", "type", "param", "code"}


@pytest.mark.parametrize("path", ["/v1/chat/completions", "/v1/files", "/v1/fine_tuning/jobs"])
def test_a_body_that_claims_ten_gigabytes_is_refused_before_a_byte_of_it(
    world: World, path: str
) -> None:
    with socket.create_connection(("127.0.0.1", world.settings.port)) as raw:
        raw.sendall(
            f"POST {path} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {world.key('support')}\r\n"
            "Content-Type: application/json\r\nContent-Length: 10737418240\r\n\r\n".encode()
        )
        answer = b""
        while b"}}" not in answer and (part := raw.recv(65536)):
            answer += part
    assert b" 413 " in answer.split(b"\r\n")[0]
    assert b"request_too_large" in answer


def half_a_body(world: World, owner: str = "support") -> socket.socket:
    """A request whose body has begun and does not go on."""
    raw = socket.create_connection(("127.0.0.1", world.settings.port), timeout=30)
    raw.sendall(
        f"POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\n"
        f"Authorization: Bearer {world.key(owner)}\r\nContent-Length: 100000\r\n\r\n{{".encode()
    )
    return raw


def whole_answer(raw: socket.socket) -> bytes:
    """An error's answer; head and body may come one after the other."""
    answer = b""
    while b"}}" not in answer and (part := raw.recv(65536)):
        answer += part
    return answer


def test_a_body_that_does_not_go_on_is_waited_for_so_long_and_no_longer(world: World) -> None:
    world.runtime.open_bodies.seconds = 0.3
    with contextlib.closing(half_a_body(world)) as raw:
        assert b'"code":"body_timeout"' in whole_answer(raw)


def test_so_many_bodies_of_one_owner_may_be_unfinished_and_no_more(world: World) -> None:
    with contextlib.ExitStack() as stack:
        for _ in range(MAX_OPEN_BODIES):
            stack.enter_context(contextlib.closing(half_a_body(world)))
        bodies = world.runtime.open_bodies
        wait_until(lambda: bodies.of("unit:support") == MAX_OPEN_BODIES)
        raw = stack.enter_context(contextlib.closing(half_a_body(world)))
        assert b'"code":"rate_limit_exceeded"' in whole_answer(raw)
        assert world.client("sales").chat.completions.create(model=BASE, messages=HELLO)
        # most bodies are whole at once: they never count
        assert world.client().chat.completions.create(model=BASE, messages=HELLO)
    wait_until(lambda: bodies.of("unit:support") == 0)
    assert world.client().chat.completions.create(model=BASE, messages=HELLO)


def test_an_engine_error_comes_in_our_envelope(world: World) -> None:
    promoted(world)
    with pytest.raises(openai.BadRequestError) as refused:
        world.client().chat.completions.create(model="support", messages=HELLO, max_tokens=0)
    assert refused.value.code == "invalid_request"
    assert refused.value.param == "max_tokens"


def test_a_unit_over_its_limit_is_told_to_wait_and_others_are_not(tmp_path: Path) -> None:
    write_units(tmp_path / "units", {"support": "limits: {max_concurrent_requests: 2}\n"})
    engine = SimulatedEngine()
    engine.token_seconds = 2.0
    with running(tmp_path / "state", engine) as world:
        promoted(world)
        promoted(world, "sales")

        def ask(owner: str) -> httpx2.Response:
            said = {"model": owner, "messages": HELLO}
            return world.http(owner).post("/v1/chat/completions", json=said)

        with concurrent.futures.ThreadPoolExecutor(8) as pool:
            allowed = [pool.submit(ask, "support") for _ in range(2)]
            wait_until(lambda: world.runtime.meters.of("unit:support").requests == 2)
            refused = [ask("support") for _ in range(3)]
            engine.token_seconds = 0.0
            assert ask("sales").status_code == 200
            assert [one.result().status_code for one in allowed] == [200, 200]
    for answer in refused:
        assert answer.status_code == 429
        assert answer.json()["error"]["code"] == "rate_limit_exceeded"
        assert int(answer.headers["retry-after"]) >= 1


def wait_until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_a_request_that_was_loading_its_version_when_a_drain_began_is_not_admitted(
    world: World,
) -> None:
    version = world.publish("support")
    world.engine.load_seconds = 1.0
    with concurrent.futures.ThreadPoolExecutor(1) as pool:
        said = {"model": version.name, "messages": HELLO}
        asked = pool.submit(world.http("support").post, "/v1/chat/completions", json=said)
        wait_until(lambda: world.engine.asked == [version.name])
        world.runtime.draining = True
        answer = asked.result()
    assert (answer.status_code, answer.json()["error"]["code"]) == (503, "draining")
    assert world.engine.loads == [version.name]


def test_a_request_that_was_sending_its_body_when_a_drain_began_is_not_admitted(
    world: World,
) -> None:
    promoted(world)
    body = json.dumps({"model": "support", "messages": HELLO}).encode()
    with socket.create_connection(("127.0.0.1", world.settings.port), timeout=20) as raw:
        raw.sendall(
            "POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\n"
            f"Authorization: Bearer {world.key('support')}\r\n"
            f"Content-Length: {len(body)}\r\n\r\n".encode()
        )
        assert b"100 Continue" in raw.recv(4096)
        world.runtime.draining = True
        raw.sendall(body)
        assert b" 503 " in raw.recv(4096).split(b"\r\n")[0]


ORIGIN = {"Origin": "https://app.example"}
PREFLIGHT = {**ORIGIN, "Access-Control-Request-Method": "POST"}


@pytest.fixture
def cors(world: World) -> TestClient:
    """The gateway before CORS middleware, in vLLM's order."""
    app = FastAPI()
    world.engine.attach(app)
    app.add_middleware(CORSMiddleware, allow_origins=["https://app.example"], allow_methods=["*"])
    app.add_middleware(Gateway)
    app.state.wardrobe = world.runtime
    return TestClient(app)


def test_a_browsers_preflight_passes_without_a_key_where_something_can_be_reached(
    cors: TestClient,
) -> None:
    allowed = cors.options("/v1/chat/completions", headers=PREFLIGHT)
    assert allowed.status_code == 200
    assert allowed.headers["access-control-allow-origin"] == "https://app.example"
    assert cors.options("/tokenize", headers=PREFLIGHT).status_code == 401
    assert cors.options("/v1/chat/completions", headers=ORIGIN).status_code == 401
    assert cors.options("/v1/chat/completions").status_code == 401
    foreign = cors.options("/v1/models", headers={**PREFLIGHT, "Origin": "https://evil.example"})
    assert foreign.status_code == 400
    assert foreign.json()["error"]["code"] == "invalid_request"


def test_a_browser_may_read_the_answer_that_follows(cors: TestClient, world: World) -> None:
    answer = cors.post(
        "/v1/chat/completions",
        json={"model": BASE, "messages": HELLO},
        headers={**ORIGIN, "Authorization": f"Bearer {world.key('support')}"},
    )
    assert answer.status_code == 200
    assert answer.headers["access-control-allow-origin"] == "https://app.example"


@pytest.mark.parametrize("path", ["/v1/chat/completions", "/tokenize", "/v1/models", "/nothing"])
def test_what_decides_is_what_the_contract_tests_check(world: World, path: str) -> None:
    answer = world.http().post(path, json={"model": BASE, "messages": HELLO})
    assert (answer.status_code != 404) == bool(methods_at(path))


def test_metrics_are_the_admins_and_count_by_closed_labels(world: World) -> None:
    name = promoted(world)
    client = world.client()
    client.chat.completions.create(model="support", messages=HELLO)
    for wrong in ("x1", "x2", "x3"):
        with pytest.raises(openai.NotFoundError):
            client.chat.completions.create(model=wrong, messages=HELLO)
    labels = {"unit": "support", "alias": "support", "version": name, "outcome": "ok"}
    assert world.prometheus.get_sample_value("wardrobe_requests_total", labels) == 1
    refused = world.prometheus.get_sample_value(
        "wardrobe_requests_refused_total", {"code": "model_not_found"}
    )
    assert refused == 3
    with world.http("support") as http:
        assert http.get("/metrics").status_code == 403


def test_nothing_of_a_request_reaches_logs_or_labels(
    world: World, capfd: pytest.CaptureFixture[str]
) -> None:
    promoted(world)
    canary = "canary-7f3a91"
    client = world.client()
    client.chat.completions.create(
        model="support", messages=[{"role": "user", "content": canary}], user=canary
    )
    with pytest.raises(openai.APIStatusError):
        client.chat.completions.create(model=canary, messages=HELLO)
    with pytest.raises(openai.APIStatusError):
        client.chat.completions.create(model="support", messages=HELLO, extra_body={canary: 1})
    client.files.create(
        file=(f"{canary}.jsonl", f'{{"{canary}": 1}}\n'.encode()), purpose="fine-tune"
    )
    out = capfd.readouterr()
    series = json.dumps([str(metric.samples) for metric in world.prometheus.collect()])
    assert canary not in out.out + out.err + series


def asking(schema: object, **more: object) -> dict[str, object]:
    wanted = {"type": "json_schema", "json_schema": {"name": "answer", "schema": schema}}
    return {"model": BASE, "messages": HELLO, "response_format": wanted, **more}


@pytest.mark.parametrize("streaming", [False, True])
def test_a_schema_that_cannot_be_used_is_refused_before_the_engine_sees_it(
    world: World, streaming: bool
) -> None:
    http = world.http("support")
    for schema in ({"maxItems": 10**6}, {"$ref": "#"}, {"type": "string", "pattern": "(?=a)"}):
        answer = http.post("/v1/chat/completions", json=asking(schema, stream=streaming))
        assert answer.status_code == 400, answer.text
        assert answer.json()["error"]["code"] == "response_format"
        assert "x-adapter-version" not in answer.headers
    fine = http.post("/v1/chat/completions", json=asking({"type": "object"}))
    assert fine.status_code == 200


def test_an_engines_refusal_is_told_by_its_field_and_not_in_its_words(world: World) -> None:
    answer = world.http("support").post(
        "/v1/chat/completions", json={"model": BASE, "messages": HELLO, "max_tokens": 0}
    )
    assert answer.status_code == 400
    error = answer.json()["error"]
    assert error["param"] == "max_tokens"
    assert error["message"] == "the engine refuses `max_tokens`"


def test_the_first_question_ends_the_time_in_which_logs_may_hold_everything(world: World) -> None:
    starting = world.settings.state_folder.starting
    starting.touch()
    world.http("support").get("/v1/models")
    assert starting.exists()
    world.http("support").post("/v1/chat/completions", json={"model": "nobody", "messages": HELLO})
    assert not starting.exists()


async def test_a_request_that_an_exception_ends_is_in_flight_no_longer(tmp_path: Path) -> None:
    async def broken(*_: Any) -> None:
        raise RuntimeError("out of bounds")

    sent: list[Any] = []

    async def receive() -> Any:
        said = {"model": BASE, "messages": HELLO}
        return {"type": "http.request", "body": json.dumps(said).encode()}

    async def send(message: Any) -> None:
        sent.append(message)

    with offline(tmp_path / "state") as world:
        await world.settle(rounds=3)
        scope = {
            "type": "http",
            "method": "POST",
            "path": "/v1/chat/completions",
            "headers": [(b"authorization", f"Bearer {world.key('support')}".encode())],
            "app": SimpleNamespace(state=SimpleNamespace(wardrobe=world.runtime)),
        }
        await Gateway(broken)(scope, receive, send)
        assert sent[0]["status"] == 500
        assert world.runtime.leases.total == 0
