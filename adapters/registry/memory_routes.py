"""Versions, routes and rollouts in memory."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from adapters.domain.gates import GateResult
from adapters.domain.names import Alias, JobId, Unit, VersionId
from adapters.domain.pages import Page
from adapters.domain.routes import Rollout, RolloutState, Route
from adapters.domain.versions import Version
from adapters.errors import NotFound
from adapters.registry import rules
from adapters.registry.memory_jobs import find_job
from adapters.registry.memory_tables import MemoryPart, Tables, following, kept, page
from adapters.registry.port import NewVersion


class MemoryRoutes(MemoryPart):
    """The registry's methods about versions and routes; see `adapters.registry.port`."""

    def publish_version(
        self, new: NewVersion, *, job_id: JobId | None, fence: int | None, at: float
    ) -> Version:
        with self._transaction() as tables:
            if job_id is not None:
                rules.held(find_job(tables, job_id), fence)
                first = _published_by(tables, job_id)
                if first is not None:
                    return kept(first)
            mine = (v for v in reversed(tables.versions.values()) if v.adapter == new.adapter)
            version = rules.numbered(new, newest=next(mine, None), job_id=job_id, at=at)
            version = replace(version, id=VersionId(len(tables.versions) + 1))
            tables.versions[version.id] = kept(version)
            tables.revision += 1
            return version

    def record_gates(
        self,
        version_id: VersionId,
        gates: Sequence[GateResult],
        *,
        fence: int,
        evidence: Mapping[str, Any],
    ) -> Version:
        with self._transaction() as tables:
            found = _find(tables, version_id)
            rules.held(find_job(tables, rules.judging_job(found)), fence)
            version = rules.judged(found, gates, evidence)
            tables.versions[version_id] = kept(version)
            tables.revision += 1
            return version

    def version(self, adapter: str, number: int, *, unit: Unit | None) -> Version:
        with self._transaction() as tables:
            for version in tables.versions.values():
                named = (version.adapter, version.number) == (adapter, number)
                if named and unit in (None, version.unit):
                    return kept(version)
            raise NotFound("no such version")

    def version_by_id(self, version_id: VersionId) -> Version:
        with self._transaction() as tables:
            return kept(_find(tables, version_id))

    def version_of_job(self, job_id: JobId) -> Version | None:
        with self._transaction() as tables:
            return kept(_published_by(tables, job_id))

    def versions(
        self, *, unit: Unit | None, adapter: str | None, after: str | None, limit: int
    ) -> Page[Version]:
        with self._transaction() as tables:
            mine = [v for v in reversed(tables.versions.values()) if unit in (None, v.unit)]
            rest = following(mine, lambda version: version.name == after, after)
            return page((v for v in rest if adapter in (None, v.adapter)), limit)

    def route(self, alias: Alias, *, unit: Unit) -> Route:
        with self._transaction() as tables:
            return rules.owned_route(tables.routes.get(alias), alias, unit)

    def begin_rollout(
        self,
        alias: Alias,
        version_id: VersionId,
        *,
        unit: Unit,
        action: str,
        actor: str,
        expected_generation: int | None,
        at: float,
    ) -> Rollout:
        with self._transaction() as tables:
            rules.check_asker(tables.jobs.get(JobId(actor)))
            route = rules.owned_route(tables.routes.get(alias), alias, unit)
            rollout = rules.begun(
                rules.asked(route, version_id, action=action, actor=actor, at=at),
                route,
                _find(tables, version_id),
                loading=next(iter(loading(tables, alias)), None),
                expected_generation=expected_generation,
            )
            if rollout.state is RolloutState.COMPLETE:
                return rollout
            rollout = replace(rollout, id=len(tables.rollouts) + 1)
            tables.rollouts[rollout.id] = rollout
            tables.revision += 1
            return rollout

    def complete_rollout(self, rollout_id: int, *, at: float) -> Route:
        with self._transaction() as tables:
            rollout = _rollout(tables, rollout_id)
            target = _find(tables, rollout.target)
            route = rules.owned_route(tables.routes.get(rollout.alias), rollout.alias, target.unit)
            if rollout.state is RolloutState.COMPLETE:
                return route
            flip = rules.flipped(
                rollout,
                route,
                target=target,
                replaced=_find(tables, route.stable) if route.stable else None,
                others=tables.routes.values(),
                at=at,
            )
            tables.routes[route.alias] = flip.route
            tables.rollouts[rollout_id] = flip.rollout
            tables.versions |= {version.id: version for version in flip.versions}
            tables.revision += 1
            return flip.route

    def fail_rollout(self, rollout_id: int, error: str, *, at: float) -> None:
        with self._transaction() as tables:
            rollout = _rollout(tables, rollout_id)
            ended = rules.abandoned(rollout, error, at=at)
            if ended != rollout:
                tables.rollouts[rollout_id] = ended
                tables.revision += 1

    def rollout(self, rollout_id: int) -> Rollout:
        with self._transaction() as tables:
            return _rollout(tables, rollout_id)

    def rollouts(self, *, alias: Alias, after: str | None, limit: int) -> Page[Rollout]:
        with self._transaction() as tables:
            before = rules.cursor_number(after) if after is not None else len(tables.rollouts) + 1
            newest_first = reversed(tables.rollouts.values())
            return page((r for r in newest_first if r.alias == alias and r.id < before), limit)


def loading(tables: Tables, alias: Alias | None = None) -> list[Rollout]:
    """Rollouts under way, oldest first."""
    under_way = [r for r in tables.rollouts.values() if r.state is RolloutState.LOADING]
    return [rollout for rollout in under_way if alias in (None, rollout.alias)]


def _find(tables: Tables, version_id: VersionId) -> Version:
    if version_id not in tables.versions:
        raise NotFound("no such version")
    return tables.versions[version_id]


def _rollout(tables: Tables, rollout_id: int) -> Rollout:
    if rollout_id not in tables.rollouts:
        raise NotFound("no such rollout")
    return tables.rollouts[rollout_id]


def _published_by(tables: Tables, job_id: JobId) -> Version | None:
    return next((v for v in tables.versions.values() if v.job_id == job_id), None)
