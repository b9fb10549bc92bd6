"""Whose data a version has learnt from."""

from __future__ import annotations

from adapters.domain.names import JobId, split_version
from adapters.domain.principals import SYSTEM, Principal
from adapters.domain.versions import Version
from adapters.registry import Registry


def job_behind(registry: Registry, version: Version, principal: Principal = SYSTEM) -> JobId | None:
    """The job that made it, or the version that it is a weaker copy of; None for one that was
    brought from elsewhere. Raises NotFound.
    """
    name = split_version(version.weaker_copy_of or "")
    if name is None:
        return version.job_id
    return registry.versions.get(*name, principal).job_id
