"""TLS by files that change while a real web server uses them."""

from __future__ import annotations

import asyncio
import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx2
import pytest
import uvicorn
from cryptography import x509
from starlette.applications import Starlette
from starlette.responses import PlainTextResponse
from starlette.routing import Route
from structlog.testing import capture_logs

from adapters.errors import InvalidRequest
from adapters.settings import Settings
from service.engine.vllm_arguments import arguments
from service.launch.launcher import is_ready
from service.launch.tls import CertificateWatch, certificate_files
from service.launch.tls_context import load_context
from tests.servers.certificates import certificate, write_pair
from tests.service.world import free_port


@contextmanager
def serving(files: tuple[Path, Path]) -> Iterator[tuple[int, CertificateWatch]]:
    """A server as vLLM starts it, with our watch on its context."""

    async def hello(_: Any) -> PlainTextResponse:
        return PlainTextResponse("hello")

    port, stop = free_port(), threading.Event()
    made: list[CertificateWatch] = []

    async def serve() -> None:
        app = Starlette(routes=[Route("/readyz", hello)])
        config = uvicorn.Config(
            app, port=port, log_level="error", ssl_certfile=files[0], ssl_keyfile=files[1]
        )
        server = uvicorn.Server(config)
        task = asyncio.create_task(server.serve())
        while not server.started:  # noqa: ASYNC110
            await asyncio.sleep(0.01)
        assert config.ssl is not None
        watch = CertificateWatch(config.ssl, files)
        watching = asyncio.create_task(watch.run())
        made.append(watch)
        while not stop.is_set():  # noqa: ASYNC110
            await asyncio.sleep(0.02)
        watching.cancel()
        watch.close()
        server.should_exit = True
        await task

    thread = threading.Thread(target=lambda: asyncio.run(serve()), daemon=True)
    thread.start()
    wait_until(lambda: bool(made))
    try:
        yield port, made[0]
    finally:
        stop.set()
        thread.join(10)


def wait_until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def shown(port: int, *, name: str | None = None) -> str:
    """Who the server says it is, to a client that names a server or none."""
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    with (
        socket.create_connection(("127.0.0.1", port), timeout=10) as plain,
        context.wrap_socket(plain, server_hostname=name) as secure,
    ):
        found = x509.load_der_x509_certificate(secure.getpeercert(binary_form=True) or b"")
    return str(found.subject.rfc4514_string())


def test_a_new_certificate_is_shown_to_new_connections_and_old_ones_go_on(tmp_path: Path) -> None:
    files = write_pair(tmp_path, "first")
    with serving(files) as (port, _):
        assert {shown(port), shown(port, name="any.example")} == {"CN=first"}
        context = ssl.create_default_context(cafile=str(files[0]))
        with httpx2.Client(verify=context) as client:
            assert client.get(f"https://127.0.0.1:{port}/readyz").text == "hello"
            write_pair(tmp_path, "second")
            wait_until(lambda: shown(port) == "CN=second")
            assert shown(port, name="any.example") == "CN=second"
            assert client.get(f"https://127.0.0.1:{port}/readyz").text == "hello"


def test_a_pair_that_does_not_fit_changes_nothing_until_it_does(tmp_path: Path) -> None:
    files = write_pair(tmp_path, "first")
    with serving(files) as (port, watch), capture_logs() as logs:
        chain, key = certificate("second")
        files[0].write_bytes(chain)
        watch.look()
        assert shown(port) == "CN=first"
        files[1].write_bytes(b"-----BEGIN PRIVATE KEY-----\nsecretsecret\n")
        watch.look()
        assert shown(port) == "CN=first"
        files[1].unlink()
        watch.look()
        assert shown(port) == "CN=first"
        files[1].write_bytes(key)
        watch.look()
        assert shown(port) == "CN=second"
    assert "secretsecret" not in str(logs)
    assert {each["event"] for each in logs} >= {"certificate_invalid", "certificate_changed"}


def test_a_secret_that_a_cluster_mounts_is_followed_behind_its_link(tmp_path: Path) -> None:
    for name in ("first", "second"):
        (tmp_path / name).mkdir()
        write_pair(tmp_path / name, name)
    (tmp_path / "..data").symlink_to("first")
    files = tmp_path / "tls.crt", tmp_path / "tls.key"
    for path in files:
        path.symlink_to(f"..data/{path.name}")
    with serving(files) as (port, _):
        assert shown(port) == "CN=first"
        (tmp_path / "..new").symlink_to("second")
        (tmp_path / "..new").rename(tmp_path / "..data")
        wait_until(lambda: shown(port) == "CN=second")


def test_old_versions_of_tls_and_plain_http_are_not_answered(tmp_path: Path) -> None:
    files = write_pair(tmp_path, "first")
    context = load_context(*files)
    assert context.minimum_version >= ssl.TLSVersion.TLSv1_2
    with serving(files) as (port, _), pytest.raises(httpx2.HTTPError):
        httpx2.get(f"http://127.0.0.1:{port}/readyz", timeout=5)


def test_files_that_are_no_pair_stop_a_start_in_words(tmp_path: Path) -> None:
    chain, key = write_pair(tmp_path, "first")
    hidden, plain = tmp_path / "hidden.key", tmp_path / "other.key"
    hidden.write_bytes(certificate("first", password=b"word")[1])
    plain.write_bytes(certificate("other")[1])
    for wrong in (tmp_path / "none", hidden, plain, chain, tmp_path):
        with pytest.raises(InvalidRequest) as raised:
            load_context(chain, wrong)
        assert "BEGIN" not in raised.value.message
    assert load_context(chain, key)


def test_a_certificate_and_its_key_are_named_together_or_not_at_all() -> None:
    one = Path("/tls.crt")
    assert certificate_files(Settings()) is None
    assert certificate_files(Settings(tls_cert=one, tls_key=one)) == (one, one)
    for half in (Settings(tls_cert=one), Settings(tls_key=one)):
        with pytest.raises(InvalidRequest):
            certificate_files(half)


def test_the_engines_web_server_is_given_both_and_the_address_says_so() -> None:
    settings = Settings(base="x", tls_cert=Path("/a.crt"), tls_key=Path("/a.key"), port=8443)
    words = arguments(settings)
    assert words[words.index("--ssl-certfile") + 1] == "/a.crt"
    assert words[words.index("--ssl-keyfile") + 1] == "/a.key"
    assert settings.url == "https://127.0.0.1:8443"
    assert "--ssl-certfile" not in arguments(Settings(base="x"))


def test_readiness_is_asked_of_this_machine_whatever_the_certificate_is_called(
    tmp_path: Path,
) -> None:
    with serving(write_pair(tmp_path, "wardrobe.example")) as (port, _):
        assert is_ready(f"https://127.0.0.1:{port}")
