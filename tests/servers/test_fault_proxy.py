"""The proxies that other tests stand on: what passes is not changed, and harm is what was asked."""

from __future__ import annotations

import socket
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import suppress

import pytest

from tests.servers.fault_proxy import Fault, HttpFaultProxy, TcpFaultProxy
from tests.servers.s3 import S3Server


@pytest.fixture
def echo() -> Iterator[int]:
    """A server that says everything back; its port."""
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def serve(connection: socket.socket) -> None:
            with connection, suppress(ConnectionError):
                while piece := connection.recv(1 << 16):
                    connection.sendall(piece)

        def accept() -> None:
            while True:
                try:
                    connection, _ = listener.accept()
                except OSError:
                    return
                threading.Thread(target=serve, args=(connection,), daemon=True).start()

        threading.Thread(target=accept, daemon=True).start()
        yield listener.getsockname()[1]
        listener.shutdown(socket.SHUT_RDWR)


def connected(proxy: TcpFaultProxy) -> socket.socket:
    return socket.create_connection(("127.0.0.1", proxy.port), timeout=10.0)


def said_back(proxy: TcpFaultProxy) -> bytes:
    with connected(proxy) as client:
        client.sendall(b"back")
        return client.recv(9)


def test_bytes_pass_late_and_connections_are_cut_and_refused(echo: int) -> None:
    with TcpFaultProxy(echo) as proxy:
        with connected(proxy) as client:
            client.sendall(b"hello")
            assert client.recv(9) == b"hello"
            proxy.delay_s = 0.1
            started = time.monotonic()
            client.sendall(b"again")
            assert client.recv(9) == b"again"
            assert time.monotonic() - started >= 0.2
            proxy.delay_s = 0.0
            proxy.cut()
            with pytest.raises(ConnectionResetError):
                client.recv(9)
        proxy.refusing = True
        with pytest.raises(ConnectionError):
            said_back(proxy)
        proxy.refusing = False
        assert said_back(proxy) == b"back"


def test_each_harm_is_done_to_the_request_it_is_meant_for() -> None:
    with S3Server() as server, HttpFaultProxy(server.port) as proxy:
        bucket = server.bucket()
        server.client().put_object(
            Bucket=bucket, Key="k", Body=b"0123456789" * 10, ACL="public-read"
        )

        def get() -> bytes:
            with urllib.request.urlopen(f"{proxy.endpoint}/{bucket}/k", timeout=10) as answer:
                content: bytes = answer.read()
                return content

        whole = get()
        assert whole == b"0123456789" * 10
        proxy.harm(Fault(cut=3))
        assert get() == b"012"
        proxy.harm(Fault(flip=True))
        assert sum(a != b for a, b in zip(get(), whole, strict=True)) == 1
        for fault in (Fault(drop=True), Fault(reset_after=5), Fault(lose_answer=True)):
            proxy.harm(fault)
            with pytest.raises(ConnectionError):
                get()
        proxy.harm(Fault(status=503), applies=lambda method, path: path.endswith("/k"))
        with pytest.raises(urllib.error.HTTPError, match="503"):
            get()
        assert get() == whole
        assert proxy.requests[-1] == ("GET", f"/{bucket}/k")
