"""Makes a base model once per machine, and hands out its directory ever after.

The cache lies outside the checkout, one folder per digest of what makes the model. A folder is
published by one rename after everything in it is on disk, and carries a manifest of digests; two
processes that want it at once meet at a lock file, and a folder that does not match its manifest is
made again.
"""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

from adapters import file_locks
from adapters.durable_files import sync
from adapters.hashing import sha256_file
from adapters.settings import TrainPrecision
from training.base import smollm2
from training.base.recipe import BaseRecipe, digest

MANIFEST = "manifest.json"

Say = Callable[[str], None]
Build = Callable[[BaseRecipe, Path, Say], None]
Fetch = Callable[[Path, Say], None]


def ensure_base(
    cache: Path,
    *,
    recipe: BaseRecipe | None = None,
    say: Say = lambda _: None,
    force: bool = False,
    precision: TrainPrecision = "auto",
    build: Build | None = None,
) -> Path:
    """The directory of the base model, built first where it is missing, torn or `force`d.

    `precision` is for a base that has to be built; its folder is the same. Raises OSError; nothing
    that could be taken for a base is left behind then.
    """
    recipe, made = recipe or BaseRecipe(), build or partial(_pretrain, precision)
    return _kept(
        cache, digest(recipe), lambda folder, say: made(recipe, folder, say), say=say, force=force
    )


def ensure_smollm2(
    cache: Path, *, say: Say = lambda _: None, force: bool = False, fetch: Fetch | None = None
) -> Path:
    """The directory of SmolLM2, fetched first where it is missing, torn or `force`d.

    Raises NotAvailableError, OSError; nothing that could be taken for a base is left behind then.
    """
    return _kept(cache, smollm2.digest(), fetch or smollm2.build, say=say, force=force)


def _kept(cache: Path, made_from: str, make: Fetch, *, say: Say, force: bool) -> Path:
    target = cache / "base" / made_from[:16]
    if not force and is_whole(target):
        return target
    target.parent.mkdir(parents=True, exist_ok=True)
    with _alone(target.with_suffix(".lock"), say):
        if force or not is_whole(target):
            _publish(target, make, say)
    return target


def is_whole(directory: Path) -> bool:
    """Whether every file is there with the content that its manifest names."""
    try:
        listed = json.loads((directory / MANIFEST).read_text("utf-8"))
        return bool(listed) and all(
            sha256_file(directory / name) == value for name, value in listed.items()
        )
    except (OSError, ValueError):
        return False


def _publish(target: Path, make: Fetch, say: Say) -> None:
    for left in target.parent.glob(f".{target.name}-*"):  # of builds that were killed
        shutil.rmtree(left, ignore_errors=True)
    staging = Path(tempfile.mkdtemp(prefix=f".{target.name}-", dir=target.parent))
    try:
        make(staging, say)
        files = sorted(path for path in staging.iterdir() if path.is_file())
        manifest = {path.name: sha256_file(path) for path in files}
        (staging / MANIFEST).write_text(json.dumps(manifest, indent=2) + "\n", "utf-8")
        for path in (*files, staging / MANIFEST, staging):
            sync(path)
        staging.chmod(0o755)  # mkdtemp's 0700 would hide the model from other users of the machine
        if target.exists():
            target.rename(staging.with_name(f"{staging.name}-old"))
        staging.rename(target)
        sync(target.parent)
    finally:
        for left in (staging, staging.with_name(f"{staging.name}-old")):
            shutil.rmtree(left, ignore_errors=True)


@contextmanager
def _alone(lock: Path, say: Say) -> Iterator[None]:
    with lock.open("w") as handle:
        if not file_locks.try_lock(handle.fileno()):
            say("another process is making the base model; waiting for it")
            file_locks.lock(handle.fileno())
        yield


def _pretrain(wanted: TrainPrecision, recipe: BaseRecipe, directory: Path, say: Say) -> None:
    # Waiting threads sleep, not spin, so that whatever else runs beside is no disaster for both.
    os.environ.setdefault("OMP_WAIT_POLICY", "passive")
    # both import torch: only where there is work for it
    from training.base.precision import choose
    from training.base.pretrain import pretrain

    pretrain(recipe, directory, say, precision=choose(wanted))
