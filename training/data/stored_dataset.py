"""A dataset as an artifact: a folder that says what it was made from, by which stages, and holds
its parts.

    dataset.json        what it was made from, each stage's digest and numbers, counts, notes
    README.md           its data card: the same in words
    train.*.bin         rows of tokens that train, as `parts` has them
    validation.*.bin    rows of tokens that choose the checkpoint
    test.jsonl          questions that the gates ask

Pairs have `<part>.rejected.*.bin` beside them, thumbs `<part>.liked.bin`, and a training part whose
rare labels count more `train.weights.bin`.
The same files, adapter and base give the same bytes, and so the same digest.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from adapters.domain.data_policy import Balance
from adapters.domain.datasets import Counts, Part
from adapters.domain.names import Digest
from adapters.hashing import sha256_bytes, sha256_file
from training.data.balance import Spread
from training.data.checked_rows import CheckedRows
from training.data.data_card import data_card, data_section
from training.data.examples import DataKind
from training.data.learning_curve import notes_of_curve
from training.data.near_duplicates import Thinned
from training.data.parts import StoredPairs, StoredRows, StoredThumbs
from training.data.read import notes_of
from training.data.split import Split
from training.data.tokenise import Tokenised

FACTS_FILE, CARD_FILE = "dataset.json", "README.md"
_SCREENED = ("policy", "parts", "left", "approved")
FORMAT = 2
"""Grows with every change of what the files mean: a job rebuilds a dataset of another format."""


@dataclass(frozen=True, kw_only=True)
class StoredDataset:
    """A published dataset. The parts that train are mapped; the test part is not opened."""

    digest: Digest
    made_from: Mapping[str, Any]
    counts: Counts
    notes: Sequence[tuple[str, str]]
    """(level, message) for the data's owner."""
    kind: DataKind
    train: StoredRows
    """Of pairs, their preferred answers; of thumbs, all answers."""
    validation: StoredRows
    folder: Path
    balance: Balance = Balance.OFF
    """What was done about labels that are rarer than others."""

    @property
    def card(self) -> list[str]:
        """What a model card says of it. Raises OSError."""
        facts = json.loads((self.folder / FACTS_FILE).read_text("utf-8"))
        return data_section(facts)

    @property
    def data_card(self) -> str:
        """Its own card, labels and groups included. Raises OSError."""
        return (self.folder / CARD_FILE).read_text("utf-8")

    def pairs(self, part: Part) -> StoredPairs:
        """Both answers of a part's pairs. Raises OSError where it is data of another kind."""
        return StoredPairs(self.folder, part)

    def thumbs(self, part: Part) -> StoredThumbs:
        """A part's answers with their thumbs. Raises OSError where it is data of another kind."""
        return StoredThumbs(self.folder, part)


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
        kind=DataKind(facts["kind"]),
        folder=folder,
        train=StoredRows(folder, Part.TRAIN),
        validation=StoredRows(folder, Part.VALIDATION),
        balance=_balance_of(facts["stages"]["balance"]),
    )


def _balance_of(stage: Mapping[str, Any]) -> Balance:
    """Where there are no labels, there was nothing to do."""
    return Balance(stage["policy"]) if stage["labels"] else Balance.OFF


@dataclass(frozen=True, kw_only=True)
class Built:
    """What every stage made of a dataset, for its facts and its card."""

    made_from: Mapping[str, Any]
    rows: CheckedRows
    thinned: Thinned
    parts: Split
    """As they are shown in training: without what was thinned out, rare labels repeated."""
    spread: Spread
    tokenised: Tokenised


def write_facts(folder: Path, built: Built) -> None:
    """Writes `dataset.json` and the card beside the parts. Raises OSError."""
    facts = _facts(folder, built)
    (folder / FACTS_FILE).write_text(json.dumps(facts, sort_keys=True, indent=1), "utf-8")
    (folder / CARD_FILE).write_text(data_card(facts), "utf-8")


def _facts(folder: Path, built: Built) -> dict[str, Any]:
    rows, parts, tokenised = built.rows, built.parts, built.tokenised
    return {
        "format": FORMAT,
        "kind": rows.kind,
        "made_from": dict(built.made_from),
        "stages": {
            "read": {
                "digest": rows.digest,
                "examples": len(rows.traces),
                "erased": rows.found.get("erased", 0),
            },
            "screen": {key: rows.found[key] for key in _SCREENED if key in rows.found},
            "split": {
                "digest": _digest_of(rows, parts),
                "duplicates": parts.duplicates,
                "overlap": parts.overlap,
                "taught": parts.taught,
                "unused": parts.unused,
            },
            "near_duplicates": {
                "repeated": built.thinned.repeated,
                "contaminating": built.thinned.contaminating,
                "alike": built.thinned.alike,
            },
            "balance": built.spread.as_facts(),
            "tokenise": {"digest": _digest_of_files(folder), **asdict(tokenised)},
        },
        "counts": asdict(built.thinned.parts.counts),
        "notes": [
            *built.thinned.parts.notes,
            *notes_of(rows.found),
            *built.thinned.notes,
            *built.spread.notes,
            *tokenised.notes,
            *notes_of_curve(
                built.thinned.parts.counts.train,
                wanted=bool(rows.found.get("policy", {}).get("learning_curve")),
            ),
        ],
    }


def _digest_of(rows: CheckedRows, parts: Split) -> Digest:
    """Of the row ids of each part, in their order."""
    chosen = (parts.train, parts.validation, parts.test)
    ids = (b"".join(rows.traces[at].row for at in part) for part in chosen)
    return sha256_bytes("".join(map(sha256_bytes, ids)).encode())


def _digest_of_files(folder: Path) -> Digest:
    names = sorted(path.name for path in folder.iterdir())
    return sha256_bytes("".join(sha256_file(folder / name) for name in names).encode())
