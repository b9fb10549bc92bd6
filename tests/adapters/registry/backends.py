"""Empty databases, migrated once: a migration takes longer than most tests."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import psycopg

from adapters.registry.open import open_registry
from adapters.registry.sql.schema import metadata
from adapters.registry.sql.sqlite import Journal
from tests.empty_registry import empty_database
from tests.servers.postgres import PostgresServer

BACKENDS = ("sqlite-wal", "sqlite-journal", "postgres")
"""The SQLite linked here may be one whose WAL is not safe between processes that write at one
moment; the tests force it all the same, so that both journals are run wherever they run."""


class Clock:
    """A database's clock that a test moves."""

    def __init__(self) -> None:
        self.now = 1_000_000.0

    def __call__(self) -> float:
        return self.now

    def pass_by(self, seconds: float) -> None:
        self.now += seconds


@dataclass(frozen=True)
class Backend:
    """Where a registry is, and what it must be opened with."""

    name: str
    url: str
    journal: Journal | None = None

    @property
    def is_sqlite(self) -> bool:
        return self.name.startswith("sqlite")

    @property
    def path(self) -> Path:
        """Of SQLite's file."""
        return Path(self.url.removeprefix("sqlite:///"))


class SqliteBackend:
    """SQLite with the journal that the name says."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._journal: Journal = "wal" if name == "sqlite-wal" else "rollback"

    def fresh(self, folder: Path) -> Backend:
        """A copy of an empty database; what was in the folder before must be closed."""
        for left in folder.iterdir():
            left.unlink()
        path = folder / "registry.sqlite3"
        path.write_bytes(empty_database())
        return Backend(self._name, f"sqlite:///{path}", self._journal)


class PostgresBackend:
    """PostgreSQL, one database emptied for each test: making one takes longer than most tests."""

    def __init__(self, server: PostgresServer) -> None:
        self._url = server.new_database()
        open_registry(self._url).close()

    def fresh(self) -> Backend:
        tables = ", ".join(sorted(metadata.tables))
        with psycopg.connect(self._url) as connection:
            connection.execute(f"TRUNCATE {tables} RESTART IDENTITY CASCADE")
            connection.execute("INSERT INTO revision (id, value) VALUES (1, 0)")
            connection.execute("INSERT INTO claims (id, value) VALUES (1, 0)")
            connection.execute(
                "INSERT INTO audit_head (id, seq, hash) VALUES (1, 0, repeat('0', 64))"
            )
        return Backend("postgres", self._url)
