"""The order of all tests: fast ones first, so that what is broken shows soon."""

from __future__ import annotations

import signal

import pytest

_LATER = ("slow", "engine")

# a shell's background job has SIGINT ignored, and so would every process that tests interrupt
signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Tests keep their order within their kind."""
    items.sort(
        key=lambda item: max(
            (_LATER.index(m) + 1 for m in _LATER if item.get_closest_marker(m)), default=0
        )
    )
