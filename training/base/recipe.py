"""What the embedded base model is: one frozen recipe, and the digest that names its cache folder."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass, field
from pathlib import Path

from adapters.recipes import RecipeOverrides

_SOURCES = (
    "lexicon.toml",
    "lexicon.py",
    "sentences.py",
    "tasks.py",
    "corpus.py",
    "tokenizer.py",
    "pretrain.py",
)


@dataclass(frozen=True, kw_only=True)
class BaseRecipe:
    """Sizes, data and training of the base model, and how adapters are best trained on it.

    The work is fixed in steps, not seconds, so that the recipe alone determines the model;
    `max_seconds` only guards against a machine that is far too slow.
    """

    seed: int = 20
    vocabulary: int = 3072
    hidden: int = 256
    layers: int = 3
    heads: int = 4
    feed_forward: int = 704
    positions: int = 2048
    tokenizer_documents: int = 12_000
    chat_share: float = 0.9
    window: int = 128
    batch: int = 16
    steps: int = 450
    learning_rate: float = 4e-3
    max_seconds: float = 300.0
    fine_tuning: RecipeOverrides = field(
        default_factory=lambda: RecipeOverrides(
            rank=32,
            alpha=64,
            learning_rate=4e-3,
            batch_size=32,
            n_epochs=12.0,
            max_minutes=2.6,
            evaluations=10,
            patience=5,
            max_length=1024,
        )
    )


def digest(recipe: BaseRecipe) -> str:
    """Hex digest of the recipe and of the source text that turns it into a model."""
    values = asdict(recipe) | {"fine_tuning": recipe.fine_tuning.model_dump(mode="json")}
    state = hashlib.sha256(json.dumps(values, sort_keys=True).encode())
    for name in _SOURCES:
        state.update(name.encode() + b"\0" + Path(__file__).with_name(name).read_bytes() + b"\0")
    return state.hexdigest()
