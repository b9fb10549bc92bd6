"""An empty registry on SQLite, migrated once: a migration takes longer than most tests."""

from __future__ import annotations

import functools
import tempfile
from pathlib import Path

from adapters.registry.open import open_registry
from adapters.state_folder import StateFolder


@functools.cache
def empty_database() -> bytes:
    """What the migrations make."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "registry.sqlite3"
        open_registry(f"sqlite:///{path}", journal="rollback").close()
        return path.read_bytes()


def new_state_folder(path: Path) -> StateFolder:
    """A state folder with an empty registry, or the one that is there."""
    folder = StateFolder(path).create()
    database = Path(folder.database_url.removeprefix("sqlite:///"))
    if not database.exists():
        database.write_bytes(empty_database())
    return folder
