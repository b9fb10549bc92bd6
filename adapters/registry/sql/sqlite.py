"""SQLite: its connections, its journal, and what its errors mean.

Writes begin with `BEGIN IMMEDIATE` (a reader that turns into a writer would fail at once, whatever
the busy timeout), and WAL is used only where the linked SQLite is free of the WAL-reset corruption
bug (affects 3.7.0-3.51.2 with two connections or more; sqlite.org/wal.html, fixed in 3.51.3 and
the backports below).
"""

from __future__ import annotations

import sqlite3
from functools import partial
from typing import Any, Literal

from sqlalchemy import URL, Connection, Engine, create_engine, event
from sqlalchemy.exc import DBAPIError

from adapters.errors import Conflict, InvalidRequest, StorageFull, Unavailable, WardrobeError

Journal = Literal["wal", "rollback"]

NOW = "SELECT round((julianday('now') - 2440587.5) * 86400.0, 3)"
"""Seconds since the epoch, to the millisecond; `unixepoch('subsec')` wants SQLite 3.42."""
POOL_SIZE = 8
_WAL_FIXED = (3, 51, 3)
_WAL_BACKPORTS = {(3, 44): 6, (3, 50): 7}
_ALREADY_THERE = {sqlite3.SQLITE_CONSTRAINT_UNIQUE, sqlite3.SQLITE_CONSTRAINT_PRIMARYKEY}
_DAMAGED = {sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB}
_NOW_IMPOSSIBLE = {
    sqlite3.SQLITE_BUSY,
    sqlite3.SQLITE_LOCKED,
    sqlite3.SQLITE_READONLY,
    sqlite3.SQLITE_IOERR,
    sqlite3.SQLITE_CANTOPEN,
    sqlite3.SQLITE_PROTOCOL,
}


def wal_is_safe(sqlite_version: tuple[int, int, int]) -> bool:
    """Whether this SQLite may use WAL with more than one connection."""
    backport = _WAL_BACKPORTS.get(sqlite_version[:2])
    return sqlite_version >= _WAL_FIXED or (backport is not None and sqlite_version[2] >= backport)


def create_sqlite_engine(url: URL, *, patience_s: float, journal: Journal | None) -> Engine:
    """Connections that wait `patience_s` for each other. Raises InvalidRequest.

    `journal` None chooses WAL where it is safe.
    """
    if not url.database or url.database == ":memory:":
        raise InvalidRequest("the registry wants a file: sqlite:///<path>")
    wal = wal_is_safe(sqlite3.sqlite_version_info) if journal is None else journal == "wal"
    engine = create_engine(
        url,
        connect_args={"timeout": patience_s, "check_same_thread": False},
        pool_size=POOL_SIZE,
        max_overflow=POOL_SIZE,
        pool_timeout=patience_s,
        hide_parameters=True,
    )
    event.listen(engine, "connect", partial(_set_up, wal=wal))
    return engine


def _set_up(connection: sqlite3.Connection, _record: Any, *, wal: bool) -> None:
    connection.isolation_level = None  # the driver begins nothing by itself; `begin` does
    _choose_journal(connection, wal=wal)
    for pragma in (f"synchronous = {'FULL' if wal else 'EXTRA'}", "foreign_keys = ON"):
        connection.execute(f"PRAGMA {pragma}").close()


def _choose_journal(connection: sqlite3.Connection, *, wal: bool) -> None:
    """Raises Conflict where the file is in WAL and cannot leave it, and WAL is not safe here."""
    mode = _answer(connection, "PRAGMA journal_mode")
    try:
        mode = _answer(connection, f"PRAGMA journal_mode = {'WAL' if wal else 'TRUNCATE'}")
    except sqlite3.OperationalError:
        if wal or mode != "wal":
            raise
    if mode == "wal" and not wal:
        raise Conflict(
            f"this process has SQLite {sqlite3.sqlite_version}, whose WAL mode can corrupt the "
            "registry, and another process with a newer SQLite has the registry in WAL mode now; "
            "stop that one, or run both with the same SQLite",
            code="journal_mode",
        )


def _answer(connection: sqlite3.Connection, pragma: str) -> str:
    return str(connection.execute(pragma).fetchone()[0])


def begin(connection: Connection, *, write: bool) -> None:
    """Begins a transaction; one that writes takes the only writer's place at once."""
    connection.exec_driver_sql("BEGIN IMMEDIATE" if write else "BEGIN")


def translate(error: DBAPIError) -> WardrobeError | None:
    """Ours for what SQLite says; None for what only a bug of ours can bring about."""
    extended = getattr(error.orig, "sqlite_errorcode", 0)
    code = extended & 0xFF  # the primary one (sqlite.org/rescode.html)
    if extended in _ALREADY_THERE:
        return Conflict("another change came first", code="already_exists")
    if code == sqlite3.SQLITE_FULL:
        return StorageFull("there is no room left for the registry; free some and try again")
    if code in _DAMAGED:
        return Unavailable(
            "the registry's database is damaged; stop Wardrobe and restore it from a backup",
            code="registry_damaged",
        )
    if code in _NOW_IMPOSSIBLE:
        name = getattr(error.orig, "sqlite_errorname", "")
        return Unavailable(f"the registry cannot be used now ({name})", code="registry_unavailable")
    return None
