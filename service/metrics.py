"""Wardrobe's metrics, in the same Prometheus registry as vLLM's own.

Names carry no colon (see docs/reference.md) and labels come from closed sets: units, aliases and
versions of the registry, never a caller's text.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from typing import Literal

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram
from prometheus_client.metrics import MetricWrapperBase

_LATENCY = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0)
GAPS = (0.001, 0.0025, 0.005, 0.01, 0.02, 0.03, 0.05, 0.075, 0.1, 0.15, 0.25, 0.5, 1.0, 2.5)
_SWAP = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)
_ROUTE = ("unit", "alias", "version")
_Across = Literal["livesum", "livemin", "livemax", "livemostrecent"]
_MULTIPROCESS = "PROMETHEUS_MULTIPROC_DIR"
"""Set by vLLM where several API processes answer for one engine: no series can be removed then."""


class _Instruments:
    """Makes instruments in one registry.

    `across` says what several API processes make of a gauge together: their sum, the smallest, ….
    """

    def __init__(self, registry: CollectorRegistry) -> None:
        self._registry = registry

    def counter(self, name: str, text: str, *labels: str) -> Counter:
        return Counter(name, text, labels, registry=self._registry)

    def gauge(self, name: str, text: str, *labels: str, across: _Across) -> Gauge:
        return Gauge(name, text, labels, registry=self._registry, multiprocess_mode=across)

    def histogram(self, name: str, text: str, *labels: str, buckets: Sequence[float]) -> Histogram:
        return Histogram(name, text, labels, registry=self._registry, buckets=buckets)


class RequestMetrics:
    """What is counted of requests and their answers."""

    def __init__(self, make: _Instruments) -> None:
        self.requests = make.counter(
            "wardrobe_requests_total", "Inference requests by outcome.", *_ROUTE, "outcome"
        )
        self.tokens = make.counter(
            "wardrobe_tokens_total",
            "Tokens by kind (prompt, completion), counted by the engine.",
            *_ROUTE,
            "kind",
        )
        self.latency = make.histogram(
            "wardrobe_request_duration_seconds",
            "Whole time of an inference request.",
            *_ROUTE,
            buckets=_LATENCY,
        )
        self.first_token = make.histogram(
            "wardrobe_time_to_first_token_seconds",
            "Time until the first byte of an answer's body.",
            *_ROUTE,
            buckets=_LATENCY,
        )
        self.between_tokens = make.histogram(
            "wardrobe_time_between_tokens_seconds",
            "Time between the tokens of a streamed answer, behind the first.",
            *_ROUTE,
            buckets=GAPS,
        )
        self.errors = make.counter(
            "wardrobe_errors_total",
            "Requests answered with an error, within a stream too, by its code.",
            "code",
        )
        self.refused = make.counter(
            "wardrobe_requests_refused_total",
            "Requests refused before the engine, by error code.",
            "code",
        )
        self.shadow_copies = make.counter(
            "wardrobe_shadow_copies_total",
            "Copies of requests for a shadow: agreed, differed, failed, dropped.",
            *_ROUTE,
            "outcome",
        )
        self.in_flight = make.gauge(
            "wardrobe_requests_in_flight", "Requests being answered.", across="livesum"
        )
        self.waiting = make.gauge(
            "wardrobe_requests_waiting_for_load",
            "Requests that wait for their version to be loaded.",
            across="livesum",
        )
        self.queued = make.gauge(
            "wardrobe_requests_queued",
            "Requests that wait for their turn in the engine.",
            across="livesum",
        )
        self.oldest_lease = make.gauge(
            "wardrobe_oldest_lease_seconds",
            "How long the oldest request has held its version; 0 where none does.",
            across="livemax",
        )
        self.log_lines_dropped = make.counter(
            "wardrobe_log_lines_dropped_total",
            "Requests whose log line was dropped: too many ended at once, or there was no room.",
        )


class SwapMetrics:
    """What is counted of versions, routes and rollouts."""

    def __init__(self, make: _Instruments) -> None:
        self.loads = make.counter(
            "wardrobe_version_loads_total", "Adapter versions loaded into the engine.", "outcome"
        )
        self.resident = make.gauge(
            "wardrobe_version_resident",
            "1 for each version the engine holds.",
            "version",
            across="livemostrecent",
        )
        self.resident_by_tier = make.gauge(
            "wardrobe_versions_resident",
            "Versions the engine holds: live, target (of a rollout), idle.",
            "tier",
            across="livemostrecent",
        )
        self.unavailable = make.gauge(
            "wardrobe_version_unavailable",
            "1 for each live version that cannot be served, with the reason.",
            *_ROUTE,
            "reason",
            across="livemostrecent",
        )
        self.generation = make.gauge(
            "wardrobe_route_generation",
            "Generation of a route; grows with every flip.",
            "alias",
            across="livemostrecent",
        )
        self.weight = make.gauge(
            "wardrobe_canary_weight",
            "Per cent of an alias's requests that its canary answers.",
            *_ROUTE,
            across="livemostrecent",
        )
        self.canary_answers = make.gauge(
            "wardrobe_canary_answers",
            "Answers of a running canary and of the stable version beside it, over all replicas.",
            *_ROUTE,
            "arm",
            across="livemax",
        )
        self.canary_errors = make.gauge(
            "wardrobe_canary_errors",
            "Those of them that the engine failed to give.",
            *_ROUTE,
            "arm",
            across="livemax",
        )
        self.canary_evidence = make.gauge(
            "wardrobe_canary_evidence",
            "Evidence that a running canary is worse, by signal, as a power of ten.",
            *_ROUTE,
            "signal",
            across="livemax",
        )
        self.rollouts = make.counter(
            "wardrobe_rollouts_total", "Rollouts ended, by action and outcome.", "action", "outcome"
        )
        self.open_rollouts = make.gauge(
            "wardrobe_rollout_open",
            "1 for each rollout that has not ended, by its state (loading, flipped).",
            "unit",
            "alias",
            "state",
            across="livemostrecent",
        )
        self.swap_phase = make.histogram(
            "wardrobe_swap_phase_seconds",
            "Phases of a swap: load, flip, drain.",
            "phase",
            buckets=_SWAP,
        )
        self.swap_errors = make.counter(
            "wardrobe_swap_errors_total", "Steps that failed, by the owner of the step.", "owner"
        )


class ProcessMetrics:
    """What a process says of itself and of what it reads."""

    def __init__(self, make: _Instruments) -> None:
        self.ready = make.gauge(
            "wardrobe_ready",
            "1 when this replica may answer and every live version answers or has failed.",
            across="livemin",
        )
        self.revision = make.gauge(
            "wardrobe_registry_revision", "Revision this replica routes by.", across="livemin"
        )
        self.registry_read = make.gauge(
            "wardrobe_registry_read_timestamp_seconds",
            "When this process last read the registry, in seconds since 1970.",
            across="livemin",
        )
        self.key_trust = make.gauge(
            "wardrobe_key_trust_left_seconds",
            "How long keys are still believed without a new look at the registry.",
            across="livemin",
        )
        self.keys_ending = make.gauge(
            "wardrobe_keys_ending",
            "Holders of keys whose last key ends within two weeks.",
            "unit",
            across="livemostrecent",
        )
        self.units_errors = make.gauge(
            "wardrobe_units_folder_invalid",
            "1 while the units folder has mistakes and the last good one is in use.",
            across="livemax",
        )
        self.audit_entries = make.gauge(
            "wardrobe_audit_entries",
            "Entries of the audit log; a number that falls says that somebody cut it.",
            across="livemax",
        )
        self.budget_used = make.gauge(
            "wardrobe_budget_used_ratio",
            "Share of a unit's token budget (day, month) that is used, over all replicas.",
            "unit",
            "budget",
            across="livemax",
        )
        self.engine_restarts = make.counter(
            "wardrobe_engine_restarts_total",
            "Engines started again by this supervisor, by why the one before ended.",
            "reason",
        )


class Metrics(RequestMetrics, SwapMetrics, ProcessMetrics):
    """Every instrument; one object per process."""

    def __init__(self, registry: CollectorRegistry) -> None:
        make = _Instruments(registry)
        RequestMetrics.__init__(self, make)
        SwapMetrics.__init__(self, make)
        ProcessMetrics.__init__(self, make)
        self._about_versions: tuple[MetricWrapperBase, ...] = (
            self.requests,
            self.tokens,
            self.latency,
            self.first_token,
            self.shadow_copies,
            self.between_tokens,
        )
        self._answers: dict[tuple[str, str, str], AnswerSeries] = {}

    def answers(self, unit: str, alias: str, version: str) -> AnswerSeries:
        """What is counted of answers by this version; found once, for a look-up takes a lock."""
        labels = (unit, alias, version)
        found = self._answers.get(labels)
        if found is None:
            found = self._answers[labels] = AnswerSeries(self, labels)
        return found

    def note_restarts(self, restarts: Mapping[str, int]) -> None:
        """Takes over, at the start, what the supervisor has counted; 0 is a count, too: what rises
        later is seen to rise.
        """
        for reason, count in restarts.items():
            self.engine_restarts.labels(reason).inc(count)

    def show(self, gauge: Gauge, values: Mapping[tuple[str, ...], float]) -> None:
        """Makes a labelled gauge say exactly `values`; series of what is gone are dropped."""
        for labels in _series(gauge) - values.keys():
            _remove(gauge, labels)
        for labels, value in values.items():
            gauge.labels(*labels).set(value)

    def drop_requests_of(self, is_gone: Callable[[str, str], bool]) -> None:
        """Drops what was counted for (alias, version) pairs that nobody can name any more."""
        for known in [each for each in self._answers if is_gone(each[1], each[2])]:
            del self._answers[known]
        for metric in self._about_versions:
            for labels in _series(metric):
                if is_gone(labels[1], labels[2]):
                    _remove(metric, labels)


class AnswerSeries:
    """The series of one unit, alias and version."""

    def __init__(self, metrics: Metrics, labels: tuple[str, str, str]) -> None:
        self._requests = metrics.requests
        self._labels = labels
        self._outcomes: dict[str, Counter] = {}
        self._latency = metrics.latency.labels(*labels)
        self._first_token = metrics.first_token.labels(*labels)
        self._between_tokens = metrics.between_tokens.labels(*labels)
        self._prompt = metrics.tokens.labels(*labels, "prompt")
        self._completion = metrics.tokens.labels(*labels, "completion")

    def ended(self, outcome: str, *, seconds: float, first_byte: float | None) -> None:
        """One answer has ended; `first_byte` in seconds from its start."""
        counter = self._outcomes.get(outcome)
        if counter is None:
            counter = self._outcomes[outcome] = self._requests.labels(*self._labels, outcome)
        counter.inc()
        self._latency.observe(seconds)
        if first_byte is not None:
            self._first_token.observe(first_byte)

    def used(self, *, prompt: int, completion: int) -> None:
        """Tokens, by the engine's count."""
        self._prompt.inc(prompt)
        self._completion.inc(completion)

    def streamed(self, counts: Sequence[int], *, seconds: float) -> None:
        """A stream has ended whose gaps were so many in each bucket, and took `seconds` together.

        The client's public `observe` takes them one by one, each under two locks.
        """
        between = self._between_tokens
        for bucket, count in zip(between._buckets, counts, strict=True):  # noqa: SLF001 - as `_series`
            if count:
                bucket.inc(count)
        between._sum.inc(seconds)  # noqa: SLF001


def _series(metric: MetricWrapperBase) -> AbstractSet[tuple[str, ...]]:
    """Label values of every series there is; its public `collect` would copy every bucket."""
    return {tuple(labels) for labels in metric._metrics}  # noqa: SLF001 - pinned by a test


def _remove(metric: MetricWrapperBase, labels: tuple[str, ...]) -> None:
    if _MULTIPROCESS not in os.environ:
        metric.remove(*labels)
    elif isinstance(metric, Gauge):
        metric.labels(*labels).set(0)
