"""Makes the folder of the engine's temporary files and sockets, fresh at each start.

vLLM leaves its sockets and its rendezvous file where they are, by default in the system's
temporary folder. The service has a folder of its own instead. Whoever holds the state folder's
lock `serve` calls these: nobody else uses the folder then.
"""

from __future__ import annotations

import os
import shutil
import stat
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from adapters.errors import Conflict
from adapters.state_folder import StateFolder


@contextmanager
def temporary_folder(state: StateFolder) -> Iterator[Path]:
    """Where this process and its children put temporary files while the body runs.

    Empty at first: what a killed engine left is swept. Raises Conflict where it is not ours.
    """
    folder = state.temporary
    before = tempfile.gettempdir()
    with suppress(FileExistsError):
        folder.mkdir(mode=0o700)
    if not _is_ours(state, folder):
        raise Conflict(
            f"{folder} belongs to somebody else; remove it, set TMPDIR, or choose a state folder "
            "with a shorter path",
            code="state_in_use",
        )
    _empty(folder)
    os.environ["TMPDIR"] = tempfile.tempdir = str(folder)
    try:
        yield folder
    finally:
        os.environ["TMPDIR"] = tempfile.tempdir = before
        remove_temporary_folder(state)


def remove_temporary_folder(state: StateFolder) -> None:
    """Empties and removes the folder; one that is not ours stays, and so does a mount."""
    folder = state.temporary
    if _is_ours(state, folder):
        _empty(folder)
        with suppress(OSError):
            folder.rmdir()


def _is_ours(state: StateFolder, folder: Path) -> bool:
    """Whether the folder is there and nobody else can have made it.

    Below a deep state folder it lies among everybody's temporary files, under a name that can be
    foreseen.
    """
    try:
        found = folder.lstat()
    except FileNotFoundError:
        return False
    alone = folder.parent == state.root or found.st_uid == os.getuid()
    return stat.S_ISDIR(found.st_mode) and alone


def _empty(folder: Path) -> None:
    for path in folder.iterdir():
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path, ignore_errors=True)
        else:
            path.unlink(missing_ok=True)
