"""The registry's database: migrations, settings, what happens when it cannot be used."""

from __future__ import annotations

import shutil
import sqlite3
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from alembic.autogenerate import compare_metadata
from alembic.runtime.migration import MigrationContext
from sqlalchemy import create_engine

from adapters.errors import Conflict, InvalidRequest, StorageFull, Unavailable
from adapters.registry import Registry, open_registry
from adapters.registry.database import Database, wal_is_safe
from adapters.registry.memory import MemoryRegistry
from adapters.registry.schema import metadata
from tests.contract.values import ALIAS, SUPPORT, a_file, a_job, a_key, published


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

    def keep_writing() -> None:
        while not stop.is_set():
            version = published(registry)
            rollout = registry.begin_rollout(
                ALIAS, version.id, unit=SUPPORT, action="promote", actor="k",
                expected_generation=None, at=1.0,
            )  # fmt: skip
            registry.complete_rollout(rollout.id, at=2.0)

    writer = threading.Thread(target=keep_writing)
    writer.start()
    for _ in range(20):
        snapshot = registry.snapshot()
        for route in snapshot.routes.values():
            assert route.stable in snapshot.versions
            live = {v.id for v in snapshot.versions.values() if v.state == "live"}
            assert live == {route.stable}
    stop.set()
    writer.join()
    registry.close()


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


def add_files(registry: Registry, number: int) -> None:
    for _ in range(number):
        registry.add_file(a_file(filename="x" * 1000))


def test_a_full_disk_refuses_writes_and_goes_on_when_there_is_room(small_disk: Path) -> None:
    registry = open_registry(url(small_disk / "registry.sqlite3"))
    registry.add_keys([a_key()])
    filler = small_disk / "filler"
    filler.write_bytes(b"x" * shutil.disk_usage(small_disk).free)
    with pytest.raises(StorageFull):
        add_files(registry, 100)
    assert len(registry.keys()) == 1
    filler.unlink()
    file_added = a_file()
    registry.add_file(file_added)
    assert registry.file(file_added.id, unit=None) == file_added
    registry.close()
