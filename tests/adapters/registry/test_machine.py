"""Any sequence of publishing, judging, promoting and rolling back, on both registries at once.

The two must answer alike, word for word and error for error, and a small model of aliases says
what must hold after every step.
"""

from __future__ import annotations

import functools
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    Bundle,
    RuleBasedStateMachine,
    initialize,
    invariant,
    multiple,
    precondition,
    rule,
)

from adapters.domain.names import Alias, Unit, VersionId
from adapters.domain.routes import rollback_target
from adapters.domain.versions import VersionState
from adapters.errors import WardrobeError
from adapters.registry import Registry, Snapshot, open_registry
from tests.adapters.registry.values import SALES, SUPPORT, a_build, a_gate, a_job, fence_of

ALIASES = (Alias("support"), Alias("triage"))


@functools.cache
def empty_database() -> bytes:
    """What the migrations make; made once."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "registry.sqlite3"
        open_registry(f"sqlite:///{path}").close()
        return path.read_bytes()


class Routes(RuleBasedStateMachine):
    """The commands of a registry that move routes."""

    versions: Bundle[VersionId] = Bundle("versions")
    rollouts: Bundle[int] = Bundle("rollouts")

    def __init__(self) -> None:
        super().__init__()
        self._folder = tempfile.TemporaryDirectory()
        path = Path(self._folder.name) / "registry.sqlite3"
        path.write_bytes(empty_database())
        self._twins = (open_registry("memory:"), open_registry(f"sqlite:///{path}"))
        self._clock = 0.0
        self._revision = 0
        self._served: dict[Alias, list[VersionId]] = {alias: [] for alias in ALIASES}
        self._fences: dict[VersionId, int] = {}

    def teardown(self) -> None:
        for registry in self._twins:
            registry.close()
        self._folder.cleanup()

    def both(self, ask: Callable[[Registry], Any]) -> Any:
        """The twins' common answer, or None when they refuse for the same reason."""
        self._clock += 1.0
        answers = [self._answer(ask, registry) for registry in self._twins]
        assert answers[0] == answers[1]
        return None if isinstance(answers[0], tuple) else answers[0]

    def _answer(self, ask: Callable[[Registry], Any], registry: Registry) -> Any:
        try:
            return ask(registry)
        except WardrobeError as error:
            return (type(error), error.reason, error.message)

    @initialize(target=versions)
    def publish_three(self) -> Any:
        return multiple(*(self.publish(SUPPORT) for _ in range(3)))

    # Commands that are refused change nothing: most draws here are of the kind that works.
    @rule(target=versions, unit=st.sampled_from([SUPPORT, SUPPORT, SUPPORT, SALES]))
    def publish(self, unit: Unit) -> VersionId:
        build, at = a_build(unit), self._clock
        version = self.both(lambda r: r.publish_version(build, job_id=None, fence=None, at=at))
        return VersionId(version.id)

    @rule(target=versions, passed=st.sampled_from([True, True, False, None]))
    def train(self, passed: bool | None) -> VersionId:
        job, build, at = a_job(), a_build(), self._clock
        self.both(lambda r: r.add_job(job))
        claimed = self.both(lambda r: r.claim_job(owner="t", now=at, lease_seconds=1e9))
        fence = fence_of(claimed)
        made = self.both(lambda r: r.publish_version(build, job_id=job.id, fence=fence, at=at))
        version = VersionId(made.id)
        self._fences[version] = fence
        if passed is not None:
            self.judge(version, passed)
        return version

    @rule(version=versions, passed=st.booleans())
    def judge(self, version: VersionId, passed: bool) -> None:
        gates, fence = [a_gate(passed=passed)], self._fences.get(version, 1)
        self.both(
            lambda r: r.record_gates(version, gates, fence=fence, evidence={"judged": passed})
        )

    @rule(
        target=rollouts,
        alias=st.sampled_from(ALIASES),
        version=versions,
        expected=st.sampled_from([None, None, None, 0, 1, 2]),
    )
    def begin(self, alias: Alias, version: VersionId, expected: int | None) -> Any:
        at = self._clock
        rollout = self.both(
            lambda r: r.begin_rollout(
                alias,
                version,
                unit=SUPPORT,
                action="promote",
                actor="key_1",
                expected_generation=expected,
                at=at,
            )
        )
        return rollout.id if rollout and rollout.id else multiple()

    @precondition(lambda self: any(self._served.values()))
    @rule(target=rollouts, alias=st.sampled_from(ALIASES))
    def roll_back(self, alias: Alias) -> Any:
        at = self._clock

        def ask(registry: Registry) -> Any:
            route = registry.route(alias, unit=SUPPORT)
            return registry.begin_rollout(
                alias,
                rollback_target(route),
                unit=SUPPORT,
                action="rollback",
                actor="key_1",
                expected_generation=route.generation,
                at=at,
            )

        rollout = self.both(ask)
        return rollout.id if rollout and rollout.id else multiple()

    @rule(rollout=rollouts)
    def complete(self, rollout: int) -> None:
        at = self._clock
        route = self.both(lambda r: r.complete_rollout(rollout, at=at))
        if route and route.generation > len(self._served[route.alias]):
            self._served[route.alias].append(route.stable)

    @rule(alias=st.sampled_from(ALIASES), version=versions)
    def promote(self, alias: Alias, version: VersionId) -> None:
        rollout = self.begin(alias, version, None)
        if isinstance(rollout, int):
            self.complete(rollout)

    @rule(alias=st.sampled_from(ALIASES))
    def roll_back_at_once(self, alias: Alias) -> None:
        rollout = self.roll_back(alias)
        if isinstance(rollout, int):
            self.complete(rollout)

    @rule(rollout=rollouts)
    def fail(self, rollout: int) -> None:
        at = self._clock
        self.both(lambda r: r.fail_rollout(rollout, "the engine refused", at=at))

    @invariant()
    def the_twins_show_the_same_and_it_is_sound(self) -> None:
        first, snapshot = (registry.snapshot() for registry in self._twins)
        assert first == snapshot
        assert snapshot.revision >= self._revision
        self._revision = snapshot.revision
        check_served(snapshot, self._served)
        check_live(snapshot)


def check_served(snapshot: Snapshot, served: dict[Alias, list[VersionId]]) -> None:
    """Every alias serves what was completed last, and can go back to the one before."""
    assert snapshot.routes.keys() == {alias for alias, history in served.items() if history}
    for alias, route in snapshot.routes.items():
        *_, previous, stable = [None, *served[alias]]
        assert (route.stable, route.previous) == (stable, previous)
        assert route.generation == len(served[alias])


def check_live(snapshot: Snapshot) -> None:
    """A version is live exactly while a route serves it; an alias has one rollout at most."""
    live = {v.id for v in snapshot.versions.values() if v.state is VersionState.LIVE}
    assert live == {route.stable for route in snapshot.routes.values()}
    loading = [rollout.alias for rollout in snapshot.rollouts]
    assert len(loading) == len(set(loading))


@pytest.mark.timeout(100)
class TestRoutes(Routes.TestCase):  # type: ignore[misc, valid-type]
    settings = settings(
        max_examples=40,
        stateful_step_count=35,
        deadline=None,
        suppress_health_check=[HealthCheck.too_slow],
    )
