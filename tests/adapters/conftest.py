"""Each suite here runs once per implementation of its port."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from adapters.registry import Registry, open_registry


@pytest.fixture(params=["memory", "sqlite"])
def registry(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Registry]:
    """An empty registry."""
    url = "memory:" if request.param == "memory" else f"sqlite:///{tmp_path / 'registry.sqlite3'}"
    opened = open_registry(url)
    yield opened
    opened.close()
