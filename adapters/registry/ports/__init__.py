"""What the service and the trainer need of the registry, as one small port per concern.

Every method is one transaction, is durable when it returns, and blocks: async callers use a
thread. Time comes from the database, never from a caller. Whoever asks is a `Principal`; what is
another unit's looks unknown (NotFound). The *revision* grows with every change that replicas route
by.

Every method may also raise Unavailable (the database cannot be used now; nothing is half done),
StorageFull, and InvalidRequest for a value that the database cannot keep. A list raises NotFound
for an `after` that names nothing it could go on after.
"""

from __future__ import annotations

from adapters.registry.ports.approvals import Approvals
from adapters.registry.ports.audit import Audit, Which
from adapters.registry.ports.canaries import Canaries, Counted, RouteCommand
from adapters.registry.ports.collection import Collection, Retention
from adapters.registry.ports.datasets import Datasets
from adapters.registry.ports.erasures import Erasures
from adapters.registry.ports.evaluations import Evaluations
from adapters.registry.ports.files import Files, NewFile
from adapters.registry.ports.hints import Hints
from adapters.registry.ports.jobs import Jobs, NewJob, Progress
from adapters.registry.ports.keys import Keys
from adapters.registry.ports.permissions import Permissions
from adapters.registry.ports.quotas import Claim, Quotas, Share, Shares
from adapters.registry.ports.replicas import (
    Acknowledgement,
    ProcessId,
    Registration,
    Replica,
    Replicas,
)
from adapters.registry.ports.routes import Changes, Rollouts, Routes
from adapters.registry.ports.uploads import NewPart, NewUpload, Uploads
from adapters.registry.ports.usage import DayUsage, UsageKey, UsageLedger, Used
from adapters.registry.ports.versions import NewVersion, Versions

__all__ = [
    "Acknowledgement",
    "Approvals",
    "Audit",
    "Canaries",
    "Changes",
    "Claim",
    "Collection",
    "Counted",
    "Datasets",
    "DayUsage",
    "Erasures",
    "Evaluations",
    "Files",
    "Hints",
    "Jobs",
    "Keys",
    "NewFile",
    "NewJob",
    "NewPart",
    "NewUpload",
    "NewVersion",
    "Permissions",
    "ProcessId",
    "Progress",
    "Quotas",
    "Registration",
    "Replica",
    "Replicas",
    "Retention",
    "Rollouts",
    "RouteCommand",
    "Routes",
    "Share",
    "Shares",
    "Uploads",
    "UsageKey",
    "UsageLedger",
    "Used",
    "Versions",
    "Which",
]
