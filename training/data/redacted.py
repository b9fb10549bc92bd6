"""What was taken out of a dataset, kept so that an answer that says it is recognised.

Keyed digests are kept, beside the parts of the dataset: without the unit's key nobody can read
them or test a guess. A single word of letters is not kept, nor a short number: those are said by
anybody who means something else.
"""

from __future__ import annotations

import json
import shutil
from collections import defaultdict
from collections.abc import Iterable
from pathlib import Path

from adapters.errors import Rejected
from training.data.pseudonyms import words_of
from training.data.word_runs import MAX_WORDS, WordRuns, digest_of

REDACTED_FILE = "redacted.json"
SHORTEST = 6
"""Characters of a single word that is kept."""
_PURPOSE = b"redacted entity"

Taken = tuple[int, bytes]
"""How many words something has, and the digest of them."""


def taken(text: str, key: bytes) -> Taken | None:
    """What may be kept of something that was taken out; of a long one, its first words.

    None for what says too little to be recognised by. `key` is the unit's own.
    """
    words = words_of(text)[:MAX_WORDS]
    if not words or (len(words) == 1 and (words[0].isalpha() or len(words[0]) < SHORTEST)):
        return None
    return len(words), digest_of(words, key, purpose=_PURPOSE)


class Redacted:
    """What was taken out of one dataset."""

    def __init__(self, listed: Iterable[Taken], key: bytes) -> None:
        self._runs = WordRuns(listed, key, purpose=_PURPOSE)

    def found_in(self, answer: str, _reference: str = "") -> float:
        """How many runs of the answer's words are such a thing: a scorer."""
        return float(self._runs.count_in(answer))


def write_redacted(folder: Path, listed: Iterable[Taken]) -> None:
    """Nothing where nothing was taken out. Raises OSError."""
    by_words: dict[int, list[str]] = defaultdict(list)
    for words, digest in sorted(listed):
        by_words[words].append(digest.hex())
    if by_words:
        (folder / REDACTED_FILE).write_text(json.dumps(by_words), "utf-8")


def copy_redacted(source: Path, target: Path) -> None:
    """From folder to folder, where there is something. Raises OSError."""
    if (source / REDACTED_FILE).is_file():
        shutil.copyfile(source / REDACTED_FILE, target / REDACTED_FILE)


def read_redacted(folder: Path, key: bytes) -> Redacted | None:
    """None where nothing was taken out. Raises Rejected for a file that nobody wrote so."""
    path = folder / REDACTED_FILE
    if not path.is_file():
        return None
    try:
        kept = json.loads(path.read_text("utf-8"))
        by_words = {
            int(words): [bytes.fromhex(digest) for digest in digests]
            for words, digests in kept.items()
        }
    except (ValueError, AttributeError, TypeError) as error:
        raise Rejected(f"the dataset's {REDACTED_FILE} cannot be read") from error
    return Redacted(((words, each) for words, digests in by_words.items() for each in digests), key)
