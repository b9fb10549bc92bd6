"""Canaries and shadows as clients see them."""

from __future__ import annotations

import dataclasses
from typing import Any

from adapters.domain.canaries import LATENCY_EDGES, Arms, CanaryRun, Outcomes
from adapters.domain.routes import Route, Shadow
from adapters.domain.shadows import Comparisons


def wire_canary(run: CanaryRun, arms: Arms, *, version: str, route: Route) -> dict[str, Any]:
    """One canary, with what was counted and concluded."""
    running = route.canary is not None and route.canary.rollout == run.rollout
    return {
        "id": str(run.rollout),
        "object": "adapter.canary",
        "alias": run.alias,
        "version": version,
        "state": _state(run, running=running),
        "weight": route.canary.weight if running and route.canary else None,
        "step": run.step,
        "plan": {
            **dataclasses.asdict(run.plan),
            "steps": [dataclasses.asdict(step) for step in run.plan.steps],
        },
        "canary": _arm(arms.canary),
        "stable": _arm(arms.stable),
        "evidence": {
            str(signal): round(worse.log_e_value / 2.302585, 3)
            for signal, worse in run.evidence.worse.items()
        },
        "waits_for": run.told if running else None,
        "reason": run.reason,
        "stepped_at": run.stepped_at,
        "judged_at": run.judged_at,
        "ended_at": run.ended_at,
    }


def wire_shadow(shadow: Shadow, found: Comparisons, *, alias: str, version: str) -> dict[str, Any]:
    """A shadow, with its comparisons."""
    copies = found.copies or 1
    return {
        "id": str(shadow.rollout),
        "object": "adapter.shadow",
        "alias": alias,
        "version": version,
        "share": shadow.share,
        "copies": found.copies,
        "errors": found.errors,
        "dropped": found.dropped,
        "agreement": found.agreed / copies if found.copies else None,
        "length_ratio": _ratio(found.characters, found.stable_characters),
        "seconds_ratio": _ratio(found.seconds, found.stable_seconds),
    }


def _state(run: CanaryRun, *, running: bool) -> str:
    if run.outcome is not None:
        return str(run.outcome)
    return "running" if running else "loading"


def _arm(counted: Outcomes) -> dict[str, Any]:
    scores = counted.scores
    return {
        "requests": counted.requests,
        "errors": counted.errors,
        "median_seconds": _quantile(counted, 0.5),
        "p95_seconds": _quantile(counted, 0.95),
        "scores": int(scores.count),
        "mean_score": 1.0 - scores.rate if scores.count else None,
    }


def _quantile(counted: Outcomes, part: float) -> float | None:
    """The upper edge of the class in which it lies; None where nothing was answered."""
    left = part * sum(counted.latency)
    if not left:
        return None
    for edge, answers in zip(LATENCY_EDGES, counted.latency, strict=False):
        left -= answers
        if left <= 0:
            return edge
    return LATENCY_EDGES[-1]


def _ratio(one: float, other: float) -> float | None:
    return one / other if other else None
