"""What a running engine keeps in temporary folders, and that nothing stays when it was killed."""

from __future__ import annotations

import tempfile
from pathlib import Path

import pytest

from tests.e2e.stack import Stack, up, wait_for

pytestmark = pytest.mark.timeout(3600)


def test_the_engines_sockets_stand_in_the_state_folder(stack: Stack) -> None:
    assert [path for path in stack.state.temporary.iterdir() if path.is_socket()]
    assert list(Path(stack.environment["TMPDIR"]).iterdir()) == []


def test_what_a_killed_engine_leaves_is_swept_also_below_a_deep_state_folder() -> None:
    # a short root of its own: pytest's folders are too deep for sockets themselves
    with tempfile.TemporaryDirectory(prefix="wr-", dir="/tmp") as name:
        deep = Path(name, "d" * 150)
        with up(Path(name), WARDROBE_STATE=str(deep)) as stack:
            (folder,) = Path(stack.environment["TMPDIR"]).iterdir()
            assert folder.name.startswith("wardrobe-")
            before, shared = set(folder.iterdir()), stack.shared_memory()
            assert [path for path in before if path.is_socket()]
            engine = stack.running("service.engine.vllm_engine")
            assert engine is not None
            engine.kill()
            wait_for(lambda: not stack.ready(), seconds=300, what="the service is gone")
            wait_for(stack.ready, seconds=1200, what="the service is back")
            assert not before & set(folder.iterdir())
            assert [path for path in shared if path.exists()] == []
