"""Makes of an adapter that another tool has trained a directory as a trained one is published."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from adapters.admission.archive import unpack
from adapters.admission.base_model import BaseShapes
from adapters.admission.checks import (
    CONFIG_FILE,
    WEIGHTS_FILE,
    Admitted,
    Limits,
    admit,
    canonicalise,
)
from adapters.admission.foreign_config import translate
from adapters.admission.safetensors_file import read_header

CARD_FILE = "README.md"


@dataclass(frozen=True, kw_only=True)
class Imported:
    """An admitted directory, and what was found on the way."""

    admitted: Admitted
    size_bytes: int
    dropped: tuple[str, ...]
    """Harmless keys of its configuration that were left out."""
    left: int
    """Files of the archive that were left alone."""
    brought_card: bool


def prepare_import(
    archive: BinaryIO,
    directory: Path,
    *,
    base: BaseShapes,
    max_rank: int,
    card: str,
    max_bytes: int = Limits.weights,
) -> Imported:
    """Fills the empty `directory` from an archive; `card` is for one that brings none.

    `max_bytes` bounds the weights as they are unpacked. Raises Rejected with the reason, OSError.
    """
    limits = Limits(weights=min(max_bytes, Limits.weights))
    wanted = {
        CONFIG_FILE: limits.config,
        WEIGHTS_FILE: limits.weights,
        CARD_FILE: limits.text,
    }
    unpacked = unpack(archive, directory, config=CONFIG_FILE, needed=WEIGHTS_FILE, wanted=wanted)
    header = read_header(directory / WEIGHTS_FILE, max_header_bytes=limits.header)
    config = directory / CONFIG_FILE
    translated = translate(config.read_bytes(), header, base)
    config.write_bytes(translated.content)
    brought = CARD_FILE in unpacked.names and _is_text(directory / CARD_FILE)
    if not brought:
        (directory / CARD_FILE).write_text(card, "utf-8")
    admitted = admit(directory, base=base, max_rank=max_rank, limits=limits)
    canonicalise(directory, admitted)
    return Imported(
        admitted=admitted,
        size_bytes=sum(file.stat().st_size for file in directory.iterdir()),
        dropped=translated.dropped,
        left=unpacked.others,
        brought_card=brought,
    )


def _is_text(path: Path) -> bool:
    try:
        path.read_text("utf-8")
    except UnicodeDecodeError:
        return False
    return True
