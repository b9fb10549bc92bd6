"""Each suite here runs once per implementation of its port."""

from __future__ import annotations

from pathlib import Path

import pytest

from adapters.store import ArtifactStore, LocalStore, MemoryStore


@pytest.fixture(params=["memory", "local"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> ArtifactStore:
    """An empty store."""
    return MemoryStore() if request.param == "memory" else LocalStore(tmp_path / "artifacts")
