"""Listens for the database's notifications that something changed; SQLite has none."""

from __future__ import annotations

import threading
import time

import psycopg
from sqlalchemy import make_url

from adapters.registry.ports import Hints
from adapters.registry.sql.postgres import CONNECT_SECONDS, KEEPALIVES
from adapters.registry.sql.queries import CHANNEL

_SLICE_S = 0.5
"""How long a wait takes to notice that it is to end."""


def open_hints(url: str) -> Hints | None:
    """Hints of the registry at `url`; None where its database gives none."""
    return PostgresHints(url) if make_url(url).get_backend_name() == "postgresql" else None


class PostgresHints:
    """Listens on a connection of its own. While there is none, only time passes.

    It sends nothing by itself: only keepalives tell that a network in between has dropped it.
    """

    def __init__(self, url: str) -> None:
        address = make_url(url).set(drivername="postgresql")
        self._address = address.render_as_string(hide_password=False)
        self._closed = threading.Event()
        self._hearing = threading.Lock()
        self._connection: psycopg.Connection | None = None

    def wait(self, timeout: float) -> bool:
        end = time.monotonic() + timeout
        with self._hearing:
            try:
                return self._hear(end)
            except (psycopg.Error, OSError):
                self._let_go()
        self._closed.wait(max(0.0, end - time.monotonic()))
        return False

    def close(self) -> None:
        self._closed.set()
        with self._hearing:
            self._let_go()

    def _hear(self, end: float) -> bool:
        if self._closed.is_set():
            return False
        if self._connection is None:
            self._connection = psycopg.connect(
                self._address, autocommit=True, connect_timeout=CONNECT_SECONDS, **KEEPALIVES
            )
            self._connection.execute(f"LISTEN {CHANNEL}")
            return True  # what changed before was not heard
        while not self._closed.is_set() and (left := end - time.monotonic()) > 0.0:
            if list(self._connection.notifies(timeout=min(left, _SLICE_S), stop_after=1)):
                return True
        return False

    def _let_go(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None
