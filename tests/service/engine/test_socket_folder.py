"""Where the engine's sockets are."""

from __future__ import annotations

import os
import shutil
import socket
import stat
import tempfile
from collections.abc import Iterator
from pathlib import Path
from uuid import uuid4

import pytest

from adapters.errors import Conflict
from adapters.state_folder import StateFolder
from service.engine.socket_folder import fresh_socket_folder, remove_socket_folder


@pytest.fixture
def deep(tmp_path: Path) -> Iterator[StateFolder]:
    """A state folder below which no socket fits."""
    state = StateFolder(tmp_path / ("d" * 120)).create()
    yield state
    remove_socket_folder(state)


def test_the_sockets_stand_in_the_state_folder_where_their_addresses_fit() -> None:
    assert StateFolder(Path("/var/lib/wardrobe")).sockets == Path("/var/lib/wardrobe/run")
    fits = Path("/" + "x" * 65)
    assert StateFolder(fits).sockets == fits / "run"
    assert StateFolder(fits.with_name("x" * 66)).sockets.parent == Path(tempfile.gettempdir())


@pytest.mark.parametrize("depth", [1, 120])
def test_a_socket_with_a_name_of_vllms_can_be_bound_there(depth: int) -> None:
    with tempfile.TemporaryDirectory(dir="/tmp") as short:
        state = StateFolder(Path(short) / ("d" * depth)).create()
        folder = fresh_socket_folder(state)
        with socket.socket(socket.AF_UNIX) as listening:
            listening.bind(str(folder / str(uuid4())))
        assert stat.S_IMODE(folder.stat().st_mode) == 0o700
        remove_socket_folder(state)
        assert not folder.exists()


def test_two_deep_state_folders_do_not_share_theirs(deep: StateFolder) -> None:
    other = StateFolder(deep.root.with_name("e" * 120))
    assert deep.sockets != other.sockets
    assert deep.sockets == StateFolder(deep.root).sockets


def test_a_new_start_sweeps_what_a_killed_engine_left(deep: StateFolder) -> None:
    (fresh_socket_folder(deep) / "left").touch()
    assert list(fresh_socket_folder(deep).iterdir()) == []


def test_removing_again_is_fine(deep: StateFolder) -> None:
    remove_socket_folder(deep)
    remove_socket_folder(deep)


def test_a_link_that_somebody_planted_is_neither_followed_nor_used(
    tmp_path: Path, deep: StateFolder
) -> None:
    (tmp_path / "precious").mkdir()
    (tmp_path / "precious" / "file").touch()
    deep.sockets.symlink_to(tmp_path / "precious")
    try:
        with pytest.raises(Conflict, match="belongs to somebody else"):
            fresh_socket_folder(deep)
    finally:
        deep.sockets.unlink()
    assert (tmp_path / "precious" / "file").exists()


@pytest.mark.skipif(os.getuid() != 0, reason="only root can make a folder somebody else's")
def test_a_folder_of_another_user_is_neither_emptied_nor_used(deep: StateFolder) -> None:
    deep.sockets.mkdir()
    os.chown(deep.sockets, 65534, 65534)
    try:
        with pytest.raises(Conflict, match="belongs to somebody else"):
            fresh_socket_folder(deep)
        assert deep.sockets.is_dir()
    finally:
        shutil.rmtree(deep.sockets)
