"""Locks between processes: exclusive, and nobody's when their file was replaced."""

from __future__ import annotations

import os
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from adapters.file_locks import exclusive, open_locked, try_lock, try_open_locked


def test_one_at_a_time_whoever_makes_and_removes_the_file(tmp_path: Path) -> None:
    inside, most = 0, 0
    counting = threading.Lock()

    def work(_: int) -> None:
        nonlocal inside, most
        for _ in range(50):
            with exclusive(tmp_path / "lock"):
                with counting:
                    inside += 1
                    most = max(most, inside)
                with counting:
                    inside -= 1

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(work, range(8)))
    assert most == 1
    assert list(tmp_path.iterdir()) == []


def test_who_only_tries_never_waits(tmp_path: Path) -> None:
    path = tmp_path / "lock"
    held, other = open_locked(path), os.open(path, os.O_RDWR)
    assert try_open_locked(path) is None
    assert not try_lock(other)
    os.close(held)
    assert try_lock(other)
    os.close(other)
