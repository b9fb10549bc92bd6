"""Which versions something could still name: neither the retention nor a delete takes those."""

from __future__ import annotations

from sqlalchemy import Connection, String, cast, select, union

from adapters.domain.names import VersionId
from adapters.errors import Conflict
from adapters.registry.sql import rows, schema
from adapters.registry.sql.files import UNFINISHED
from adapters.registry.sql.queries import all_of
from adapters.registry.sql.rollback_target import rollback_target_of
from adapters.registry.sql.rollout_rows import OPEN
from adapters.registry.sql.weaker_copies import copied_versions, copies_of_unfinished_jobs


def named_versions(connection: Connection) -> set[VersionId]:
    """Versions that a route, an open rollout, a rollback, an unfinished job or a weaker copy could
    still name.
    """
    routes, rollouts, versions, jobs = (
        schema.routes.c,
        schema.rollouts.c,
        schema.versions.c,
        schema.jobs.c,
    )
    name = versions.adapter + ":" + cast(versions.number, String)
    query = union(
        *(
            select(column).where(column.is_not(None))
            for column in (routes.stable, routes.canary, routes.shadow)
        ),
        select(versions.id).where(versions.pinned_at.is_not(None)),
        select(rollouts.target).where(OPEN),
        select(rollouts.replaced).where(OPEN, rollouts.replaced.is_not(None)),
        select(versions.id)
        .join(schema.jobs, jobs.id == versions.job_id)
        .where(jobs.status.in_(UNFINISHED)),
        select(versions.id)
        .join(schema.jobs, jobs.model == name)
        .where(jobs.status.in_(UNFINISHED)),
    )
    named = {VersionId(version_id) for version_id in connection.execute(query).scalars()}
    for route in all_of(connection, select(schema.routes), rows.route_from):
        try:
            named.add(rollback_target_of(connection, route))
        except Conflict:
            continue  # there is nothing to roll back to
    return named | copied_versions(connection) | copies_of_unfinished_jobs(connection)
