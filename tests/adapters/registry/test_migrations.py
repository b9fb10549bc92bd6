"""The registry's tables: what the migrations make, what they keep, and who may run them."""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import pytest
from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.runtime.migration import MigrationContext
from sqlalchemy import Connection, Engine, create_engine, event, inspect, make_url, text

from adapters.domain.names import VersionId
from adapters.domain.principals import SYSTEM
from adapters.domain.routes import RolloutState
from adapters.domain.versions import VersionState
from adapters.errors import Conflict
from adapters.registry import Registry
from adapters.registry.open import open_registry
from adapters.registry.sql.migrate import _alembic
from adapters.registry.sql.schema import metadata
from tests.adapters.registry.values import ALIAS, OWNER, SUPPORT, a_job, published, roll_back
from tests.servers.postgres import PostgresServer


@pytest.fixture(params=["sqlite", "postgres"])
def address(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """Of a database without tables."""
    if request.param == "sqlite":
        yield f"sqlite:///{tmp_path / 'registry.sqlite3'}"
        return
    server: PostgresServer = request.getfixturevalue("postgres")
    fresh = server.new_database()
    yield fresh
    server.drop_database(fresh)


@contextmanager
def engine_of(address: str) -> Iterator[Engine]:
    """Plain connections; on SQLite with transactions that hold DDL, and foreign keys kept."""
    parsed = make_url(address)
    if parsed.get_backend_name() == "postgresql":
        parsed = parsed.set(drivername="postgresql+psycopg")
    engine = create_engine(parsed)
    if parsed.get_backend_name() == "sqlite":
        event.listen(engine, "connect", _plain)
        event.listen(engine, "begin", lambda connection: connection.exec_driver_sql("BEGIN"))
    yield engine
    engine.dispose()


def _plain(connection: sqlite3.Connection, _record: Any) -> None:
    connection.isolation_level = None
    connection.execute("PRAGMA foreign_keys = ON").close()


def test_the_migrations_make_exactly_the_tables_of_the_schema(address: str) -> None:
    open_registry(address).close()
    with engine_of(address) as engine, engine.connect() as connection:
        context = MigrationContext.configure(connection, opts={"compare_type": True})
        assert compare_metadata(context, metadata) == []


def test_the_migrations_also_make_what_autogenerate_does_not_compare(address: str) -> None:
    """Checks, conditions of indexes, names of constraints, AUTOINCREMENT."""
    open_registry(address).close()
    with engine_of(address) as engine, engine.begin() as connection:
        found = shape(connection)
        connection.execute(text("DROP TABLE alembic_version"))
        metadata.drop_all(connection)
        metadata.create_all(connection)
        assert found == shape(connection)


def shape(connection: Connection) -> dict[str, Any]:
    """What the database says of its tables."""
    tables: dict[str, Any] = {}
    inspector = inspect(connection)
    for name in inspector.get_table_names():
        if name != "alembic_version":
            tables[name] = {
                "columns": sorted(map(str, inspector.get_columns(name))),
                "primary key": str(inspector.get_pk_constraint(name)),
                "foreign keys": sorted(map(str, inspector.get_foreign_keys(name))),
                "unique": sorted(map(str, inspector.get_unique_constraints(name))),
                "checks": sorted(map(str, inspector.get_check_constraints(name))),
                "indexes": sorted(map(index_words, inspector.get_indexes(name))),
                "autoincrement": counts_on(connection, name),
            }
    return tables


def index_words(index: Any) -> str:
    """An index with its condition as text."""
    options = {name: str(value) for name, value in index["dialect_options"].items()}
    return str({**index, "dialect_options": options})


def counts_on(connection: Connection, table: str) -> bool:
    """Whether SQLite never gives a number of the table again; PostgreSQL's sequences never do."""
    if connection.dialect.name != "sqlite":
        return True
    query = text("SELECT sql FROM sqlite_master WHERE type = 'table' AND name = :name")
    return "AUTOINCREMENT" in connection.execute(query, {"name": table}).scalar_one()


def test_a_database_of_a_newer_build_is_refused_and_left_alone(address: str) -> None:
    open_registry(address).close()
    with engine_of(address) as engine:
        with engine.begin() as connection:
            connection.execute(text("UPDATE alembic_version SET version_num = '9999'"))
            before = shape(connection)
        with pytest.raises(Conflict) as raised:
            open_registry(address)
        assert raised.value.reason == "schema_newer"
        assert "9999" in raised.value.message
        with engine.begin() as connection:
            assert shape(connection) == before


def test_a_migration_that_breaks_off_leaves_nothing(address: str) -> None:
    with engine_of(address) as engine:
        with engine.begin() as connection:
            connection.execute(text("CREATE TABLE rollouts (in_the_way INTEGER)"))
        with pytest.raises(Exception, match=r"rollouts|tables forbid"):
            open_registry(address)
        with engine.begin() as connection:
            assert inspect(connection).get_table_names() == ["rollouts"]
            connection.execute(text("DROP TABLE rollouts"))
    open_registry(address).close()


def test_many_threads_open_a_new_database_at_once(address: str) -> None:
    start = threading.Barrier(5)

    def open_and_ask(_: int) -> int:
        start.wait()
        with closing(open_registry(address)) as registry:
            return registry.routes.revision()

    with ThreadPoolExecutor(5) as pool:
        assert list(pool.map(open_and_ask, range(5))) == [0] * 5


def test_two_migrate_an_old_database_at_once(address: str) -> None:
    """The second one waits, and finds it done: they share nothing but the database."""
    at_the_first_schema(address)
    with ThreadPoolExecutor(2) as pool:
        assert list(pool.map(revision_of, [address] * 2)) == [7, 7]


def revision_of(address: str) -> int:
    with closing(open_registry(address)) as registry:
        return registry.routes.revision()


# -- a registry from before


def at_the_first_schema(address: str) -> None:
    """A registry of the first build, in its own words: three versions promoted, one rolled back."""
    with engine_of(address) as engine, engine.begin() as connection:
        command.upgrade(_alembic(connection), "0001")
        for statement in _BEFORE:
            connection.exec_driver_sql(statement)


def _version(number: int, state: str) -> str:
    return (
        "INSERT INTO versions (adapter, number, unit, state, digest, base_fingerprint, rank,"
        " size_bytes, created_at, gates, evidence) VALUES ('support',"
        f" {number}, 'support', '{state}', '{'a' * 64}', '{'b' * 64}', 8, 10, 1.5, '[]', '{{}}')"
    )


def _rollout(target: int, generation: int, action: str, state: str = "complete") -> str:
    return (
        "INSERT INTO rollouts (alias, action, target, generation, state, actor, created_at,"
        f" finished_at) VALUES ('support', '{action}', {target}, {generation}, '{state}', 'key_1',"
        f" {generation}.0, {generation}.5)"
    )


_BEFORE = (
    (
        "INSERT INTO keys (id, role, unit, hash, created_at)"
        f" VALUES ('key_1', 'unit', 'support', '{'1' * 64}', 1.5)"
    ),
    (
        "INSERT INTO files (id, unit, filename, purpose, size_bytes, digest, created_at)"
        f" VALUES ('file-1', 'support', 'train.jsonl', 'fine-tune', 10, '{'d' * 64}', 1.5)"
    ),
    (
        "INSERT INTO jobs (id, unit, adapter, model, training_file, status, created_at, created_by,"
        " seed, hyperparameters, result_files, attempts, idempotency_key) VALUES ('ftjob-1',"
        " 'support', 'support', 'base', 'file-1', 'queued', 1.5,"
        " 'key_1', 17, '{}', '[]', 0, 'again')"
    ),
    "INSERT INTO job_metadata (job_id, key, value) VALUES ('ftjob-1', 'team', 'emea')",
    (
        "INSERT INTO job_events (job_id, created_at, level, type, message)"
        " VALUES ('ftjob-1', 1.5, 'info', 'message', 'x')"
    ),
    _version(1, "live"),
    _version(2, "retired"),
    _version(3, "candidate"),
    _rollout(1, 0, "promote"),
    _rollout(2, 1, "promote"),
    _rollout(3, 2, "promote", "failed"),
    _rollout(1, 2, "rollback"),
    (
        "INSERT INTO routes (alias, unit, stable, previous, generation, updated_at)"
        " VALUES ('support', 'support', 1, 2, 3, 2.5)"
    ),
    (
        "INSERT INTO replicas (id, at, revision, loaded, ready, base_fingerprint, limits)"
        f" VALUES ('replica-1', 1.5, 7, '[1]', true, '{'b' * 64}', '{{}}')"
    ),
    "UPDATE revision SET value = 7",
)


@pytest.fixture
def migrated(address: str) -> Iterator[Registry]:
    """The old registry, opened by this build."""
    at_the_first_schema(address)
    with closing(open_registry(address)) as registry:
        yield registry


def test_an_old_registry_keeps_what_it_knows(migrated: Registry) -> None:
    assert migrated.routes.revision() == 7
    (key,) = migrated.keys.active()
    assert (key.id, key.created_at) == ("key_1", 1.5)
    assert (key.hash_version, key.scopes, key.expires_at) == (1, None, None)
    (job,) = migrated.jobs.list(OWNER, metadata={"team": "emea"}, after=None, limit=9).items
    assert (job.id, job.seed) == ("ftjob-1", 17)
    assert len(migrated.jobs.events(job.id, OWNER, after=None, limit=9).items) == 1
    assert migrated.files.get(job.training_file, OWNER).filename == "train.jsonl"
    assert migrated.replicas.list() == []
    page = migrated.versions.list(SYSTEM, adapter=None, after=None, limit=9)
    assert [version.name for version in page.items] == ["support:3", "support:2", "support:1"]
    changes = migrated.routes.changes(-1)
    assert (len(changes.routes), len(changes.versions), len(changes.keys)) == (1, 3, 1)


def test_an_old_routes_history_says_what_was_served_before(migrated: Registry) -> None:
    route = migrated.routes.route(ALIAS, SUPPORT)
    assert (route.stable, route.generation, route.since) == (1, 3, 1)
    history = migrated.rollouts.history(ALIAS, SUPPORT, after=None, limit=9).items
    assert [(r.target, r.replaced, r.flipped_at) for r in history] == [
        (1, 2, 2.5),
        (3, None, None),
        (2, 1, 1.5),
        (1, None, 0.5),
    ]
    assert migrated.versions.by_id(VersionId(2)).rolled_back_at == 2.5
    assert migrated.versions.by_id(VersionId(1)).state is VersionState.LIVE


def test_an_old_rollback_is_not_undone_by_the_next(migrated: Registry) -> None:
    with pytest.raises(Conflict) as raised:
        roll_back(migrated, 3)
    assert raised.value.reason == "nothing_to_roll_back"


def test_numbers_go_on_where_an_old_registry_stopped(migrated: Registry) -> None:
    version = published(migrated)
    assert (version.id, version.number) == (4, 4)
    rollout = migrated.rollouts.promote(
        ALIAS, version.id, OWNER, unit=SUPPORT, expected_generation=3
    )
    assert (rollout.id, rollout.state) == (5, RolloutState.LOADING)
    with pytest.raises(Conflict):
        migrated.rollouts.promote(
            ALIAS, VersionId(3), OWNER, unit=SUPPORT, expected_generation=None
        )


def test_an_old_jobs_idempotency_key_still_finds_it(migrated: Registry) -> None:
    words = a_job(migrated)
    found = migrated.jobs.create(words, OWNER, idempotency_key="again")
    assert found.id == "ftjob-1"
