"""Fixtures of the examples: the demo runs against a service without an engine."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.service.world import World, running


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    """A fresh service."""
    with running(tmp_path / "state") as started:
        yield started
