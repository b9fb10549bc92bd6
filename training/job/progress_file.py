"""How far a running job is, in a file of its scratch: what the trainer's metrics are made of.

No database and no event stands between a step and what is scraped; the file goes with the scratch.
"""

from __future__ import annotations

import json
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path

from training.finetune.port import Measures, measures_from_json

NAME = "progress.json"


def write_progress(scratch: Path, measures: Measures) -> None:
    """Replaces the file, whole or not at all. Raises OSError."""
    staged = scratch / f"{NAME}.new"
    staged.write_text(json.dumps(asdict(measures)), "utf-8")
    staged.replace(scratch / NAME)


def forget_progress(scratch: Path) -> None:
    """Nothing trains any more: what comes behind takes no steps."""
    with suppress(OSError):
        (scratch / NAME).unlink(missing_ok=True)


def read_progress(scratch: Path) -> Measures | None:
    """None where there is none yet, or another build has written it."""
    try:
        return measures_from_json(json.loads((scratch / NAME).read_text("utf-8")))
    except (OSError, ValueError, TypeError):
        return None
