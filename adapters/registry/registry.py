"""The registry as one value: its ports side by side, for whoever puts a process together.

Consumers take the ports they need, not this.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from adapters.registry.ports import (
    Approvals,
    Audit,
    Canaries,
    Collection,
    Datasets,
    Erasures,
    Evaluations,
    Files,
    Jobs,
    Keys,
    Permissions,
    Quotas,
    Replicas,
    Rollouts,
    Routes,
    Uploads,
    UsageLedger,
    Versions,
)


@dataclass(frozen=True, kw_only=True)
class Registry:
    """Every port over one database."""

    keys: Keys
    files: Files
    uploads: Uploads
    jobs: Jobs
    datasets: Datasets
    erasures: Erasures
    versions: Versions
    evaluations: Evaluations
    approvals: Approvals
    permissions: Permissions
    routes: Routes
    rollouts: Rollouts
    canaries: Canaries
    replicas: Replicas
    quotas: Quotas
    usage: UsageLedger
    collection: Collection
    audit: Audit
    close: Callable[[], None]
    """Lets go of connections; further calls are undefined."""
