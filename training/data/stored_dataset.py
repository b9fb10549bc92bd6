"""A dataset as an artifact: a folder that says what it was made from, by which stages, and holds
its parts.

    dataset.json        what it was made from, each stage's digest and numbers, counts, notes
    train.*.bin         rows of tokens that train, as `parts` has them
    validation.*.bin    rows of tokens that choose the checkpoint
    test.jsonl          questions that the gates ask

The same files, adapter and base give the same bytes, and so the same digest.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from adapters.domain.datasets import Counts, Part
from adapters.domain.names import Digest
from adapters.hashing import sha256_bytes, sha256_file
from training.data.checked_rows import CheckedRows
from training.data.parts import StoredRows
from training.data.split import Split
from training.data.tokenise import Tokenised

FACTS_FILE = "dataset.json"
FORMAT = 1
"""Grows with every change of what the files mean: a job rebuilds a dataset of another format."""


@dataclass(frozen=True, kw_only=True)
class StoredDataset:
    """A published dataset. The parts that train are mapped; the test part is not opened."""

    digest: Digest
    made_from: Mapping[str, Any]
    counts: Counts
    notes: Sequence[tuple[str, str]]
    """(level, message) for the data's owner."""
    train: StoredRows
    validation: StoredRows


def open_dataset(folder: Path, digest: Digest) -> StoredDataset | None:
    """None where another build has written it in another format. Raises OSError."""
    facts = json.loads((folder / FACTS_FILE).read_text("utf-8"))
    if facts.get("format") != FORMAT:
        return None
    return StoredDataset(
        digest=digest,
        made_from=facts["made_from"],
        counts=Counts(**facts["counts"]),
        notes=[(level, said) for level, said in facts["notes"]],
        train=StoredRows(folder, Part.TRAIN),
        validation=StoredRows(folder, Part.VALIDATION),
    )


def write_facts(
    folder: Path,
    *,
    made_from: Mapping[str, Any],
    rows: CheckedRows,
    parts: Split,
    tokenised: Tokenised,
) -> None:
    """Writes `dataset.json` beside the parts. Raises OSError."""
    facts = {
        "format": FORMAT,
        "made_from": dict(made_from),
        "stages": {
            "read": {"digest": rows.digest, "examples": len(rows.traces)},
            "split": {
                "digest": _digest_of(rows, parts),
                "duplicates": parts.duplicates,
                "overlap": parts.overlap,
                "taught": parts.taught,
                "unused": parts.unused,
            },
            "tokenise": {"digest": _digest_of_files(folder), **asdict(tokenised)},
        },
        "counts": asdict(parts.counts),
        "notes": parts.notes,
    }
    (folder / FACTS_FILE).write_text(json.dumps(facts, sort_keys=True, indent=1), "utf-8")


def _digest_of(rows: CheckedRows, parts: Split) -> Digest:
    """Of the row ids of each part, in their order."""
    chosen = (parts.train, parts.validation, parts.test)
    ids = (b"".join(rows.traces[at].row for at in part) for part in chosen)
    return sha256_bytes("".join(map(sha256_bytes, ids)).encode())


def _digest_of_files(folder: Path) -> Digest:
    names = sorted(path.name for path in folder.iterdir())
    return sha256_bytes("".join(sha256_file(folder / name) for name in names).encode())
