"""Connections, transactions and migrations: everything that knows which database it is.

SQLite is set up here for several threads and processes: writes begin with `BEGIN IMMEDIATE` (a
reader that turns into a writer would fail at once, whatever the busy timeout), and WAL is used
only where the linked SQLite is free of the WAL-reset corruption bug (affects 3.7.0-3.51.2 with two
connections or more; sqlite.org/wal.html, fixed in 3.51.3 and the backports below).
"""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, Engine, create_engine, event, make_url
from sqlalchemy.exc import ArgumentError, DBAPIError, TimeoutError

from adapters.errors import Conflict, InvalidRequest, StorageFull, Unavailable, WardrobeError

BUSY_TIMEOUT_S = 30.0
_MIGRATIONS = Path(__file__).parent / "migrations"
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
}


def wal_is_safe(sqlite_version: tuple[int, int, int]) -> bool:
    """Whether this SQLite may use WAL with more than one connection."""
    backport = _WAL_BACKPORTS.get(sqlite_version[:2])
    return sqlite_version >= _WAL_FIXED or (backport is not None and sqlite_version[2] >= backport)


def is_write(connection: Connection) -> bool:
    """Whether `connection` is in a `Database.write`."""
    return bool(connection.get_execution_options().get("wardrobe_write", False))


class Database:
    """Transactions on one database. Safe to use from several threads."""

    def __init__(self, url: str, *, patience_s: float = BUSY_TIMEOUT_S) -> None:
        """Opens and migrates; waits `patience_s` for a connection, or another process's lock.

        Raises InvalidRequest, Conflict (`schema_newer`, `journal_mode`), Unavailable.
        """
        self._engine = _sqlite_engine(url, patience_s)
        # SQLite lets one write at a time; waiting here is fair and costs no busy sleeps.
        self._writing = threading.Lock()
        try:
            self._migrate()
        except BaseException:
            self.close()
            raise

    def _migrate(self) -> None:
        """Brings the schema to this build's, in one write transaction: the lock, and all or none.

        Raises Conflict when a newer build has been here: its tables may mean something else.
        """
        with self.read() as connection:
            if _is_current(connection):
                return
        with self.write() as connection:
            # Meanwhile another process may have done it.
            if not _is_current(connection):
                command.upgrade(_alembic(connection), "head")

    @contextmanager
    def read(self) -> Iterator[Connection]:
        """One transaction that sees one state of everything."""
        with _errors_translated(), self._engine.begin() as connection:
            yield connection

    @contextmanager
    def write(self) -> Iterator[Connection]:
        """One transaction that no other write overlaps; durable when the body's end returns."""
        writer = self._engine.execution_options(wardrobe_write=True)
        with _errors_translated(), self._writing, writer.begin() as connection:
            yield connection

    def close(self) -> None:
        """Lets go of every connection."""
        self._engine.dispose()


def _sqlite_engine(url: str, patience_s: float) -> Engine:
    try:
        parsed = make_url(url)
    except ArgumentError as error:
        raise InvalidRequest("a registry's address looks like sqlite:///<path>") from error
    if parsed.get_backend_name() != "sqlite":
        raise InvalidRequest(
            f"the registry cannot use {parsed.get_backend_name()} yet; give sqlite:///<path>"
        )
    if not parsed.database or parsed.database == ":memory:":
        raise InvalidRequest("the registry wants a file: sqlite:///<path>, or memory: for tests")
    engine = create_engine(
        parsed,
        connect_args={"timeout": patience_s, "check_same_thread": False},
        pool_size=8,
        pool_timeout=patience_s,
    )
    event.listen(engine, "connect", _set_up_sqlite)
    event.listen(engine, "begin", _begin_sqlite)
    return engine


def _set_up_sqlite(connection: sqlite3.Connection, _record: Any) -> None:
    connection.isolation_level = None  # the driver begins nothing by itself; `_begin_sqlite` does
    wal = wal_is_safe(sqlite3.sqlite_version_info)
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


def _begin_sqlite(connection: Connection) -> None:
    connection.exec_driver_sql("BEGIN IMMEDIATE" if is_write(connection) else "BEGIN")


def _alembic(connection: Connection) -> Config:
    config = Config()
    config.set_main_option("script_location", str(_MIGRATIONS).replace("%", "%%"))
    config.attributes["connection"] = connection
    return config


def _is_current(connection: Connection) -> bool:
    scripts = ScriptDirectory.from_config(_alembic(connection))
    current = MigrationContext.configure(connection).get_current_revision()
    if current is not None and current not in {step.revision for step in scripts.walk_revisions()}:
        raise Conflict(
            f"the registry is at schema {current}, which this build of Wardrobe does not know; "
            "run the newer build that made it, or restore a backup",
            code="schema_newer",
        )
    return current == scripts.get_current_head()


@contextmanager
def _errors_translated() -> Iterator[None]:
    try:
        yield
    except TimeoutError as error:
        raise _unavailable() from error
    except DBAPIError as error:
        translated = _translated(error)
        if translated is None:
            raise
        raise translated from error


def _translated(error: DBAPIError) -> WardrobeError | None:
    """Ours for what the database says; None for what only a bug of ours can bring about."""
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
    return _unavailable() if code in _NOW_IMPOSSIBLE else None


def _unavailable() -> Unavailable:
    return Unavailable("the registry cannot be used now", code="registry_unavailable")
