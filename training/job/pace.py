"""How fast training is here, by what earlier jobs have told."""

from __future__ import annotations

from adapters.domain.names import Digest
from adapters.domain.principals import SYSTEM
from adapters.registry.ports import Versions

_RECENT = 20
"""Versions looked at."""


def tokens_per_second(versions: Versions, base: Digest) -> float | None:
    """By the newest version of this base that says so, whoever's it is."""
    for version in versions.list(SYSTEM, adapter=None, after=None, limit=_RECENT).items:
        training = (version.evidence or {}).get("training", {})
        tokens, seconds = training.get("trained_tokens"), training.get("seconds")
        if version.base_fingerprint == base and tokens and seconds:
            return float(tokens) / float(seconds)
    return None
