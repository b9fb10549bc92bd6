"""Finds entities in answers that were taken out of the data, without knowing them.

A dataset keeps no names: it keeps digests of them under a salt of its own, and how many words the
longest has. What an answer says is digested in the same way, window by window.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from adapters.errors import Rejected
from training.evaluate.scores import normalised

REDACTED_FILE = "redacted.json"
MOST_WORDS = 8
"""Of an entity; longer ones are looked for by their first words."""


@dataclass(frozen=True, kw_only=True)
class Redacted:
    """Digests of what was taken out."""

    salt: str
    digests: frozenset[str]
    words: int

    def found_in(self, answer: str, _reference: str = "") -> float:
        """How many windows of the answer are such an entity: a scorer."""
        said = normalised(answer).split()
        windows = {
            " ".join(said[at : at + size])
            for size in range(1, self.words + 1)
            for at in range(len(said) - size + 1)
        }
        return float(sum(_digest(self.salt, each) in self.digests for each in windows))


def redacted_of(entities: Iterable[str], salt: str) -> Redacted:
    """What may be kept of entities: nothing that can be read."""
    cut = {" ".join(normalised(each).split()[:MOST_WORDS]) for each in entities} - {""}
    return Redacted(
        salt=salt,
        digests=frozenset(_digest(salt, each) for each in cut),
        words=max((len(each.split()) for each in cut), default=1),
    )


def write_redacted(folder: Path, redacted: Redacted) -> None:
    """Beside the parts of a dataset. Raises OSError."""
    kept = {
        "salt": redacted.salt,
        "digests": sorted(redacted.digests),
        "words": redacted.words,
    }
    (folder / REDACTED_FILE).write_text(json.dumps(kept), "utf-8")


def read_redacted(folder: Path) -> Redacted | None:
    """None where nothing was taken out. Raises Rejected for a file that nobody wrote so."""
    path = folder / REDACTED_FILE
    if not path.is_file():
        return None
    try:
        kept = json.loads(path.read_text("utf-8"))
        return Redacted(
            salt=str(kept["salt"]),
            digests=frozenset(map(str, kept["digests"])),
            words=min(int(kept["words"]), MOST_WORDS),
        )
    except (ValueError, KeyError, TypeError) as error:
        raise Rejected(f"the dataset's {REDACTED_FILE} cannot be read") from error


def _digest(salt: str, text: str) -> str:
    return hashlib.blake2b(text.encode(), key=salt.encode()[:64], digest_size=16).hexdigest()
