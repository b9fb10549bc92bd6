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
from sqlalchemy.exc import ArgumentError, DBAPIError, IntegrityError

from adapters.errors import Conflict, InvalidRequest, StorageFull, Unavailable, WardrobeError

BUSY_TIMEOUT_S = 30.0
_MIGRATIONS = Path(__file__).parent / "migrations"
_WAL_FIXED = (3, 51, 3)
_WAL_BACKPORTS = {(3, 44): 6, (3, 50): 7}
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

    def __init__(self, url: str) -> None:
        """Opens and migrates. Raises InvalidRequest, Conflict (`schema_newer`), Unavailable."""
        self._engine = _sqlite_engine(url)
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


def _sqlite_engine(url: str) -> Engine:
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
        parsed, connect_args={"timeout": BUSY_TIMEOUT_S, "check_same_thread": False}, pool_size=8
    )
    event.listen(engine, "connect", _set_up_sqlite)
    event.listen(engine, "begin", _begin_sqlite)
    return engine


def _set_up_sqlite(connection: sqlite3.Connection, _record: Any) -> None:
    connection.isolation_level = None  # the driver begins nothing by itself; `_begin_sqlite` does
    wal = wal_is_safe(sqlite3.sqlite_version_info)
    pragmas = (
        f"busy_timeout = {int(BUSY_TIMEOUT_S * 1000)}",
        f"journal_mode = {'WAL' if wal else 'TRUNCATE'}",
        f"synchronous = {'FULL' if wal else 'EXTRA'}",
        "foreign_keys = ON",
    )
    for pragma in pragmas:
        connection.execute(f"PRAGMA {pragma}").close()


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
    except IntegrityError as error:
        raise Conflict("another change came first", code="already_exists") from error
    except DBAPIError as error:
        raise _translated(error) from error


def _translated(error: DBAPIError) -> WardrobeError | DBAPIError:
    # The primary code is the low byte of the extended one (sqlite.org/rescode.html).
    code = getattr(error.orig, "sqlite_errorcode", 0) & 0xFF
    if code == sqlite3.SQLITE_FULL:
        return StorageFull("there is no room left for the registry; free some and try again")
    if code in _NOW_IMPOSSIBLE:
        return Unavailable("the registry cannot be used now", code="registry_unavailable")
    return error
