"""Which checkpoints survived a crash whole: a seal, written last, names every file's digest.

The trainer writes a checkpoint file by file; a process killed in between leaves one that looks
complete. A folder without a seal that matches is torn, and the run goes on from the one before.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from safetensors import SafetensorError

SEAL = "sealed.json"


def newest_sealed(workdir: Path) -> Path | None:
    """The newest checkpoint that is whole; torn ones are removed."""
    found = sorted(workdir.glob("checkpoint-*"), key=lambda path: int(path.name.split("-")[1]))
    whole = []
    for path in found:
        if _is_whole(path):
            whole.append(path)
        else:
            shutil.rmtree(path)
    return whole[-1] if whole else None


def seal(checkpoint: Path, values: dict[str, Any]) -> None:
    """Put the checkpoint on disk, then the seal with `values` and the digests of its files."""
    sync_folder(checkpoint)
    digests = {path.name: _sha256(path) for path in sorted(checkpoint.iterdir())}
    write_synced(checkpoint / SEAL, values | {"files": digests})


def read_seal(checkpoint: Path) -> dict[str, Any]:
    """What was put into the seal."""
    values: dict[str, Any] = json.loads((checkpoint / SEAL).read_text("utf-8"))
    return values


@contextmanager
def full_disk_told(folder: Path, *, size: int) -> Iterator[None]:
    """A disk without room for `size` more bytes ends the body with OSError (ENOSPC, EDQUOT).

    safetensors and torch have errors of their own for it, which carry no number: the disk is asked.
    """
    try:
        yield
    except (SafetensorError, RuntimeError):
        _reserve(folder / "room.part", size)
        raise


def _reserve(path: Path, size: int) -> None:
    try:
        with path.open("wb") as file:
            os.posix_fallocate(file.fileno(), 0, size)
    finally:
        path.unlink(missing_ok=True)


def sync_folder(folder: Path) -> None:
    """Every file of `folder`, and the folder, onto the disk."""
    for path in (*folder.iterdir(), folder):
        handle = os.open(path, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


def write_synced(path: Path, values: dict[str, Any]) -> None:
    """JSON that is there whole or not at all."""
    staged = path.with_suffix(".part")
    with staged.open("w", encoding="utf-8") as file:
        json.dump(values, file)
        file.flush()
        os.fsync(file.fileno())
    staged.rename(path)


def _is_whole(checkpoint: Path) -> bool:
    try:
        files = json.loads((checkpoint / SEAL).read_text("utf-8"))["files"]
        return all(_sha256(checkpoint / name) == digest for name, digest in files.items())
    except (OSError, ValueError, KeyError):
        return False


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
