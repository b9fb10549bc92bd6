"""What one service process is put together from."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from prometheus_client import CollectorRegistry

from adapters.admission.base_model import BaseShapes
from adapters.domain.names import Digest
from adapters.domain.units import Units
from adapters.registry import Registry
from adapters.registry.ports import Hints
from adapters.settings import Settings
from adapters.store import ArtifactStore
from service.engine.grammars import Grammars
from service.engine.port import Engine
from service.observe.traces import Traces
from service.runtime import interrupt


@dataclass(frozen=True, kw_only=True)
class Parts:
    """What a process is made of, opened by whoever composes it."""

    settings: Settings
    engine: Engine
    grammars: Grammars
    registry: Registry
    """For requests."""
    swap_registry: Registry
    """For the owners of the swap: another pool, so that no request's writer starves them."""
    store: ArtifactStore
    base_name: str
    base_fingerprint: Digest
    prometheus: CollectorRegistry
    base_shapes: BaseShapes = field(default_factory=dict)
    """What an adapter that is imported must fit."""
    base_created: float = 0.0
    """When the base was put where it is, in seconds since 1970."""
    control_tokens: Sequence[str] = ()
    """The base's."""
    process: int = 0
    """Which of the engine's API processes this is."""
    processes: int = 1
    """How many those are."""
    on_units: Callable[[Units], object] = lambda _: None
    """Called when the units have changed; blocks."""
    hints: Hints | None = None
    """Of the registry's database, where it gives any."""
    collect_store: Callable[[], object] | None = None
    traces: Traces | None = None
    end: Callable[[], None] = interrupt
    clock: Callable[[], float] = time.monotonic
