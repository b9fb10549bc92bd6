"""Versions with drawn weights, published as the trainer publishes: into store and registry."""

from __future__ import annotations

from contextlib import closing

from adapters.domain.versions import Version
from adapters.registry.open import open_registry
from adapters.settings import Settings
from benchmarks import stand


def publish_drawn(settings: Settings, *, strength: float) -> Version:
    """A version of `stand.ALIAS`; another strength is another answer.

    Weak random weights can leave the probe's answer alone.
    """
    with closing(open_registry(settings.registry_url)) as registry:
        return stand.publish(settings, registry.versions, strength=strength)
