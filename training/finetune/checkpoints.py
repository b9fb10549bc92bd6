"""Checkpoints, and which of them survived a crash whole.

A seal, written last, names every file's digest: a process killed while it writes leaves a folder
that looks complete. One without a seal that matches is torn, and the run goes on from the one
before it.
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
from training.finetune.run_state import RunState
from training.finetune.trainee import Trainee

SEAL = "sealed.json"
KEPT = 2
"""Checkpoints that stay: the newest, and one for when it is torn. Each holds the best adapter."""


def save_checkpoint(workdir: Path, trainee: Trainee, state: RunState) -> None:
    """Writes and seals a checkpoint; older ones go. Raises OSError when the disk has no room."""
    folder = workdir / f"checkpoint-{state.step}"
    with full_disk_told(workdir, size=trainee.checkpoint_bytes):
        folder.mkdir()
        trainee.save(folder)
    seal(folder, state.as_json())
    for old in _by_step(workdir)[:-KEPT]:
        shutil.rmtree(old)


def newest_sealed(workdir: Path) -> Path | None:
    """The newest checkpoint that is whole; torn ones are removed."""
    whole = []
    for path in _by_step(workdir):
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
    del values["files"]
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


def _by_step(workdir: Path) -> list[Path]:
    """All checkpoints, oldest first."""
    return sorted(workdir.glob("checkpoint-*"), key=lambda path: int(path.name.split("-")[1]))


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
