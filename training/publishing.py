"""From what fine-tuning left to what may be published: a clean directory that admission lets in."""

from __future__ import annotations

import errno
import shutil
from dataclasses import dataclass
from pathlib import Path

from adapters.admission.base_model import BaseShapes
from adapters.admission.checks import CONFIG_FILE, WEIGHTS_FILE, admit, canonicalise

CARD_FILE = "README.md"
_NO_LINKS = {errno.EPERM, errno.EXDEV, errno.EMLINK, errno.ENOTSUP, errno.EOPNOTSUPP}


@dataclass(frozen=True, kw_only=True)
class Publishable:
    """An admitted directory and what the registry keeps of it."""

    directory: Path
    rank: int
    size_bytes: int


def prepare(
    tuned: Path, directory: Path, *, card: str, base: BaseShapes, max_rank: int
) -> Publishable:
    """Lays config, weights and card into a fresh `directory`. Raises Rejected, OSError.

    The same adapter and card give the same bytes, and so the same digest.
    """
    shutil.rmtree(directory, ignore_errors=True)
    directory.mkdir(parents=True)
    shutil.copyfile(tuned / CONFIG_FILE, directory / CONFIG_FILE)
    _link_or_copy(tuned / WEIGHTS_FILE, directory / WEIGHTS_FILE)
    (directory / CARD_FILE).write_text(card, "utf-8")
    admitted = admit(directory, base=base, max_rank=max_rank)
    canonicalise(directory, admitted)
    size = sum(file.stat().st_size for file in directory.iterdir())
    return Publishable(directory=directory, rank=admitted.rank, size_bytes=size)


def _link_or_copy(source: Path, target: Path) -> None:
    """A link costs no room; some file systems have none."""
    try:
        target.hardlink_to(source)
    except OSError as error:
        if error.errno not in _NO_LINKS:
            raise
        shutil.copyfile(source, target)
