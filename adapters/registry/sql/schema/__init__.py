"""The registry's tables, and the rules the database itself enforces.

What must hold however many processes write is a constraint here: numbers are unique per adapter,
a job publishes once, an alias has one rollout under way, an idempotency key makes one job. The
tables are made by `adapters.registry.migrations`; a test holds the two together.

`revision` on keys, versions and routes is the registry's revision at which replicas were told of
the row's last change: what a replica has not seen is found by an index, however many rows there
are.
"""

from __future__ import annotations

from adapters.registry.sql.schema.account_tables import (
    audit,
    audit_head,
    keys,
    pepper,
    quota_shares,
    quota_turn,
    usage,
    usage_writers,
)
from adapters.registry.sql.schema.declared import metadata
from adapters.registry.sql.schema.serving_tables import (
    acknowledgements,
    canaries,
    outcome_counts,
    replica_processes,
    replicas,
    revision,
    rollouts,
    routes,
    scores,
)
from adapters.registry.sql.schema.training_tables import (
    approvals,
    claims,
    condemned,
    data_keys,
    dataset_questions,
    datasets,
    erased_terms,
    evaluations,
    files,
    job_checkpoints,
    job_events,
    job_metadata,
    jobs,
    upload_parts,
    uploads,
    version_permissions,
    versions,
)

__all__ = [
    "acknowledgements",
    "approvals",
    "audit",
    "audit_head",
    "canaries",
    "claims",
    "condemned",
    "data_keys",
    "dataset_questions",
    "datasets",
    "erased_terms",
    "evaluations",
    "files",
    "job_checkpoints",
    "job_events",
    "job_metadata",
    "jobs",
    "keys",
    "metadata",
    "outcome_counts",
    "pepper",
    "quota_shares",
    "quota_turn",
    "replica_processes",
    "replicas",
    "revision",
    "rollouts",
    "routes",
    "scores",
    "upload_parts",
    "uploads",
    "usage",
    "usage_writers",
    "version_permissions",
    "versions",
]
