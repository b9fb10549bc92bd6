"""Wardrobe's metrics, in the same Prometheus registry as vLLM's own.

Names carry no colon (see docs/reference.md) and labels come from closed sets: units, aliases and
versions of the registry, never a caller's text.
"""

from __future__ import annotations

from collections.abc import Mapping
from collections.abc import Set as AbstractSet

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

from adapters.domain.names import Alias, VersionId
from adapters.domain.versions import Version

_LATENCY = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0)
_SWAP = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)
_ROUTE = ("unit", "alias", "version")


class Metrics:
    """Every instrument; one object per process."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self.requests = Counter(
            "wardrobe_requests_total",
            "Inference requests by outcome.",
            (*_ROUTE, "outcome"),
            registry=registry,
        )
        self.tokens = Counter(
            "wardrobe_tokens_total",
            "Tokens by kind (prompt, completion), counted by the engine.",
            (*_ROUTE, "kind"),
            registry=registry,
        )
        self.latency = Histogram(
            "wardrobe_request_duration_seconds",
            "Whole time of an inference request.",
            _ROUTE,
            buckets=_LATENCY,
            registry=registry,
        )
        self.first_token = Histogram(
            "wardrobe_time_to_first_token_seconds",
            "Time until the first byte of an answer's body.",
            _ROUTE,
            buckets=_LATENCY,
            registry=registry,
        )
        self.in_flight = Gauge(
            "wardrobe_requests_in_flight", "Requests being answered.", registry=registry
        )
        self.refused = Counter(
            "wardrobe_requests_refused_total",
            "Requests refused before the engine, by error code.",
            ("code",),
            registry=registry,
        )
        self.loads = Counter(
            "wardrobe_version_loads_total",
            "Adapter versions loaded into the engine.",
            ("outcome",),
            registry=registry,
        )
        self.swap_phase = Histogram(
            "wardrobe_swap_phase_seconds",
            "Phases of a swap: load, flip, drain.",
            ("phase",),
            buckets=_SWAP,
            registry=registry,
        )
        self.rollouts = Counter(
            "wardrobe_rollouts_total",
            "Rollouts ended, by action and outcome.",
            ("action", "outcome"),
            registry=registry,
        )
        self.resident = Gauge(
            "wardrobe_version_resident",
            "1 for each version the engine holds.",
            ("version",),
            registry=registry,
        )
        self.generation = Gauge(
            "wardrobe_route_generation",
            "Generation of a route; grows with every flip.",
            ("alias",),
            registry=registry,
        )
        self.revision = Gauge(
            "wardrobe_registry_revision", "Revision this replica routes by.", registry=registry
        )
        self.registry_errors = Counter(
            "wardrobe_swap_loop_errors_total",
            "Ticks of the swap loop that failed.",
            registry=registry,
        )
        self.units_errors = Gauge(
            "wardrobe_units_folder_invalid",
            "1 while the units folder has mistakes and the last good one is in use.",
            registry=registry,
        )
        self.ready = Gauge(
            "wardrobe_ready", "1 when every live version answers.", registry=registry
        )
        self._versions: frozenset[str] = frozenset()
        self._aliases: frozenset[Alias] = frozenset()

    def show_state(
        self,
        *,
        versions: Mapping[VersionId, Version],
        resident: AbstractSet[VersionId],
        generations: Mapping[Alias, int],
        revision: int,
        ready: bool,
    ) -> None:
        """Mirrors the replica's state into the gauges; series of what is gone are dropped."""
        names = frozenset(versions[v].name for v in resident if v in versions)
        for name in self._versions - names:
            self.resident.remove(name)
        for name in names - self._versions:
            self.resident.labels(name).set(1)
        for gone in self._aliases - generations.keys():
            self.generation.remove(gone)
        self._versions, self._aliases = names, frozenset(generations)
        for alias, generation in generations.items():
            self.generation.labels(alias).set(generation)
        self.revision.set(revision)
        self.ready.set(ready)
