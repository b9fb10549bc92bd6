"""The folder of the engine's sockets: private, fresh at each start, gone at a clean end.

vLLM leaves its sockets where they are, by default in the system's temporary folder. Whoever holds
the state folder's lock calls these: nobody else uses the folder then.
"""

from __future__ import annotations

import os
import shutil
import stat
from pathlib import Path

from adapters.errors import Conflict
from adapters.state_folder import StateFolder


def fresh_socket_folder(state: StateFolder) -> Path:
    """An empty folder for its owner alone, without what a killed engine left. Raises Conflict.

    Below a deep state folder it lies among everybody's temporary files under a name that can be
    foreseen: one that is there already and not ours is never used.
    """
    folder = state.sockets
    remove_socket_folder(state)
    try:
        folder.mkdir(mode=0o700)
    except FileExistsError:
        raise Conflict(
            f"{folder} belongs to somebody else; remove it, set TMPDIR, or choose a state folder "
            "with a shorter path",
            code="state_in_use",
        ) from None
    return folder


def remove_socket_folder(state: StateFolder) -> None:
    """Removes the folder where it is ours; a foreign one and a link stay. Raises OSError."""
    folder = state.sockets
    try:
        found = folder.lstat()
    except FileNotFoundError:
        return
    if stat.S_ISDIR(found.st_mode) and found.st_uid == os.getuid():
        shutil.rmtree(folder, ignore_errors=True)
