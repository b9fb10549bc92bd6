"""The registry's suites run on SQLite with both journals and on PostgreSQL."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from adapters.registry import Registry
from adapters.registry.open import open_registry
from tests.adapters.registry.backends import (
    BACKENDS,
    Backend,
    Clock,
    PostgresBackend,
    SqliteBackend,
)
from tests.servers.postgres import PostgresServer


@pytest.fixture(scope="session")
def _postgres_backend(request: pytest.FixtureRequest) -> PostgresBackend:
    server: PostgresServer = request.getfixturevalue("postgres")
    return PostgresBackend(server)


@pytest.fixture(params=BACKENDS)
def backend(request: pytest.FixtureRequest) -> Iterator[Backend]:
    """An empty registry's database, already migrated; SQLite's where no disk makes it wait."""
    memory = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None
    if request.param == "postgres":
        found: PostgresBackend = request.getfixturevalue("_postgres_backend")
        yield found.fresh()
    else:
        with tempfile.TemporaryDirectory(dir=memory) as folder:
            yield SqliteBackend(request.param).fresh(Path(folder) / "registry.sqlite3")


@pytest.fixture
def clock() -> Clock:
    """The time of `registry`; it stands still unless a test moves it."""
    return Clock()


@pytest.fixture
def registry(backend: Backend, clock: Clock) -> Iterator[Registry]:
    """An empty registry whose time is `clock`."""
    opened = open_registry(backend.url, journal=backend.journal, now=clock)
    yield opened
    opened.close()
