"""The registry's suites run on SQLite with both journals and on PostgreSQL."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Iterator
from functools import partial
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
def postgres_backend(postgres: PostgresServer) -> PostgresBackend:
    """The database on PostgreSQL that tests take one after another."""
    return PostgresBackend(postgres)


@pytest.fixture(params=BACKENDS)
def empty(request: pytest.FixtureRequest) -> Iterator[Callable[[], Backend]]:
    """Empties a registry's database, already migrated; SQLite's is where no disk makes it wait."""
    if request.param == "postgres":
        found: PostgresBackend = request.getfixturevalue("postgres_backend")
        yield found.fresh
        return
    memory = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None
    with tempfile.TemporaryDirectory(dir=memory) as folder:
        yield partial(SqliteBackend(request.param).fresh, Path(folder))


@pytest.fixture
def backend(empty: Callable[[], Backend]) -> Backend:
    """An empty registry's database."""
    return empty()


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
