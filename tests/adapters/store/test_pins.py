"""Pins: who uses an artifact, counted across processes."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from adapters.domain.names import Digest
from adapters.store.pins import Pins

DIGEST = Digest("a" * 64)


def test_pinned_is_not_unused_until_the_last_release_of_the_last_holder(tmp_path: Path) -> None:
    here, there = Pins(tmp_path), Pins(tmp_path)
    here.pin(DIGEST)
    here.pin(DIGEST)
    there.pin(DIGEST)
    for holder in (here, here, there):
        for asking in (here, there):
            with asking.unused(DIGEST) as unused:
                assert not unused
        holder.release(DIGEST)
    with here.unused(DIGEST) as unused:
        assert unused
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(ValueError, match="more often"):
        here.release(DIGEST)


def test_who_pins_waits_while_it_is_being_evicted(tmp_path: Path) -> None:
    pins, evicted = Pins(tmp_path), threading.Event()

    def pin() -> bool:
        pins.pin(DIGEST)
        return evicted.is_set()

    with ThreadPoolExecutor(1) as pool:
        with pins.unused(DIGEST):
            pinning = pool.submit(pin)
            assert not pinning.done()
            evicted.set()
        assert pinning.result(30.0)
    with pins.unused(DIGEST) as unused:
        assert not unused
