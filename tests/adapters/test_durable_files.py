"""Writes that survive a power cut, and what others see of them meanwhile."""

from __future__ import annotations

import stat
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from adapters.durable_files import write_new, write_private
from tests.adapters.tracing import synced


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_a_new_file_replaces_nothing(tmp_path: Path) -> None:
    path = tmp_path / "file"
    write_new(path, [b"o", b"ne"], read_only=True)
    assert (path.read_bytes(), mode(path)) == (b"one", 0o444)
    with pytest.raises(FileExistsError):
        write_new(path, [b"two"])
    assert path.read_bytes() == b"one"


def test_a_private_file_is_written_whole_and_closed_to_others(tmp_path: Path) -> None:
    path = tmp_path / "keys.json"
    write_private(path, b"one")
    write_private(path, b"two", overwrite=False)
    assert (path.read_bytes(), mode(path)) == (b"one", 0o600)
    write_private(path, b"three")
    assert (path.read_bytes(), mode(path)) == (b"three", 0o600)
    assert list(tmp_path.iterdir()) == [path]


def test_a_write_that_fails_leaves_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "keys.json"
    path.mkdir()
    with pytest.raises(OSError, match="directory"):
        write_private(path, b"x")
    assert list(tmp_path.iterdir()) == [path]


def test_what_killed_writers_left_goes_with_the_next_write_of_that_name(tmp_path: Path) -> None:
    for name in (".keys.json.0123456789ab", ".keys.json.kept", ".pepper.0123456789ab"):
        (tmp_path / name).write_text("secret")
    write_private(tmp_path / "keys.json", b"x")
    assert {path.name for path in tmp_path.iterdir()} == {
        "keys.json",
        ".keys.json.kept",
        ".pepper.0123456789ab",
    }


@pytest.mark.parametrize("overwrite", [True, False])
def test_many_writers_of_one_name_do_not_disturb_each_other(
    tmp_path: Path, overwrite: bool
) -> None:
    path = tmp_path / "keys.json"

    def write(number: int) -> None:
        write_private(path, bytes([number]) * 1000, overwrite=overwrite)

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(write, range(64)))
    assert len(set(path.read_bytes())) == 1
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("overwrite", [True, False])
def test_a_private_file_survives_a_power_cut(tmp_path: Path, overwrite: bool) -> None:
    state = tmp_path / "state"
    script = (
        "import sys; from pathlib import Path; from adapters.durable_files import write_private\n"
        f"write_private(Path(sys.argv[1]) / 'keys.json', b'x', overwrite={overwrite})"
    )
    state.mkdir()
    content, folder = synced(tmp_path / "log", script, state)
    assert content.startswith(f"{state}/.keys.json.")
    assert folder == str(state)
