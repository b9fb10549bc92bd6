"""What a gate reads of a published dataset: its reports, and what stands in more than one part."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from adapters.domain.data_gate import APPROVED, LEFT_OUT, OVERLAP, PERSONAL
from adapters.domain.datasets import Part
from training.data.parts import StoredRows
from training.data.stored_dataset import FACTS_FILE
from training.data.tokenise import read_questions

_ALL = 1_000_000


@dataclass(frozen=True, kw_only=True)
class Planted:
    """Canaries that stand in the training part."""

    seed: int = 0
    count: int = 0


def planted_in(folder: Path) -> Planted:
    """None of them where the dataset was made without any. Raises OSError."""
    made_from = json.loads((folder / FACTS_FILE).read_text("utf-8"))["made_from"]
    asked = made_from.get("canaries") or {"seed": 0, "planted": 0}
    return Planted(seed=asked["seed"], count=asked["planted"])


def data_facts(folder: Path) -> Mapping[str, float]:
    """What the data gate compares with its bounds; what no stage reports is not in it.

    The overlap is counted in the published parts themselves, and believes no stage. Raises OSError.
    """
    stages = _stages(folder)
    found = {OVERLAP: float(overlap(folder))}
    for name, stage, number in (
        (PERSONAL, "screen", "left"),
        (APPROVED, "screen", "approved"),
        (LEFT_OUT, "tokenise", "too_long"),
    ):
        told = (stages.get(stage) or {}).get(number)
        if isinstance(told, int | float):
            found[name] = told / max(1, _examples(stages))
    return found


def _examples(stages: Mapping[str, Any]) -> int:
    return int((stages.get("read") or {}).get("examples", 1))


def overlap(folder: Path) -> int:
    """Rows of the validation and test parts whose prompts stand in front of a learnt answer too."""
    measured = [
        *(prompt for row in _rows(folder, Part.VALIDATION) for prompt in row[-1:]),
        *(_digest(each.ids[: each.answer_start]) for each in read_questions(folder, _ALL)),
    ]
    taught = {prompt for row in _rows(folder, Part.TRAIN) for prompt in row}
    return sum(prompt in taught for prompt in measured)


def _rows(folder: Path, part: Part) -> Iterator[Sequence[bytes]]:
    """For each row, a digest of what stands in front of each of its learnt answers."""
    for row in StoredRows(folder, part):
        learn = np.array(row.learn, dtype=np.int8)
        begins = np.flatnonzero(np.diff(learn, prepend=0) == 1)
        yield [_digest(row.ids[: int(at)]) for at in begins]


def _digest(ids: Sequence[int]) -> bytes:
    return hashlib.blake2b(np.array(ids, "<u4").tobytes(), digest_size=16).digest()


def _stages(folder: Path) -> Mapping[str, Any]:
    stages = json.loads((folder / FACTS_FILE).read_text("utf-8")).get("stages")
    return stages if isinstance(stages, dict) else {}
