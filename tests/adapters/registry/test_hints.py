"""Hints that something changed: sooner than the next poll, and never relied on."""

from __future__ import annotations

import os
import socket
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing

from adapters.registry.open import open_registry
from adapters.registry.sql.hints import PostgresHints, open_hints
from tests.adapters.registry.values import a_key
from tests.servers.postgres import PostgresServer, running_postgres


def test_only_postgresql_gives_hints() -> None:
    assert open_hints("sqlite:////nowhere/registry.sqlite3") is None
    assert isinstance(open_hints("postgresql://nobody@nowhere/registry"), PostgresHints)


def test_a_wait_ends_when_its_time_is_over(postgres: PostgresServer) -> None:
    with closing(PostgresHints(postgres.new_database())) as hints:
        hints.wait(0.0)
        began = time.monotonic()
        hints.wait(0.2)
        assert not hints.wait(0.2)
        assert time.monotonic() - began >= 0.19


def test_a_change_is_heard_of_before_the_wait_is_over(postgres: PostgresServer) -> None:
    url = postgres.new_database()
    with closing(open_registry(url)) as registry, closing(PostgresHints(url)) as hints:
        assert hints.wait(10.0)  # it has only begun to listen
        with ThreadPoolExecutor(1) as pool:
            waiting = pool.submit(hints.wait, 20.0)
            time.sleep(0.1)
            began = time.monotonic()
            registry.keys.add([a_key()])
            assert waiting.result() is True
            assert time.monotonic() - began < 10.0


def test_a_connection_that_the_network_drops_without_a_word_is_noticed(
    postgres: PostgresServer,
) -> None:
    with closing(PostgresHints(postgres.new_database())) as hints:
        assert hints.wait(10.0)
        assert hints._connection is not None
        with socket.socket(fileno=os.dup(hints._connection.fileno())) as ours:
            assert ours.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE) == 1
            idle, interval, count = (
                ours.getsockopt(socket.IPPROTO_TCP, option)
                for option in (socket.TCP_KEEPIDLE, socket.TCP_KEEPINTVL, socket.TCP_KEEPCNT)
            )
        assert idle + interval * count <= 15


def test_closing_ends_a_wait(postgres: PostgresServer) -> None:
    hints = PostgresHints(postgres.new_database())
    hints.wait(0.0)
    closing_soon = threading.Timer(0.1, hints.close)
    closing_soon.start()
    began = time.monotonic()
    while time.monotonic() - began < 20.0 and not closing_soon.finished.is_set():
        hints.wait(20.0)
    hints.wait(20.0)
    assert time.monotonic() - began < 10.0


def test_without_a_server_only_time_passes_until_it_is_back() -> None:
    with running_postgres() as server:
        url = server.new_database()
        with closing(open_registry(url)) as registry, closing(PostgresHints(url)) as hints:
            assert hints.wait(5.0)
            server.stop()
            began = time.monotonic()
            while hints.wait(0.2) and time.monotonic() - began < 5.0:
                continue
            server.start()
            assert hints.wait(5.0)
            registry.keys.add([a_key()])
            assert hints.wait(5.0)
