"""The order of all tests: fast ones first, so that what is broken shows soon."""

from __future__ import annotations

import pytest

_LATER = ("slow", "engine")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Tests keep their order within their kind."""
    items.sort(
        key=lambda item: max(
            (_LATER.index(m) + 1 for m in _LATER if item.get_closest_marker(m)), default=0
        )
    )
