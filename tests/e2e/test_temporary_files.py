"""What a running engine keeps in temporary folders, and that a killed one leaves it to nobody."""

from __future__ import annotations

import tempfile
from contextlib import suppress
from pathlib import Path

import psutil

from tests.e2e.stack import Stack, up, wait_for


def test_the_engines_sockets_stand_in_the_state_folder(stack: Stack) -> None:
    held = list(stack.state.temporary.iterdir())
    assert [path for path in held if path.is_socket()]
    assert list(Path(stack.environment["TMPDIR"]).iterdir()) == []


def test_below_a_deep_state_folder_what_a_killed_engine_leaves_is_swept_at_the_next_start() -> None:
    # a short root of its own: pytest's folders are too deep for sockets themselves
    with tempfile.TemporaryDirectory(prefix="wr-", dir="/tmp") as name:
        folder = Path(name)
        settings = {"WARDROBE_STATE": str(folder / ("d" * 150))}
        with up(folder, **settings) as first:
            temporary = first.state.temporary
            assert temporary.parent == folder / "temporary"
            assert [path for path in temporary.iterdir() if path.is_socket()]
            family = psutil.Process(first.process.pid).children(recursive=True)
            killed = {path.name for path in temporary.iterdir()}
            for each in family:
                with suppress(psutil.NoSuchProcess):
                    each.kill()
            wait_for(lambda: not first.ready(), seconds=30, what="the service is gone")
            wait_for(first.ready, seconds=240, what="the service is back")
            assert not killed & {path.name for path in temporary.iterdir()}
