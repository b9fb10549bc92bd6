"""The registry's database: migrations, settings, what happens when it cannot be used."""

from __future__ import annotations

import shutil
import sqlite3
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing
from pathlib import Path

import pytest
from alembic.autogenerate import compare_metadata
from alembic.runtime.migration import MigrationContext
from sqlalchemy import create_engine
from sqlalchemy.exc import IntegrityError

from adapters.errors import Conflict, InvalidRequest, StorageFull, Unavailable
from adapters.registry import Registry, open_registry
from adapters.registry.database import Database, wal_is_safe
from adapters.registry.memory import MemoryRegistry
from adapters.registry.schema import metadata
from tests.adapters.registry.values import ALIAS, SUPPORT, a_file, a_job, a_key, published


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "registry.sqlite3"


def url(path: Path) -> str:
    return f"sqlite:///{path}"


def test_the_migrations_make_exactly_the_tables_of_the_schema(path: Path) -> None:
    open_registry(url(path)).close()
    engine = create_engine(url(path))
    with engine.connect() as connection:
        context = MigrationContext.configure(connection, opts={"compare_type": True})
        assert compare_metadata(context, metadata) == []
    engine.dispose()


def test_the_migrations_also_make_what_autogenerate_does_not_compare(path: Path) -> None:
    """Checks, partial indexes and AUTOINCREMENT, side by side with the schema's own DDL."""
    open_registry(url(path)).close()
    engine = create_engine("sqlite://")
    metadata.create_all(engine)
    query = "SELECT name, sql FROM sqlite_master WHERE name NOT LIKE 'alembic%' AND sql NOT NULL"
    with engine.connect() as connection:
        wanted = {row[0]: row[1] for row in connection.exec_driver_sql(query)}
    engine.dispose()
    with sqlite3.connect(path) as migrated:
        found = dict(migrated.execute(query).fetchall())
    migrated.close()
    assert found.keys() == wanted.keys()
    for name, sql in wanted.items():
        assert sorted(clauses(found[name])) == sorted(clauses(sql)), name


def clauses(sql: str) -> list[str]:
    return [" ".join(line.split()).rstrip(",") for line in sql.splitlines()]


def test_what_was_written_is_there_after_opening_again(path: Path) -> None:
    first = open_registry(url(path))
    version, job = published(first), first.add_job(a_job())
    first.close()
    again = open_registry(url(path))
    assert again.version_by_id(version.id) == version
    assert again.job(job.id, unit=None) == job
    assert again.revision() == 1
    again.close()


def test_a_database_of_a_newer_build_is_refused_and_left_alone(path: Path) -> None:
    open_registry(url(path)).close()
    with sqlite3.connect(path) as connection:
        connection.execute("UPDATE alembic_version SET version_num = '9999'")
    connection.close()
    before = path.read_bytes()
    with pytest.raises(Conflict) as raised:
        open_registry(url(path))
    assert raised.value.reason == "schema_newer"
    assert "9999" in raised.value.message
    assert path.read_bytes() == before


def test_a_migration_that_breaks_off_leaves_nothing(path: Path) -> None:
    with sqlite3.connect(path) as connection:
        connection.execute("CREATE TABLE rollouts (in_the_way)")
    with pytest.raises(Exception, match="rollouts"):
        open_registry(url(path))
    assert connection.execute("SELECT name FROM sqlite_master").fetchall() == [("rollouts",)]
    connection.execute("DROP TABLE rollouts")
    connection.close()
    open_registry(url(path)).close()


def test_many_open_a_new_database_at_once(path: Path) -> None:
    start = threading.Barrier(6)

    def open_and_ask(_: int) -> int:
        start.wait()
        registry = open_registry(url(path))
        try:
            return registry.revision()
        finally:
            registry.close()

    with ThreadPoolExecutor(6) as pool:
        assert list(pool.map(open_and_ask, range(6))) == [0] * 6


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


def test_every_connection_is_durable_and_keeps_foreign_keys(path: Path) -> None:
    database = Database(url(path))
    with database.read() as first, database.read() as second:
        for connection in (first, second):
            wal = wal_is_safe(sqlite3.sqlite_version_info)
            assert [
                connection.exec_driver_sql(f"PRAGMA {name}").scalar_one()
                for name in ("journal_mode", "synchronous", "foreign_keys", "busy_timeout")
            ] == ["wal" if wal else "truncate", 2 if wal else 3, 1, 30_000]
    database.close()


def test_a_reader_sees_one_state_while_others_write(path: Path) -> None:
    """A page read in two queries must not mix two states."""
    registry = open_registry(url(path))
    stop = threading.Event()
    generations: set[int] = set()

    def keep_writing() -> None:
        while not stop.is_set():
            version = published(registry)
            rollout = registry.begin_rollout(
                ALIAS, version.id, unit=SUPPORT, action="promote", actor="k",
                expected_generation=None, at=1.0,
            )  # fmt: skip
            registry.complete_rollout(rollout.id, at=2.0)

    with ThreadPoolExecutor(1) as pool, closing(registry):
        writing, deadline = pool.submit(keep_writing), time.monotonic() + 60.0
        try:
            while len(generations) < 4 and not writing.done() and time.monotonic() < deadline:
                snapshot = registry.snapshot()
                for route in snapshot.routes.values():
                    live = {v.id for v in snapshot.versions.values() if v.state == "live"}
                    assert live == {route.stable}
                    generations.add(route.generation)
        finally:
            stop.set()
        writing.result(timeout=30.0)
    assert len(generations) >= 4


@pytest.mark.parametrize(
    "address", ["postgresql://db/wardrobe", "sqlite://", "sqlite:///:memory:", "nonsense", ""]
)
def test_another_kind_of_address_is_refused(address: str) -> None:
    with pytest.raises(InvalidRequest):
        open_registry(address)


def test_memory_is_an_address() -> None:
    assert isinstance(open_registry("memory:"), MemoryRegistry)


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
        assert registry.revision() == 0


def test_a_database_that_stays_locked_is_unavailable(path: Path) -> None:
    open_registry(url(path)).close()
    with closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("BEGIN EXCLUSIVE")
        with pytest.raises(Unavailable) as raised:
            Database(url(path), patience_s=0.05)
    assert raised.value.reason == "registry_unavailable"


def test_more_readers_than_connections_are_told_to_come_again(path: Path) -> None:
    database = Database(url(path), patience_s=0.05)
    with closing(database), ExitStack() as readers:
        for _ in range(18):  # those the pool keeps and those it may add
            readers.enter_context(database.read())
        with pytest.raises(Unavailable) as raised:
            readers.enter_context(database.read())
        assert raised.value.reason == "registry_unavailable"


@pytest.mark.parametrize("kept", [0, 100])
def test_a_damaged_database_is_told_as_one_to_restore(path: Path, kept: int) -> None:
    """With and without the header that says what kind of file it is."""
    open_registry(url(path)).close()
    path.write_bytes(path.read_bytes()[:kept] + b"\xa5" * 8192)
    with pytest.raises(Unavailable, match="backup") as raised:
        open_registry(url(path))
    assert raised.value.reason == "registry_damaged"


@pytest.mark.parametrize(
    "insert",
    [
        "INSERT INTO job_metadata (job_id, key, value) VALUES ('ftjob-unknown', 'a', 'b')",
        "INSERT INTO job_metadata (job_id, key, value) VALUES (NULL, 'a', 'b')",
    ],
    ids=["foreign-key", "not-null"],
)
def test_a_row_that_may_not_be_is_a_bug_and_no_conflict(path: Path, insert: str) -> None:
    database = Database(url(path))
    with pytest.raises(IntegrityError), database.write() as connection:
        connection.exec_driver_sql(insert)
    database.close()


def add_files(registry: Registry, number: int) -> None:
    for _ in range(number):
        registry.add_file(a_file(filename="x" * 1000))


def test_a_full_disk_refuses_writes_and_goes_on_when_there_is_room(
    small_disk: Callable[[int], Path],
) -> None:
    disk = small_disk(1024)
    registry = open_registry(url(disk / "registry.sqlite3"))
    registry.add_keys([a_key()])
    filler = disk / "filler"
    filler.write_bytes(b"x" * shutil.disk_usage(disk).free)
    with pytest.raises(StorageFull):
        add_files(registry, 100)
    assert len(registry.keys()) == 1
    filler.unlink()
    file_added = a_file()
    registry.add_file(file_added)
    assert registry.file(file_added.id, unit=None) == file_added
    registry.close()
