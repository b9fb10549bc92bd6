"""The model card that is published with an adapter: where it comes from, in words people read.

It has Hugging Face's metadata, so that a hub or a tool finds the base, and the dataset's card as
far as it goes to others. Scores come later, when the service has answered with it; the service
tells them, with gates and approvals, in the whole card (`service.api.whole_card`). No timestamps:
publishing the same adapter twice must give the same bytes.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import yaml

from adapters.domain.names import Digest, JobId
from adapters.domain.units import CardWords
from training.base.pedigree import Pedigree


@dataclass(frozen=True, kw_only=True)
class Card:
    """What a card tells."""

    job_id: JobId
    unit: str
    adapter: str
    base_name: str
    base_fingerprint: Digest
    words: CardWords
    """The unit's own."""
    evidence: Mapping[str, Any]
    """`data`, `recipe`, `training` and `environment`, as the version's evidence keeps them; and
    `learning_curve` where there is one."""
    pedigree: Pedigree = field(default_factory=Pedigree)
    """Of the base."""
    data_card: Sequence[str] = ()
    """Lines of the dataset's own card, one level below a section."""

    def text(self) -> str:
        """The README.md of the adapter's directory."""
        return "\n".join(
            [
                *self._metadata(),
                f"# LoRA adapter `{self.adapter}`",
                "",
                f"Made by Wardrobe for the unit `{self.unit}` in job `{self.job_id}`.",
                f"It works on the base model `{self.base_name}` only, with the fingerprint",
                f"`{self.base_fingerprint}`.",
                *self._base(),
                *_words("Intended use", self.words.intended_use),
                *_words("Limits", self.words.limits),
                *_section("Data", self.evidence["data"]),
                *self.data_card,
                *_words("More examples", _curve(self.evidence)),
                *_section("Recipe", self.evidence["recipe"]),
                *_section("Training", self.evidence["training"]),
                *_section("Environment", self.evidence["environment"]),
                "",
            ]
        )

    def _metadata(self) -> list[str]:
        """YAML before the text, as Hugging Face reads it."""
        data = self.evidence["data"].get("dataset", "")
        values = {
            "library_name": "peft",
            "pipeline_tag": "text-generation",
            "base_model": self.pedigree.hub_id or self.base_name,
            "base_model_relation": "adapter",
            "language": list(self.words.language),
            "license": self.words.license,
            "datasets": [f"{self.unit}/{self.adapter}-{data[:12]}"] if data else [],
            "tags": ["lora", "wardrobe"],
        }
        values = {name: said for name, said in values.items() if said}
        return ["---", yaml.safe_dump(values, sort_keys=False).rstrip(), "---", ""]

    def _base(self) -> Iterator[str]:
        pedigree = self.pedigree
        told = {
            "name": self.base_name,
            "on the hub": pedigree.hub_id,
            "revision": pedigree.revision,
            "license": pedigree.license or "its folder does not say",
            "languages": ", ".join(pedigree.language),
        }
        yield from _section("Base model", {name: said for name, said in told.items() if said})


def _words(title: str, text: str) -> list[str]:
    return ["", f"## {title}", "", text] if text else []


def _curve(evidence: Mapping[str, Any]) -> str:
    said = evidence.get("learning_curve", {}).get("said")
    return f"{said}." if said else ""


def _section(title: str, values: Mapping[str, Any]) -> list[str]:
    rows = [f"| {key} | {_cell(value)} |" for key, value in sorted(values.items())]
    return ["", f"## {title}", "", "| | |", "|---|---|", *rows]


def _cell(value: Any) -> str:
    if isinstance(value, Mapping):
        return ", ".join(f"{key} {part}" for key, part in sorted(value.items()))
    return ", ".join(map(str, value)) if isinstance(value, list | tuple) else str(value)
