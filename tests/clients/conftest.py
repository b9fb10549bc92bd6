"""Tries other people's clients where their environment has been made, and says so where not."""

from __future__ import annotations

import pytest

from tests.clients.test_clients import PYTHON


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """`make clients` makes it; that it is there then is for that command to see."""
    if PYTHON.exists():
        return
    for item in items:
        if item.get_closest_marker("clients"):
            item.add_marker(pytest.mark.skip("there is no .venv-clients: `make clients` makes it"))
