"""Opens the registry that a database URL names."""

from __future__ import annotations

from collections.abc import Callable

from adapters.registry.registry import Registry
from adapters.registry.sql.approvals import SqlApprovals
from adapters.registry.sql.audit import SqlAudit
from adapters.registry.sql.canaries import SqlCanaries
from adapters.registry.sql.collection import SqlCollection
from adapters.registry.sql.database import PATIENCE_S, Database
from adapters.registry.sql.datasets import SqlDatasets
from adapters.registry.sql.erasures import SqlErasures
from adapters.registry.sql.evaluations import SqlEvaluations
from adapters.registry.sql.files import SqlFiles
from adapters.registry.sql.jobs import SqlJobs
from adapters.registry.sql.keys import SqlKeys
from adapters.registry.sql.permissions import SqlPermissions
from adapters.registry.sql.quotas import SqlQuotas
from adapters.registry.sql.replicas import SqlReplicas
from adapters.registry.sql.rollouts import SqlRollouts
from adapters.registry.sql.routes import SqlRoutes
from adapters.registry.sql.sqlite import Journal
from adapters.registry.sql.uploads import SqlUploads
from adapters.registry.sql.usage import SqlUsageLedger
from adapters.registry.sql.versions import SqlVersions


def open_registry(
    url: str,
    *,
    patience_s: float = PATIENCE_S,
    journal: Journal | None = None,
    now: Callable[[], float] | None = None,
) -> Registry:
    """`sqlite:///<path>` or `postgresql://<user>:<password>@<host>/<database>`.

    Each call makes a pool of its own: who must not wait for other callers' connections opens a
    second registry. Nothing waits longer than about `patience_s` for a connection or a lock.
    `journal` and `now` are for tests; see `Database`.

    Brings an older schema up to date first. Raises InvalidRequest for an address of another kind,
    Conflict when a newer build has used the database (`schema_newer`) or a newer SQLite holds it
    in a mode that is not safe here (`journal_mode`), Unavailable, StorageFull.
    """
    database = Database(url, patience_s=patience_s, journal=journal, now=now)
    return Registry(
        keys=SqlKeys(database),
        files=SqlFiles(database),
        uploads=SqlUploads(database),
        jobs=SqlJobs(database),
        datasets=SqlDatasets(database),
        erasures=SqlErasures(database),
        versions=SqlVersions(database),
        evaluations=SqlEvaluations(database),
        approvals=SqlApprovals(database),
        permissions=SqlPermissions(database),
        routes=SqlRoutes(database),
        rollouts=SqlRollouts(database),
        canaries=SqlCanaries(database),
        replicas=SqlReplicas(database),
        quotas=SqlQuotas(database),
        usage=SqlUsageLedger(database),
        collection=SqlCollection(database),
        audit=SqlAudit(database),
        close=database.close,
    )
