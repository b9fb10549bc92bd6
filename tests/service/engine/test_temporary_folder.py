"""Where the engine's temporary files and sockets are."""

from __future__ import annotations

import os
import shutil
import socket
import stat
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from uuid import uuid4

import pytest

from adapters.errors import Conflict
from adapters.state_folder import StateFolder
from service.engine.temporary_folder import remove_temporary_folder, temporary_folder


@pytest.fixture
def deep(tmp_path: Path) -> Iterator[StateFolder]:
    """A state folder below which no socket fits."""
    state = StateFolder(tmp_path / ("d" * 120)).create()
    yield state
    remove_temporary_folder(state)


def test_it_stands_in_the_state_folder_where_the_addresses_of_sockets_fit() -> None:
    assert StateFolder(Path("/var/lib/wardrobe")).temporary == Path("/var/lib/wardrobe/tmp")
    fits = Path("/" + "x" * 65)
    assert StateFolder(fits).temporary == fits / "tmp"
    assert StateFolder(fits.with_name("x" * 66)).temporary.parent == Path(tempfile.gettempdir())


@pytest.mark.parametrize("depth", [1, 120])
def test_a_socket_with_a_name_of_vllms_can_be_bound_there(depth: int) -> None:
    with tempfile.TemporaryDirectory(dir="/tmp") as short:
        state = StateFolder(Path(short) / ("d" * depth)).create()
        with temporary_folder(state) as folder:
            with socket.socket(socket.AF_UNIX) as listening:
                listening.bind(str(folder / str(uuid4())))
            assert stat.S_IMODE(folder.stat().st_mode) == 0o700
        assert not folder.exists()


def test_temporary_files_of_this_process_and_its_children_go_there(deep: StateFolder) -> None:
    before = tempfile.gettempdir()
    ask = "import tempfile; print(tempfile.gettempdir(), end='')"
    with temporary_folder(deep) as folder:
        child = subprocess.run([sys.executable, "-c", ask], capture_output=True, text=True)
        assert child.stdout == tempfile.gettempdir() == str(folder)
    assert tempfile.gettempdir() == os.environ["TMPDIR"] == before


def test_two_deep_state_folders_do_not_share_theirs(deep: StateFolder) -> None:
    other = StateFolder(deep.root.with_name("e" * 120))
    assert deep.temporary != other.temporary
    assert deep.temporary == StateFolder(deep.root).temporary


def test_a_new_start_sweeps_what_a_killed_engine_left(deep: StateFolder) -> None:
    deep.temporary.mkdir()
    (deep.temporary / "socket").touch()
    (deep.temporary / "folder").mkdir()
    (deep.temporary / "folder" / "file").touch()
    with temporary_folder(deep) as folder:
        assert list(folder.iterdir()) == []


def test_removing_again_is_fine(deep: StateFolder) -> None:
    remove_temporary_folder(deep)
    remove_temporary_folder(deep)


def test_a_link_that_somebody_planted_is_neither_followed_nor_used(
    tmp_path: Path, deep: StateFolder
) -> None:
    (tmp_path / "precious").mkdir()
    (tmp_path / "precious" / "file").touch()
    deep.temporary.symlink_to(tmp_path / "precious")
    try:
        with pytest.raises(Conflict, match="belongs to somebody else"), temporary_folder(deep):
            pass
    finally:
        deep.temporary.unlink()
    assert (tmp_path / "precious" / "file").exists()


@pytest.mark.skipif(os.getuid() != 0, reason="only root can make a folder somebody else's")
def test_a_folder_of_another_user_is_neither_emptied_nor_used(deep: StateFolder) -> None:
    deep.temporary.mkdir()
    os.chown(deep.temporary, 65534, 65534)
    try:
        with pytest.raises(Conflict, match="belongs to somebody else"), temporary_folder(deep):
            pass
        assert deep.temporary.is_dir()
    finally:
        shutil.rmtree(deep.temporary)
