"""What tests of all parts stand on, and their order: fast ones first, so that what is broken
shows soon.
"""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import structlog
from xdist.scheduler import LoadScopeScheduling

from tests.clock import Clock
from tests.contract.facts import facts  # noqa: F401 - a fixture
from tests.servers.postgres import postgres  # noqa: F401 - a fixture

# a shell's background job has SIGINT ignored, and so would every process that tests interrupt
signal.signal(signal.SIGINT, signal.default_int_handler)

# tests share the cores with each other: a thread that waits must not spin (torch reads it once)
os.environ.setdefault("OMP_WAIT_POLICY", "passive")

# structlog's own choice draws every frame with its variables: a minute for one logged exception
structlog.configure(
    processors=[
        structlog.contextvars.merge_contextvars,
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="%Y-%m-%d %H:%M:%S", utc=False),
        structlog.dev.ConsoleRenderer(
            colors=False, exception_formatter=structlog.dev.plain_traceback
        ),
    ]
)


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Tests keep their order within their kind; those of `make chaos` run when it asks for them.

    Where processes share the work (`-n 2`), what needs the engine comes first: it takes longest.
    """
    if not os.environ.get("WARDROBE_CHAOS"):
        later = [item for item in items if item.get_closest_marker("chaos")]
        config.hook.pytest_deselected(items=later)
        items[:] = [item for item in items if item not in later]
    for item in items:
        if "e2e" in item.path.parts:
            item.add_marker(pytest.mark.engine)
    shared = hasattr(config, "workerinput")
    items.sort(key=lambda item: _turn(item, engine_first=shared))


def _turn(item: pytest.Item, *, engine_first: bool) -> int:
    if item.get_closest_marker("engine"):
        return -1 if engine_first else 2
    return 1 if item.get_closest_marker("slow") else 0


def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """A file stays in one process, and so does all that needs the real engine: there is one.

    Not by `xdist_group`, whose marks say nothing under pytest 9.2.
    """
    scheduler = LoadScopeScheduling(config, log)
    scheduler._split_scope = _shared_by
    return scheduler


def _shared_by(nodeid: str) -> str:
    path = nodeid.partition("::")[0]
    return "e2e" if "e2e" in path.split("/") else path


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Callable[[int], Path]]:
    """Mounts a file system of so many KiB; skips, and says why, where that cannot be done."""
    mounted: list[Path] = []

    def mount(kibibytes: int) -> Path:
        folder = tmp_path / f"disk-{kibibytes}"
        folder.mkdir()
        command = ["mount", "-t", "tmpfs", "-o", f"size={kibibytes}k", "tmpfs", str(folder)]
        try:
            done = subprocess.run(command, capture_output=True, text=True, timeout=10)
        except FileNotFoundError:
            pytest.skip("there is no `mount` here")
        if done.returncode:
            pytest.skip(f"no small tmpfs here: {done.stderr.strip()}")
        mounted.append(folder)
        return folder

    yield mount
    for folder in mounted:
        subprocess.run(["umount", "-l", str(folder)], check=True, timeout=10)
