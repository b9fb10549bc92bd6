"""How fast training is here: by what earlier jobs have told, or else by a guess that says so."""

from __future__ import annotations

from dataclasses import dataclass

from adapters.admission.base_model import BaseModel
from adapters.domain.names import Digest
from adapters.domain.principals import SYSTEM
from adapters.registry.ports import Versions
from training.base.precision import products_per_second

_RECENT = 20
"""Versions looked at."""
_PRODUCTS = 4
"""Multiplications and additions for each weight and token: two forward, and two back through the
base, whose own weights get no gradient."""
_REACHED = 0.5
"""What a step reaches of the speed of one product after another: adapters, attention and the
optimizer are the rest."""


@dataclass(frozen=True, kw_only=True)
class Pace:
    """How fast training is here."""

    tokens_per_second: float
    guessed: bool
    """By the machine's matrix products: nobody has trained on this base here yet."""


def pace(versions: Versions, base: BaseModel) -> Pace | None:
    """By the newest version of this base that says so, whoever's it is; None where nothing is
    known: before the first job on a GPU.
    """
    told = _told(versions, base.fingerprint)
    if told is not None:
        return Pace(tokens_per_second=told, guessed=False)
    speed = products_per_second()
    weights = sum(rows * columns for rows, columns in base.shapes.values())
    if speed is None or not weights:
        return None
    return Pace(tokens_per_second=speed * _REACHED / (_PRODUCTS * weights), guessed=True)


def _told(versions: Versions, base: Digest) -> float | None:
    for version in versions.list(SYSTEM, adapter=None, after=None, limit=_RECENT).items:
        training = (version.evidence or {}).get("training", {})
        tokens, seconds = training.get("trained_tokens"), training.get("seconds")
        if version.base_fingerprint == base and tokens and seconds:
            return float(tokens) / float(seconds)
    return None
