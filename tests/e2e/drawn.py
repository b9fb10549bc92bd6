"""Versions with drawn weights, published as the trainer publishes: into store and registry."""

from __future__ import annotations

import json
import tempfile
from pathlib import Path

from adapters.admission.base_model import base_shapes, fingerprint
from adapters.admission.checks import CONFIG_FILE, admit, canonicalise
from adapters.domain.names import Unit
from adapters.domain.versions import Version
from adapters.registry.open import open_registry
from adapters.registry.ports import NewVersion
from adapters.settings import Settings
from adapters.store.open import open_store
from benchmarks import stand


def publish_drawn(settings: Settings, *, strength: float) -> Version:
    """A version of `stand.ALIAS`; another strength is another answer.

    Weak random weights can leave the probe's answer alone.
    """
    base = Path(settings.base)
    with tempfile.TemporaryDirectory() as folder:
        made = Path(folder)
        stand.draw_adapter(base, made)
        config = json.loads((made / CONFIG_FILE).read_text())
        config["lora_alpha"] *= strength
        (made / CONFIG_FILE).write_text(json.dumps(config))
        admitted = admit(made, base=base_shapes(base), max_rank=settings.max_lora_rank)
        canonicalise(made, admitted)
        new = NewVersion(
            adapter=stand.ALIAS,
            unit=Unit(stand.ALIAS),
            digest=open_store(settings).publish_adapter(made),
            base_fingerprint=fingerprint(base),
            rank=admitted.rank,
            size_bytes=admitted.size_bytes,
            evidence={},
        )
    registry = open_registry(settings.registry_url)
    try:
        return registry.versions.publish(new, job_id=None, fence=None)
    finally:
        registry.close()
