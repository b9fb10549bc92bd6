"""Which checkpoints survived a crash whole: a seal, written last, names every file's digest.

The trainer writes a checkpoint file by file; a process killed in between leaves one that looks
complete. A folder without a seal that matches is torn, and the run goes on from the one before.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from safetensors import SafetensorError

from adapters.durable_files import sync_folder, write_private
from adapters.hashing import sha256_file

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
    digests = {path.name: sha256_file(path) for path in sorted(checkpoint.iterdir())}
    write_private(checkpoint / SEAL, json.dumps(values | {"files": digests}).encode())


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


def _is_whole(checkpoint: Path) -> bool:
    try:
        files = json.loads((checkpoint / SEAL).read_text("utf-8"))["files"]
        return all(sha256_file(checkpoint / name) == digest for name, digest in files.items())
    except (OSError, ValueError, KeyError):
        return False
