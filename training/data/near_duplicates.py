"""Near-duplicates: examples that ask almost the same, found by MinHash (datasketch).

Of those that also answer the same, one is enough to train on. Those that ask almost what measures
the adapter are not trained on: its score would be a memory. What measures is left as it is, because
an adapter's versions are compared on the same rows.
"""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from typing import Any

from training.data.checked_rows import CheckedRows
from training.data.examples import Example
from training.data.jsonl import refuse
from training.data.pseudonyms import words_of
from training.data.split import Split
from training.data.trace import asking, normalised

SHINGLE = 3
"""Words that stand together."""
PERMUTATIONS = 64
"""Likeness is estimated to about 0.06 (one standard deviation at 0.5, less near 1)."""
TEMPLATE_SHARE = 0.5
"""Where more of the training examples would go, they share a form rather than repeat: all stay."""


@dataclass(frozen=True, kw_only=True)
class Thinned:
    """The parts without near-duplicates, and how many went."""

    parts: Split
    repeated: int = 0
    """Training examples that nearly repeat another one, with the same answer."""
    contaminating: int = 0
    """Training examples that ask nearly what measures the adapter."""
    alike: bool = False
    """So many are alike that none was left out."""

    @property
    def notes(self) -> list[tuple[str, str]]:
        """(level, message) of what the data's owner should know."""
        notes = []
        if self.alike:
            said = "Most examples are almost alike, as filled-in forms are; near-duplicates stay in"
            notes.append(("warn", f"{said}, and the scores may flatter"))
        if self.repeated:
            notes.append(("info", f"Dropped {self.repeated} near-duplicates"))
        if self.contaminating:
            dropped = f"Dropped {self.contaminating} training examples that ask almost what"
            notes.append(("warn", f"{dropped} measures the adapter"))
        return notes


def thin_out(rows: CheckedRows, parts: Split, *, likeness: float, min_examples: int) -> Thinned:
    """Takes near-duplicates out of the training part; with a likeness of 1 nothing is looked for.

    Raises InvalidFile where too little is left to train on, OSError.
    """
    if likeness >= 1.0:
        return Thinned(parts=parts)
    measuring = {*parts.validation, *parts.test}
    repeated: set[int] = set()
    contaminating: set[int] = set()
    for group in near_groups(
        _asked(rows, (*parts.test, *parts.validation, *parts.train)), likeness
    ):
        if any(at in measuring for at, _ in group):
            contaminating |= {at for at, _ in group if at not in measuring}
        else:
            repeated |= set(_repeating(group))
    gone = repeated | contaminating
    if len(gone) > TEMPLATE_SHARE * len(parts.train):
        return Thinned(parts=parts, alike=True)
    train = tuple(at for at in parts.train if at not in gone)
    if gone and len(train) < min_examples:
        raise refuse(
            "training_file",
            f"only {len(train)} examples neither repeat each other nor ask almost what measures "
            f"the adapter; at least {min_examples} are needed",
        )
    return Thinned(
        parts=replace(parts, train=train),
        repeated=len(repeated),
        contaminating=len(contaminating),
    )


def near_groups(
    texts: Iterable[tuple[int, str, bytes]], likeness: float
) -> Iterator[list[tuple[int, bytes]]]:
    """(place, text, answer) → groups of more than one (place, answer) whose texts are alike.

    Each text is compared with the first of every group, in their order.
    """
    from datasketch import MinHash, MinHashLSH

    index = MinHashLSH(threshold=likeness, num_perm=PERMUTATIONS)
    empty = MinHash(num_perm=PERMUTATIONS, hashfunc=_hash)
    heads: dict[int, Any] = {}
    groups: dict[int, list[tuple[int, bytes]]] = defaultdict(list)
    for place, text, answer in texts:
        signature = empty.copy()  # drawing permutations is what is slow
        signature.update_batch(_shingles(text))
        alike = [at for at in index.query(signature) if signature.jaccard(heads[at]) >= likeness]
        if alike:
            groups[min(alike)].append((place, answer))
            continue
        index.insert(place, signature, check_duplication=False)
        heads[place] = signature
        groups[place].append((place, answer))
    return (group for group in groups.values() if len(group) > 1)


def _asked(rows: CheckedRows, order: Iterable[int]) -> Iterator[tuple[int, str, bytes]]:
    """What each example asks, and a digest of its answer."""
    listed = list(order)
    for at, (_, example) in zip(listed, rows.examples(listed), strict=True):
        yield at, " ".join(asking(example)), _digest_of_answer(example)


def _digest_of_answer(example: Example) -> bytes:
    answers = [example.answer, *([example.rejected.said] if example.rejected else [])]
    answers.append(str(example.liked))
    said = "\0".join(map(normalised, answers)).encode("utf-8", "surrogatepass")
    return hashlib.blake2b(said, digest_size=8).digest()


def _repeating(group: Iterable[tuple[int, bytes]]) -> Iterator[int]:
    """All but the first with each answer."""
    seen: set[bytes] = set()
    for at, answer in group:
        if answer in seen:
            yield at
        seen.add(answer)


def _shingles(text: str) -> list[bytes]:
    words = words_of(text)
    last = max(1, len(words) - SHINGLE + 1)
    return [" ".join(words[at : at + SHINGLE]).encode() for at in range(last)]


def _hash(shingle: bytes) -> int:
    return int.from_bytes(hashlib.blake2b(shingle, digest_size=4).digest(), "little")
