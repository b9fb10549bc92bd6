"""Names, paths, hosts, headers, tokens and bodies that nobody sends by mistake.

Nothing leaks, nothing reaches the engine, nothing is an error of ours.
"""

from __future__ import annotations

import base64
import json
import socket
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from adapters.domain.derived_keys import Purpose, derive
from service.gateway.access import ACCESS
from tests.service.callers import FOREIGN, MARK, OWN, Scene, error_of, scene
from tests.simulation.engine import BASE

pytestmark = pytest.mark.timeout(1800)


@pytest.fixture(scope="module")
def everybody(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Scene]:
    with scene(tmp_path_factory.mktemp("hostile")) as made:
        yield made


@pytest.fixture(autouse=True)
def _unharmed(everybody: Scene) -> Iterator[None]:
    """Whatever was sent, the engine was not asked, and the service answers as before."""
    before = everybody.engine_calls
    yield
    assert everybody.engine_calls == before
    headers = {"Authorization": f"Bearer {everybody.world.key(OWN)}"}
    assert everybody.http.get("/v1/models", headers=headers).status_code == 200


def raw(
    everybody: Scene,
    target: bytes,
    *,
    method: bytes = b"GET",
    headers: Mapping[bytes, bytes] | None = None,
    host: bytes = b"x",
    body: bytes = b"",
) -> tuple[int, bytes, bytes]:
    """Bytes as they are: status, headers, body."""
    sent = {b"Authorization": f"Bearer {everybody.world.key(OWN)}".encode(), **(headers or {})}
    lines = [method + b" " + target + b" HTTP/1.1", b"Host: " + host, b"Connection: close"]
    lines += [name + b": " + value for name, value in sent.items() if value != b"-"]
    if body:
        lines.append(b"Content-Length: " + str(len(body)).encode())
    with socket.create_connection(("127.0.0.1", everybody.world.settings.port), timeout=30) as to:
        to.sendall(b"\r\n".join(lines) + b"\r\n\r\n" + body)
        answer = b""
        while part := to.recv(65536):
            answer += part
    head, _, content = answer.partition(b"\r\n\r\n")
    return int(head.split(b" ")[1]), head.lower(), content


PATHS = (
    b"/v1/models/", b"//v1/models", b"/v1//models", b"/v1/./models", b"/v1/files/../models",
    b"/v1/models/..%2f..%2fetc%2fpasswd", b"/v1/models/%2e%2e", b"/%2e%2e/%2e%2e/etc/passwd",
    b"/v1/models%00", b"/v1/models%0a", b"/v1/models%20", b"/v1/models;x=1", b"/V1/MODELS",
    b"/v1/models%2f", b"/v1%2fkeys", b"/v1/keys%3f", b"/%76%31/keys", b"/v1/files/%ff%fe",
    b"/v1/adapters/%f0%9f%91%97/versions", b"/v1/adapters/sales%2fversions",
    b"/v1/adapters//promote", b"/v1/adapters/support/versions/1/../../../sales",
    b"/v1/fine_tuning/jobs/%27%20OR%201=1--", b"/v1/files/" + b"a" * 8000,
    b"/v1/files/$%7bjndi:ldap://x%7d", b"/metrics/", b"/metrics/x", b"/docs", b"/openapi.json",
    b"/redoc", b"/version", b"/load", b"/ping", b"/tokenize", b"/invocations",
    b"/v1/load_lora_adapter", b"/inference/v1/generate", b"/reset_prefix_cache",
    b"/v1/responses/x", b"/..", b"/", b"*", b"http://evil.example/v1/keys", b"/v1/keys#x",
    b"/livez/../v1/keys", b"/livez%2f..%2fv1%2fkeys", b"/readyz/", b"/health/../metrics",
)  # fmt: skip


@pytest.mark.parametrize("path", PATHS, ids=repr)
@pytest.mark.parametrize("method", [b"GET", b"POST", b"DELETE", b"PATCH", b"OPTIONS", b"TRACE"])
def test_no_path_leads_where_the_key_may_not_go(
    everybody: Scene, path: bytes, method: bytes
) -> None:
    status, head, content = raw(everybody, path, method=method)
    assert 400 <= status < 500, (status, content[:200])
    assert b"\nlocation:" not in head
    assert MARK.encode() not in content
    assert FOREIGN.encode() not in content.replace(b"`sales`", b"")
    assert b"root:" not in content


@pytest.mark.parametrize(
    "host", [b"evil.example", b"", b"a" * 5000, b"127.0.0.1@evil.example", b"[::1", b"\xff\xfe",
             b"evil.example/v1/keys?", b"x\tX-Admin: 1"],
    ids=repr,
)  # fmt: skip
@pytest.mark.parametrize(
    "path", [b"/v1/keys", b"/v1/models/", b"/v1/replicas", b"/metrics", b"/docs"]
)
def test_what_the_host_is_called_decides_nothing(
    everybody: Scene, host: bytes, path: bytes
) -> None:
    status, head, content = raw(everybody, path, host=host)
    assert status in (400, 403, 404), content[:200]
    assert b"evil" not in head + content
    assert b"\nlocation:" not in head


@pytest.mark.parametrize(
    "headers",
    [
        {b"X-Original-URL": b"/v1/models"}, {b"X-Rewrite-URL": b"/v1/models"},
        {b"X-HTTP-Method-Override": b"GET"}, {b"X-Forwarded-For": b"127.0.0.1"},
        {b"X-Forwarded-Prefix": b"/v1/models"}, {b"X-Forwarded-Host": b"evil.example"},
        {b"X-User": b"admin"}, {b"X-Role": b"admin"}, {b"X-Wardrobe-Role": b"admin"},
        {b"OpenAI-Organization": b"admin"}, {b"OpenAI-Project": b"sales"},
        {b"Upgrade": b"websocket", b"Connection": b"Upgrade"}, {b"Upgrade": b"h2c"},
        {b"Cookie": b"admin=1"}, {b"X-Api-Key": b"admin"}, {b"Proxy-Authorization": b"Bearer x"},
    ],
    ids=repr,
)  # fmt: skip
def test_no_header_but_the_one_with_the_key_gives_rights(
    everybody: Scene, headers: Mapping[bytes, bytes]
) -> None:
    status, _, content = raw(everybody, b"/v1/keys", headers=headers)
    if b"websocket" in headers.values():
        assert 400 <= status < 500  # none is offered: the web server's own refusal
        return
    assert status == 403
    assert json.loads(content)["error"]["code"] == "insufficient_permissions"


def test_of_two_keys_in_one_request_no_second_counts(everybody: Scene) -> None:
    admin = f"Bearer {everybody.world.key('admin')}".encode()
    status, _, _ = raw(everybody, b"/v1/keys", headers={b"authorization": admin})
    assert status == 403
    nobody = {b"Authorization": b"Bearer nobody's", b"authorization": admin}
    assert raw(everybody, b"/v1/keys", headers=nobody)[0] == 401


def tokens(everybody: Scene) -> Iterator[bytes]:
    """Bearers that are no key, many of them made of one."""
    runtime, key = everybody.world.runtime, everybody.world.key("admin")
    yield from (key[:-1].encode(), key.encode() + b"x", key.swapcase().encode(), key[::-1].encode())
    yield from (f"{key} {key}".encode(), f" {key}".encode(), f"{key}\x00".encode(), b"\xff" * 40)
    yield from (
        runtime.hasher.hash(key).encode(),
        runtime.hasher.hash_of_earlier_builds(key).encode(),
    )
    yield base64.b64encode(key.encode())
    for purpose in Purpose:
        yield derive(runtime.pepper, purpose).hex().encode()
    yield from (found.id.encode() for found in runtime.registry.keys.active())
    yield from (target.salt.encode() for _, target in runtime.table.visible(_admin(everybody)))
    yield from (
        b"' OR 1=1 --",
        b'"; DROP TABLE keys; --',
        b"%00",
        b"../../keys.json",
        b"null",
        b"*",
    )
    yield from (b"wr-admin-" + b"A" * 43, b"admin", b"system", b"undefined", b"a" * 100_000)
    header, claims = ({"alg": "none"}, {"sub": "admin", "role": "admin", "scope": "admin"})
    parts = (
        base64.urlsafe_b64encode(json.dumps(each).encode()).rstrip(b"=")
        for each in (header, claims)
    )
    yield b".".join(parts) + b"."


def _admin(everybody: Scene) -> Any:
    return everybody.world.runtime.authenticate(f"Bearer {everybody.world.key('admin')}".encode())


def test_no_token_but_a_key_is_one(everybody: Scene) -> None:
    told = set()
    for token in tokens(everybody):
        for scheme in (b"Bearer ", b"Basic ", b"bearer  ", b"", b"Token "):
            status, head, content = raw(
                everybody, b"/v1/keys", headers={b"Authorization": scheme + token}
            )
            if status != 400:  # the web server's own, for bytes that are no header
                assert status == 401, token
                assert b"\nwww-authenticate: bearer" in head
                told.add(content)
            assert len(token) < 16 or token[:60] not in content
    assert len(told) <= 2  # "send your key as …" and "this key is not known"


NAMES = (
    "", " ", "..", "../sales", "/etc/passwd", "sales", "sales:1", "SUPPORT", "support:0",
    "support:01", "support:1 ", "support:1:1", "support:99999999999", "support:-1",
    "support@sha256:x", "suppоrt", "support\u0000", "support\n", "\u202esupport", "hf://sales",
    "http://169.254.169.254/", "~", "%2e%2e", "a" * 100_000, "{{7*7}}", "${jndi:x}",
    "' OR 1=1 --", "support,sales", "*", "null", "\ufeffsupport",
)  # fmt: skip


@pytest.mark.parametrize("name", NAMES, ids=lambda name: ascii(name)[:40])
def test_no_name_of_a_model_but_the_callers_own_reaches_the_engine(
    everybody: Scene, name: str
) -> None:
    headers = {"Authorization": f"Bearer {everybody.world.key(OWN)}"}
    answer = everybody.http.post(
        "/v1/chat/completions",
        json={"model": name, "messages": [{"role": "user", "content": "hi"}]},
        headers=headers,
    )
    assert answer.status_code == (404 if name else 400), answer.text[:200]
    assert error_of(answer)["param"] == "model"
    assert len(answer.content) < 500


@pytest.mark.parametrize("name", NAMES, ids=lambda name: ascii(name)[:40])
def test_no_name_in_a_command_is_a_path_or_an_error_of_ours(everybody: Scene, name: str) -> None:
    headers = {"Authorization": f"Bearer {everybody.world.key(OWN)}"}
    for path, body in (
        ("/v1/adapters/support/promote", {"version": name}),
        ("/v1/fine_tuning/jobs", {"model": BASE, "training_file": name}),
        ("/v1/fine_tuning/jobs", {"model": name, "training_file": "file-1"}),
        ("/v1/fine_tuning/jobs", {"model": BASE, "training_file": "file-1", "x_unit": name}),
        ("/v1/fine_tuning/jobs", {"model": BASE, "training_file": "file-1", "suffix": name}),
    ):
        answer = everybody.http.post(path, json=body, headers=headers)
        assert 400 <= answer.status_code < 500, (path, answer.text[:200])
        assert MARK not in answer.text
        assert len(answer.content) < 2000
    for path in ("/v1/files", "/v1/keys", "/v1/fine_tuning/jobs"):
        for field in ("after", "limit", "metadata[x]", "purpose"):
            # what the client and the web server take at most
            answer = everybody.http.get(path, params={field: name[:8000]}, headers=headers)
            assert answer.status_code < 500, (path, answer.text[:200])
            assert MARK not in answer.text


BODIES = (
    b"", b"null", b"[]", b'"x"', b"1", b"true", b"{", b"{}", b"[" * 50_000, b'{"a":' * 20_000,
    b'{"model": NaN}', b'{"model": 1e999}', b"\xff\xfe\x00", b"\xef\xbb\xbf{}",
    b'{"model": "\\ud800"}', b'{"x": "\\u0000"}', b'{"model": {"$ne": null}}',
    b'{"model": ["support"]}', b'{"__proto__": {}}', b'{"version": 1e400}',
    b'{"version": 18446744073709551616}', b'{"version": true}',
    b'{"timeout": -1, "wait": "yes"}', b'{"expected_generation": -1}', b'{"name": "\\ud800"}',
    b"--x\r\nContent-Disposition: form-data; name=\"file\"\r\n\r\n\x00\r\n--x--",
)  # fmt: skip
KINDS = (
    b"application/json",
    b"multipart/form-data; boundary=x",
    b"multipart/form-data",
    b"text/xml",
    b"-",
)


@pytest.mark.parametrize(
    "row", [row for row in ACCESS if row.method == "POST"], ids=lambda row: row.template
)
def test_no_body_is_an_error_of_ours(everybody: Scene, row: Any) -> None:
    path = everybody.path(row, "nothing").encode()
    admin = f"Bearer {everybody.world.key('admin')}".encode()
    for body in BODIES:
        for kind in KINDS:
            headers = {b"Content-Type": kind, b"Authorization": admin}
            status, _, content = raw(everybody, path, method=b"POST", headers=headers, body=body)
            assert 400 <= status < 500, (body[:40], kind, status, content[:200])
            assert set(json.loads(content)["error"]) == {"message", "type", "param", "code"}
            assert len(content) < 2000


CHUNKED = b"2\r\n{}\r\n0\r\n\r\n"
FRAMES = (
    (b"Content-Length: %d\r\nTransfer-Encoding: chunked" % len(CHUNKED), CHUNKED),
    (b"Transfer-Encoding: chunked\r\nContent-Length: 3", CHUNKED),
    (b"Transfer-Encoding: chunked, identity", CHUNKED),
    (b"Transfer-Encoding: xchunked", CHUNKED),
    (b"Transfer-Encoding: \x0bchunked", CHUNKED),
    (b"Transfer-Encoding: chunked", b"2\n{}\n0\n\n"),
    (b"Transfer-Encoding: chunked", b"ffffffffffffffffff\r\n{}"),
    (b"Content-Length: 2\r\nContent-Length: 0", b"{}"),
    (b"Content-Length: 2, 2", b"{}"),
    (b"Content-Length: +2", b"{}"),
    (b"Content-Length: -1", b"{}"),
    (b"Content-Length: 0x2", b"{}"),
    (b"Content-Length : 2", b"{}"),
    (b"X: a\r\n b\r\nContent-Length: 2", b"{}"),
    (b"X: a\rY: b\r\nContent-Length: 2", b"{}"),
    (b"X: a\nContent-Length: 2", b"{}"),
    (b"X: a\x00b\r\nContent-Length: 2", b"{}"),
)


@pytest.mark.parametrize(("framing", "body"), FRAMES, ids=repr)
def test_no_framing_hides_a_second_request_behind_a_first(
    everybody: Scene, framing: bytes, body: bytes
) -> None:
    """What a proxy in front may read otherwise is refused, and ends its connection."""
    key = b"Authorization: Bearer " + everybody.world.key(OWN).encode()
    first = b"POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\n" + key + b"\r\n"
    second = b"GET /v1/models HTTP/1.1\r\nHost: x\r\n" + key + b"\r\n\r\n"
    with socket.create_connection(("127.0.0.1", everybody.world.settings.port), timeout=30) as to:
        to.sendall(first + framing + b"\r\n\r\n" + body + second)
        answer = b""
        try:
            while part := to.recv(65536):
                answer += part
        except ConnectionResetError:  # with bytes left that it does not read
            pass
    assert answer.count(b"HTTP/1.1 ") <= 1
    assert answer[9:12] in (b"400", b"")


def test_nothing_of_all_this_is_in_the_state_folders_logs(everybody: Scene) -> None:
    logs = Path(everybody.world.settings.state) / "logs"
    written = b"".join(path.read_bytes() for path in logs.rglob("*") if path.is_file())
    assert everybody.world.key("admin").encode() not in written
