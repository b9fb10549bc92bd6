"""The model card that is published with an adapter: where it comes from, in words people read.

Scores come later, when the service has answered with it; they are kept beside the version in the
registry. No timestamps: publishing the same adapter twice must give the same bytes.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from adapters.domain.names import Digest, JobId


@dataclass(frozen=True, kw_only=True)
class Card:
    """What a card tells."""

    job_id: JobId
    unit: str
    adapter: str
    base_name: str
    base_fingerprint: Digest
    evidence: Mapping[str, Any]
    """`data`, `recipe` and `training`, as the version's evidence keeps them."""

    def text(self) -> str:
        """The README.md of the adapter's directory."""
        return "\n".join(
            [
                f"# LoRA adapter `{self.adapter}`",
                "",
                f"Made by Wardrobe for the unit `{self.unit}` in job `{self.job_id}`.",
                f"It works on the base model `{self.base_name}` only, with the fingerprint",
                f"`{self.base_fingerprint}`.",
                *_section("Data", self.evidence["data"]),
                *_section("Recipe", self.evidence["recipe"]),
                *_section("Training", self.evidence["training"]),
                "",
            ]
        )


def _section(title: str, values: Mapping[str, Any]) -> list[str]:
    rows = [f"| {key} | {_cell(value)} |" for key, value in sorted(values.items())]
    return ["", f"## {title}", "", "| | |", "|---|---|", *rows]


def _cell(value: Any) -> str:
    if isinstance(value, Mapping):
        return ", ".join(f"{key} {part}" for key, part in sorted(value.items()))
    return ", ".join(map(str, value)) if isinstance(value, list | tuple) else str(value)
