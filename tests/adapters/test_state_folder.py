"""The state folder."""

from __future__ import annotations

import os
import stat
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from adapters.errors import Conflict
from adapters.registry.open import open_registry
from adapters.state_folder import StateFolder


@pytest.fixture
def folder(tmp_path: Path) -> StateFolder:
    return StateFolder(tmp_path / "deep" / "state").create()


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_the_folder_is_its_owners_alone(folder: StateFolder) -> None:
    assert {mode(path) for path in (folder.root, *folder.root.iterdir())} == {0o700}
    assert folder.create() == folder


def test_a_folder_that_was_open_to_others_is_closed(folder: StateFolder) -> None:
    folder.root.chmod(0o2755)
    folder.create()
    assert mode(folder.root) & 0o777 == 0o700


@pytest.mark.parametrize("name", ["a?b", "a#b", "a%3Fb", "a%b", "a b+c", "ä"])
def test_the_registry_lies_in_the_folder_whatever_that_is_called(tmp_path: Path, name: str) -> None:
    folder = StateFolder(tmp_path / name).create()
    open_registry(folder.database_url).close()
    assert (folder.root / "registry.sqlite3").is_file()
    assert [path.name for path in tmp_path.iterdir()] == [name]


def test_everything_is_below_the_root(folder: StateFolder) -> None:
    paths = (folder.artifacts, folder.keys, folder.logs, folder.job("ftjob-1"))
    assert all(path.is_relative_to(folder.root) for path in paths)
    assert folder.database_url == f"sqlite:///{folder.root}/registry.sqlite3"


def test_the_pepper_is_made_once_however_many_ask(folder: StateFolder) -> None:
    with ThreadPoolExecutor(8) as pool:
        peppers = set(pool.map(lambda _: folder.pepper(), range(8)))
    assert len(peppers) == 1
    assert len(peppers.pop()) == 32
    assert mode(folder.root / "pepper") == 0o600


def test_the_second_of_a_kind_is_told_who_was_first(folder: StateFolder) -> None:
    with folder.lock("serve"):
        with pytest.raises(Conflict, match=str(os.getpid())) as raised, folder.lock("serve"):
            pytest.fail("two hold one lock")
        assert raised.value.reason == "state_in_use"
        with folder.lock("trainer"):
            pass
    with folder.lock("serve"):
        pass


def test_a_killed_process_lets_go_of_its_lock(folder: StateFolder) -> None:
    script = (
        "import sys; from pathlib import Path; from adapters.state_folder import StateFolder\n"
        "lock = StateFolder(Path(sys.argv[1])).lock('serve'); lock.__enter__()\n"
        "print('held', flush=True); sys.stdin.read()"
    )
    command = [sys.executable, "-c", script, str(folder.root)]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "held\n"
        with pytest.raises(Conflict, match=str(process.pid)), folder.lock("serve"):
            pytest.fail("two hold one lock")
        process.kill()
    with folder.lock("serve"):
        pass
