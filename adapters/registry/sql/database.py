"""Connections and transactions: what the ports' implementations know of the database."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from sqlalchemy import Connection, Engine, make_url
from sqlalchemy.exc import DBAPIError, SQLAlchemyError, TimeoutError

from adapters.errors import InvalidRequest, Unavailable, WardrobeError
from adapters.registry.sql import migrate, postgres, sqlite
from adapters.registry.sql.sqlite import Journal

PATIENCE_S = 30.0

_ADDRESSES = "a registry's address is sqlite:///<path> or postgresql://<user>@<host>/<database>"


class Database:
    """Transactions on one database, with a pool of connections. Safe to use from threads."""

    def __init__(
        self,
        url: str,
        *,
        patience_s: float = PATIENCE_S,
        journal: Journal | None = None,
        now: Callable[[], float] | None = None,
    ) -> None:
        """Opens and migrates; waits `patience_s` for a connection, a lock or a statement.

        `now` stands in for the database's clock, and `journal` for the choice of SQLite's journal;
        both are for tests. Raises InvalidRequest, Conflict (`schema_newer`, `journal_mode`),
        Unavailable, StorageFull.
        """
        self._engine, self._is_sqlite = _engine(url, patience_s, journal)
        self._readers = self._writers = self._engine
        if not self._is_sqlite:
            self._readers = self._engine.execution_options(
                isolation_level="REPEATABLE READ", postgresql_readonly=True
            )
            self._writers = self._engine.execution_options(isolation_level="READ COMMITTED")
        self._now = now
        self._patience_s = patience_s
        # SQLite lets one write at a time; waiting here is fair and costs no busy sleeps.
        self._writing = threading.Lock()
        try:
            migrate.bring_up_to_date(self)
        except BaseException:
            self.close()
            raise

    @contextmanager
    def read(self) -> Iterator[Connection]:
        """One transaction that sees one state of everything."""
        with (
            self._errors_translated(),
            self._transaction(self._readers, write=False) as connection,
        ):
            yield connection

    @contextmanager
    def write(self) -> Iterator[Connection]:
        """One transaction that changes rows; durable when the body's end returns.

        On SQLite no other write overlaps it. On PostgreSQL each statement sees what is committed,
        and what must not change meanwhile is locked by whoever relies on it.
        """
        with (
            self._errors_translated(),
            self._turn(),
            self._transaction(self._writers, write=True) as connection,
        ):
            yield connection

    def now(self, connection: Connection) -> float:
        """The database's clock, in seconds since the epoch: one for all processes."""
        if self._now is not None:
            return self._now()
        asked = sqlite.NOW if self._is_sqlite else postgres.NOW
        return float(connection.exec_driver_sql(asked).scalar_one())

    def close(self) -> None:
        """Lets go of every connection."""
        self._engine.dispose()

    @contextmanager
    def _transaction(self, engine: Engine, *, write: bool) -> Iterator[Connection]:
        with engine.begin() as connection:
            if self._is_sqlite:
                sqlite.begin(connection, write=write)
            yield connection

    @contextmanager
    def _turn(self) -> Iterator[None]:
        """Waits for the other writers of this pool, but not for ever: one of them may be stuck."""
        if not self._is_sqlite:
            yield
            return
        if not self._writing.acquire(timeout=self._patience_s):
            raise _unavailable()
        try:
            yield
        finally:
            self._writing.release()

    @contextmanager
    def _errors_translated(self) -> Iterator[None]:
        """Errors of the driver carry statements, values and addresses: none of them gets out."""
        translate = sqlite.translate if self._is_sqlite else postgres.translate
        try:
            yield
        except TimeoutError:
            raise _unavailable() from None
        except (UnicodeEncodeError, OverflowError):
            # half of a surrogate pair, or a number of over 64 bits; the error holds the value
            raise InvalidRequest("the registry cannot keep a value of this request") from None
        except DBAPIError as error:
            ours = translate(error) or _misused(error)
            raise ours.with_traceback(error.__traceback__) from None


def _engine(url: str, patience_s: float, journal: Journal | None) -> tuple[Engine, bool]:
    try:
        parsed = make_url(url)
        backend = parsed.get_backend_name()
    except (SQLAlchemyError, ValueError):
        raise InvalidRequest(_ADDRESSES) from None  # the error tells the address
    if backend == "sqlite":
        return sqlite.create_sqlite_engine(parsed, patience_s=patience_s, journal=journal), True
    if backend == "postgresql":
        return postgres.create_postgres_engine(parsed, patience_s=patience_s), False
    raise InvalidRequest(_ADDRESSES)


def _unavailable() -> Unavailable:
    return Unavailable("the registry cannot be used now", code="registry_unavailable")


def _misused(error: DBAPIError) -> WardrobeError:
    """What only a bug of ours brings about; the traceback shows where."""
    told = getattr(error.orig, "sqlstate", None) or getattr(error.orig, "sqlite_errorname", "")
    return WardrobeError(
        f"the registry was asked for what its tables forbid ({told})", code="registry_misuse"
    )
