"""The registry's database: its settings, its clock, and what happens when it cannot be used."""

from __future__ import annotations

import logging
import shutil
import sqlite3
import threading
import time
import traceback
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing, contextmanager, suppress
from pathlib import Path

import psycopg
import pytest
from sqlalchemy.exc import DBAPIError

from adapters.domain.principals import SYSTEM
from adapters.errors import Conflict, InvalidRequest, StorageFull, Unavailable, WardrobeError
from adapters.registry import Registry
from adapters.registry.open import open_registry
from adapters.registry.sql.database import Database
from adapters.registry.sql.postgres import translate
from adapters.registry.sql.queries import lock_revision
from adapters.registry.sql.sqlite import wal_is_safe
from tests.adapters.registry.backends import Backend
from tests.adapters.registry.values import (
    ALIAS,
    SUPPORT,
    a_file,
    a_key,
    a_process,
    added_file,
    flip_and_complete,
    joined,
    load,
    promote,
    published,
)
from tests.servers.postgres import PostgresServer, running_postgres


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "registry.sqlite3"


def url(path: Path) -> str:
    return f"sqlite:///{path}"


def database_of(backend: Backend, *, patience_s: float = 30.0) -> Database:
    return Database(backend.url, journal=backend.journal, patience_s=patience_s)


def test_what_was_written_is_there_after_opening_again(backend: Backend) -> None:
    first = open_registry(backend.url, journal=backend.journal)
    version, file = published(first), added_file(first)
    first.close()
    with closing(open_registry(backend.url, journal=backend.journal)) as again:
        assert again.versions.by_id(version.id) == version
        assert again.files.list(
            SYSTEM, purpose=None, after=None, limit=9, newest_first=True
        ).items == [file]
        assert again.routes.revision() == 1


def test_time_comes_from_the_database(backend: Backend) -> None:
    """The two clocks are one on this machine; what counts is that nobody passes a time in."""
    with closing(database_of(backend)) as database, database.write() as connection:
        first = database.now(connection)
        time.sleep(0.02)
        second = database.now(connection)
    assert abs(first - time.time()) < 5.0
    assert 0.0 < second - first < 5.0


@pytest.mark.parametrize(
    ("version", "safe"),
    [
        ((3, 40, 1), False),
        ((3, 44, 5), False),
        ((3, 44, 6), True),
        ((3, 45, 9), False),
        ((3, 50, 6), False),
        ((3, 50, 7), True),
        ((3, 51, 2), False),
        ((3, 51, 3), True),
        ((3, 53, 0), True),
    ],
)
def test_wal_is_used_only_where_it_cannot_corrupt(
    version: tuple[int, int, int], safe: bool
) -> None:
    assert wal_is_safe(version) is safe


@pytest.mark.parametrize("journal", [None, "wal", "rollback"])
def test_every_sqlite_connection_is_durable_and_keeps_foreign_keys(
    path: Path, journal: str | None
) -> None:
    wal = wal_is_safe(sqlite3.sqlite_version_info) if journal is None else journal == "wal"
    database = Database(url(path), journal=journal)  # type: ignore[arg-type]
    with database.read() as first, database.read() as second:
        for connection in (first, second):
            assert [
                connection.exec_driver_sql(f"PRAGMA {name}").scalar_one()
                for name in ("journal_mode", "synchronous", "foreign_keys", "busy_timeout")
            ] == ["wal" if wal else "truncate", 2 if wal else 3, 1, 30_000]
    database.close()


def test_a_reader_sees_one_state_while_others_write(backend: Backend) -> None:
    """What is read in several queries must not mix two states."""
    registry = open_registry(backend.url, journal=backend.journal)
    process = joined(registry)
    stop = threading.Event()
    generations: set[int] = set()

    def keep_promoting() -> None:
        while not stop.is_set():
            rollout = promote(registry, published(registry))
            load(registry, process, rollout.target)
            flip_and_complete(registry, process)

    with ThreadPoolExecutor(1) as pool, closing(registry):
        writing, deadline = pool.submit(keep_promoting), time.monotonic() + 60.0
        try:
            while len(generations) < 4 and not writing.done() and time.monotonic() < deadline:
                changes = registry.routes.changes(-1)
                known = {version.id for version in changes.versions}
                assert all(rollout.target in known for rollout in changes.rollouts)
                for route in changes.routes:
                    assert route.stable in known
                    assert all(r.generation <= route.generation for r in changes.rollouts)
                    generations.add(route.generation)
        finally:
            stop.set()
        writing.result(timeout=30.0)
    assert len(generations) >= 4


@pytest.mark.parametrize(
    "address", ["mysql://u:secret-word@db/w", "sqlite://", "sqlite:///:memory:", "secret-word", ""]
)
def test_another_kind_of_address_is_refused_without_being_told(address: str) -> None:
    with pytest.raises(InvalidRequest) as raised:
        open_registry(address)
    assert "secret-word" not in "".join(traceback.format_exception(raised.value))


# -- when it cannot be used


def test_a_folder_that_is_not_there_makes_the_registry_unavailable(tmp_path: Path) -> None:
    with pytest.raises(Unavailable):
        open_registry(url(tmp_path / "nowhere" / "registry.sqlite3"))


@pytest.mark.skipif(
    wal_is_safe(sqlite3.sqlite_version_info), reason="this SQLite may use WAL itself"
)
def test_a_file_that_another_sqlite_holds_in_wal_is_refused_until_that_one_is_gone(
    path: Path,
) -> None:
    open_registry(url(path)).close()
    with closing(sqlite3.connect(path)) as newer:
        assert newer.execute("PRAGMA journal_mode = WAL").fetchone() == ("wal",)
        newer.execute("SELECT * FROM jobs").fetchall()
        with pytest.raises(Conflict, match=sqlite3.sqlite_version) as raised:
            open_registry(url(path))
        assert raised.value.reason == "journal_mode"
    with closing(open_registry(url(path))) as registry:
        assert registry.routes.revision() == 0


def test_a_database_that_stays_locked_is_unavailable(path: Path) -> None:
    open_registry(url(path)).close()
    with closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("BEGIN EXCLUSIVE")
        with pytest.raises(Unavailable) as raised:
            Database(url(path), patience_s=0.05)
    assert raised.value.reason == "registry_unavailable"


def test_more_readers_than_connections_are_told_to_come_again(backend: Backend) -> None:
    with closing(database_of(backend, patience_s=0.1)) as database, ExitStack() as readers:
        for _ in range(16):  # those the pool keeps and those it may add
            readers.enter_context(database.read())
        with pytest.raises(Unavailable) as raised:
            readers.enter_context(database.read())
        assert raised.value.reason == "registry_unavailable"


@contextmanager
def stuck_writer(backend: Backend) -> Iterator[None]:
    """A process that changes what is routed by, and stops in the middle of it."""
    with closing(database_of(backend)) as database, database.write() as connection:
        lock_revision(connection)
        yield


def test_a_stuck_writer_makes_nobody_wait_for_longer_than_the_bound(backend: Backend) -> None:
    with closing(open_registry(backend.url, journal=backend.journal)) as registry:
        joined(registry)
    impatient = open_registry(backend.url, journal=backend.journal, patience_s=0.5)
    with closing(impatient), stuck_writer(backend), ThreadPoolExecutor(4) as pool:
        began = time.monotonic()
        waiting = [pool.submit(impatient.keys.add, [a_key(f"key_{n}")]) for n in range(4)]
        for waited in waiting:
            with pytest.raises(Unavailable):
                waited.result()
        assert time.monotonic() - began < 5.0


def test_a_stuck_writer_stops_neither_reads_nor_on_postgres_heartbeats(backend: Backend) -> None:
    registry = open_registry(backend.url, journal=backend.journal, patience_s=5.0)
    with closing(registry):
        process = joined(registry)
        with stuck_writer(backend):
            began = time.monotonic()
            assert registry.routes.changes(-1).revision == 0
            if not backend.is_sqlite:
                registry.replicas.heartbeat(process, ready=True, lease_seconds=15.0)
            assert time.monotonic() - began < 2.0


def test_a_writer_that_is_stuck_in_the_same_pool_is_waited_for_no_longer_than_the_bound(
    backend: Backend,
) -> None:
    with closing(database_of(backend, patience_s=0.3)) as database:
        done = threading.Event()

        def hold() -> None:
            with database.write() as connection:
                lock_revision(connection)
                done.wait(20.0)

        with ThreadPoolExecutor(1) as pool:
            holding = pool.submit(hold)
            time.sleep(0.1)
            began = time.monotonic()
            try:
                # PostgreSQL ends the transaction that stands idle for as long, and lets this one in
                with suppress(Unavailable), database.write() as connection:
                    lock_revision(connection)
                assert time.monotonic() - began < 5.0
            finally:
                done.set()
            assert isinstance(holding.exception(), Unavailable | None)


@pytest.mark.parametrize("kept", [0, 100])
def test_a_damaged_database_is_told_as_one_to_restore(path: Path, kept: int) -> None:
    """With and without the header that says what kind of file it is."""
    open_registry(url(path)).close()
    path.write_bytes(path.read_bytes()[:kept] + b"\xa5" * 8192)
    with pytest.raises(Unavailable, match="backup") as raised:
        open_registry(url(path))
    assert raised.value.reason == "registry_damaged"


@pytest.mark.parametrize("key", ["'ftjob-secret-word'", "NULL"], ids=["foreign-key", "not-null"])
def test_a_row_that_may_not_be_is_a_bug_and_tells_no_values(backend: Backend, key: str) -> None:
    insert = f"INSERT INTO job_metadata (job_id, key, value) VALUES ({key}, 'a', 'secret-word')"
    with (
        closing(database_of(backend)) as database,
        pytest.raises(WardrobeError) as raised,
        database.write() as connection,
    ):
        connection.exec_driver_sql(insert)
    assert (type(raised.value), raised.value.reason) == (WardrobeError, "registry_misuse")
    assert "secret-word" not in "".join(traceback.format_exception(raised.value)).replace(
        insert, ""
    )


def add_files(registry: Registry, number: int) -> None:
    for _ in range(number):
        registry.files.add(a_file(filename="x" * 1000), by=SYSTEM)


def test_a_full_disk_refuses_writes_and_goes_on_when_there_is_room(
    small_disk: Callable[[int], Path],
) -> None:
    disk = small_disk(1024)
    registry = open_registry(url(disk / "registry.sqlite3"))
    registry.keys.add([a_key()])
    filler = disk / "filler"
    filler.write_bytes(b"x" * shutil.disk_usage(disk).free)
    with pytest.raises(StorageFull):
        add_files(registry, 100)
    assert len(registry.keys.active()) == 1
    filler.unlink()
    file = added_file(registry)
    assert registry.files.get(file.id, SYSTEM) == file
    registry.close()


# -- a server that goes and comes


def test_a_server_that_restarts_is_found_again(caplog: pytest.LogCaptureFixture) -> None:
    with running_postgres() as server:
        registry = open_registry(server.new_database(), patience_s=2.0)
        joined(registry)
        assert _writes(registry) is None
        for end in (server.stop, server.kill):
            end()
            told = _writes(registry)
            assert isinstance(told, Unavailable)
            assert told.reason == "registry_unavailable"
            check_tells_nothing(told, server)
            server.start()
            assert _writes(registry) is None
        registry.close()
    assert not [record for record in caplog.records if record.levelno >= logging.ERROR]


def _writes(registry: Registry) -> WardrobeError | None:
    """What a heartbeat or a read meets."""
    try:
        registry.replicas.heartbeat(a_process(), ready=True, lease_seconds=15.0)
        registry.routes.route(ALIAS, SUPPORT)
    except WardrobeError as error:
        return error
    return None


def check_tells_nothing(error: WardrobeError, server: PostgresServer) -> None:
    text = "".join(traceback.format_exception(error))
    for told in (server.url, "127.0.0.1", "wardrobe@", "SELECT ", "UPDATE ", "[SQL"):
        assert told not in text


def test_a_crash_of_a_server_that_waits_for_no_commit_loses_none_of_ours() -> None:
    with running_postgres(settings=("synchronous_commit=off", "wal_writer_delay=10s")) as server:
        address = server.new_database()
        registry = open_registry(address)
        versions = [published(registry) for _ in range(5)]
        server.kill()
        server.start()
        assert [registry.versions.by_id(version.id) for version in versions] == versions
        registry.close()


@pytest.mark.parametrize(
    ("chosen", "used"), [("off", "on"), ("local", "on"), ("remote_apply", "remote_apply")]
)
def test_commits_are_waited_for_at_least_until_they_are_durable(
    postgres: PostgresServer, chosen: str, used: str
) -> None:
    address = postgres.new_database()
    name = address.rsplit("/", 1)[1]
    with psycopg.connect(address, autocommit=True) as connection:
        connection.execute(f'ALTER DATABASE "{name}" SET synchronous_commit = {chosen}')
    database = Database(address)
    with database.write() as connection:
        shown = connection.exec_driver_sql("SHOW synchronous_commit").scalar_one()
    database.close()
    assert shown == used


def test_a_login_that_is_refused_is_told_without_its_password(postgres: PostgresServer) -> None:
    address = postgres.new_database().rsplit("/", 1)[0].replace("wardrobe@", "w:secret-word@")
    with pytest.raises(Unavailable) as raised:
        open_registry(f"{address}/nowhere")
    text = "".join(traceback.format_exception(raised.value))
    assert "secret-word" not in text
    check_tells_nothing(raised.value, postgres)


@pytest.mark.parametrize(
    ("error", "ours", "reason"),
    [
        (psycopg.errors.UniqueViolation, Conflict, "already_exists"),
        (psycopg.errors.DiskFull, StorageFull, "storage_full"),
        (psycopg.errors.DataCorrupted, Unavailable, "registry_damaged"),
        (psycopg.errors.InvalidPassword, Unavailable, "registry_login"),
        (psycopg.errors.QueryCanceled, Unavailable, "registry_unavailable"),
        (psycopg.errors.LockNotAvailable, Unavailable, "registry_unavailable"),
        (psycopg.errors.DeadlockDetected, Unavailable, "registry_unavailable"),
        (psycopg.errors.SerializationFailure, Unavailable, "registry_unavailable"),
        (psycopg.errors.TooManyConnections, Unavailable, "registry_unavailable"),
        (psycopg.errors.AdminShutdown, Unavailable, "registry_unavailable"),
        (psycopg.errors.ReadOnlySqlTransaction, Unavailable, "registry_unavailable"),
        (psycopg.OperationalError, Unavailable, "registry_unavailable"),
        (psycopg.errors.StringDataRightTruncation, InvalidRequest, "invalid_request"),
    ],
    ids=lambda value: value.__name__ if isinstance(value, type) else value,
)
def test_what_postgres_says_becomes_one_of_our_errors(
    error: type[psycopg.Error], ours: type[WardrobeError], reason: str
) -> None:
    """Those that no test here can make a server say included: a full disk, a failover."""
    raised = DBAPIError.instance("SELECT 1", {}, error("secret-word"), psycopg.Error)
    assert isinstance(raised, DBAPIError)
    told = translate(raised)
    assert told is not None
    assert (type(told), told.reason) == (ours, reason)
    assert "secret-word" not in told.message


@pytest.mark.parametrize(
    "error", [psycopg.errors.ForeignKeyViolation, psycopg.errors.UndefinedTable]
)
def test_what_only_a_bug_brings_about_is_none_of_them(error: type[psycopg.Error]) -> None:
    raised = DBAPIError.instance("SELECT 1", {}, error("x"), psycopg.Error)
    assert isinstance(raised, DBAPIError)
    assert translate(raised) is None
