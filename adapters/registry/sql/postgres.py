"""PostgreSQL: its connections, and what its errors mean."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import psycopg
from sqlalchemy import URL, Engine, create_engine, event
from sqlalchemy.exc import DataError, DBAPIError

from adapters.errors import Conflict, InvalidRequest, StorageFull, Unavailable, WardrobeError

NOW = "SELECT extract(epoch FROM clock_timestamp())::double precision"
"""Not `now()`, which is when the transaction began: locks may have been waited for since."""
_DURABLE = """
SELECT set_config('synchronous_commit', 'on', false)
WHERE current_setting('synchronous_commit') IN ('off', 'local')
"""
"""Where commits are not waited for, others route by one that a crash of the server then takes back.
What waits for more than `on` does is left as it is."""
POOL_SIZE = 8
CONNECT_SECONDS = 5
KEEPALIVES: Mapping[str, Any] = {
    "keepalives_idle": 5,
    "keepalives_interval": 2,
    "keepalives_count": 3,
}
"""A server that vanished without a word is noticed after some 11 s, not waited for."""

_UNIQUE_VIOLATION = "23505"
_DISK_FULL = "53100"
_NO_DATABASE = "3D000"
_REFUSED_LOGIN = "28"
_DAMAGED = {"XX001", "XX002"}
_NOW_IMPOSSIBLE = (
    "08",  # connection lost
    "25006",  # a standby, after a failover
    "25P0",  # idle in a transaction for too long
    "40",  # deadlock, serialization
    "53",  # out of connections or memory
    "55P03",  # lock timeout
    "57",  # statement timeout, shutting down, starting up
    "58",  # the server's disk
)


def create_postgres_engine(url: URL, *, patience_s: float) -> Engine:
    """Connections whose statements and locks wait `patience_s` at most.

    A connection is asked whether it still stands before it is used: servers restart.
    """
    wait_ms = max(1, int(patience_s * 1000))
    options = {
        "statement_timeout": wait_ms,
        "lock_timeout": wait_ms,
        # a process that is stopped within a transaction must not hold its locks for ever
        "idle_in_transaction_session_timeout": wait_ms,
    }
    engine = create_engine(
        url.set(drivername="postgresql+psycopg"),
        connect_args={
            "connect_timeout": CONNECT_SECONDS,
            "application_name": "wardrobe",
            "options": " ".join(f"-c {name}={value}" for name, value in options.items()),
            **KEEPALIVES,
            "tcp_user_timeout": wait_ms,
        },
        pool_size=POOL_SIZE,
        max_overflow=POOL_SIZE,
        pool_timeout=patience_s,
        pool_pre_ping=True,
        hide_parameters=True,
    )
    event.listen(engine, "connect", _set_up)
    return engine


def _set_up(connection: psycopg.Connection[Any], _record: Any) -> None:
    connection.execute(_DURABLE)
    connection.commit()


def translate(error: DBAPIError) -> WardrobeError | None:
    """Ours for what PostgreSQL says; None for what only a bug of ours can bring about."""
    state = getattr(error.orig, "sqlstate", None)
    if state == _UNIQUE_VIOLATION:
        return Conflict("another change came first", code="already_exists")
    if state == _DISK_FULL:
        return StorageFull("there is no room left for the registry; free some and try again")
    if state in _DAMAGED:
        return Unavailable(
            "the registry's database is damaged; stop Wardrobe and restore it from a backup",
            code="registry_damaged",
        )
    if state == _NO_DATABASE or (state or "").startswith(_REFUSED_LOGIN):
        return Unavailable(
            f"the registry's database cannot be entered ({state}); see its URL, user and password",
            code="registry_login",
        )
    if isinstance(error, DataError):
        # text with a NUL in it, a number out of range: what comes from a request, unlike SQLite's
        return InvalidRequest("the registry cannot keep a value of this request")
    # without a state the server has said nothing: the connection could not be made, or broke
    if state is None or state.startswith(_NOW_IMPOSSIBLE):
        told = f" ({state})" if state else ""
        return Unavailable(f"the registry cannot be used now{told}", code="registry_unavailable")
    return None
