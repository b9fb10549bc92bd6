"""Any sequence of publishing, judging, promoting, rolling back and retiring, beside a small model.

The model says what each alias serves and what a rollback leads to; a replica that only ever reads
what changed must know the same as one that reads everything.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
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
    rule,
    run_state_machine_as_test,
)

from adapters.domain.api_keys import Key
from adapters.domain.names import Alias, Unit, VersionId
from adapters.domain.principals import SYSTEM
from adapters.domain.routes import Action, Rollout, RolloutState, Route
from adapters.domain.versions import ServedVersion, VersionState
from adapters.errors import Conflict, WardrobeError
from adapters.registry import Registry
from adapters.registry.open import open_registry
from tests.adapters.registry.backends import Backend
from tests.adapters.registry.values import (
    ADMIN,
    ALIASES,
    OWNER,
    SALES,
    SUPPORT,
    a_gate,
    a_key,
    acknowledge,
    fence_of,
    joined,
    load,
    observe,
    owner_of,
    published,
    trained,
)


@dataclass
class Follower:
    """A replica that reads only what changed since it last looked."""

    revision: int = -1
    routes: dict[Alias, Route] = field(default_factory=dict)
    versions: dict[VersionId, ServedVersion] = field(default_factory=dict)
    keys: dict[str, Key] = field(default_factory=dict)
    rollouts: Sequence[Rollout] = ()

    def catch_up(self, registry: Registry) -> None:
        changes = registry.routes.changes(self.revision)
        assert changes.revision >= self.revision
        self.revision = changes.revision
        self.routes |= {route.alias: route for route in changes.routes}
        self.versions |= {version.id: version for version in changes.versions}
        self.versions = {id: version for id, version in self.versions.items() if version.servable}
        self.rollouts = changes.rollouts
        self.keys |= {key.id: key for key in changes.keys}
        self.keys = {id: key for id, key in self.keys.items() if key.revoked_at is None}


@dataclass
class Served:
    """What the model knows of one alias of one unit."""

    history: list[VersionId] = field(default_factory=list)
    stable: VersionId | None = None
    generation: int = 0


class Routes(RuleBasedStateMachine):
    """The commands of a registry that move routes."""

    versions: Bundle[VersionId] = Bundle("versions")

    def __init__(self, backend: Backend) -> None:
        super().__init__()
        self._registry = open_registry(backend.url, journal=backend.journal)
        self._follower = Follower()
        self._served = {alias: Served() for alias in ALIASES}
        self._bad: set[VersionId] = set()
        self._fences: dict[VersionId, int] = {}
        self._process = joined(self._registry)

    def teardown(self) -> None:
        self._registry.close()

    def ask(self, command: Callable[[], Any]) -> Any:
        """The answer, or None where the registry refuses; a refusal changes nothing."""
        before = self._registry.routes.revision()
        try:
            return command()
        except WardrobeError:
            assert self._registry.routes.revision() == before
            return None

    @initialize(target=versions)
    def publish_three(self) -> Any:
        return multiple(*(self.publish(SUPPORT) for _ in range(3)))

    @rule(target=versions, unit=st.sampled_from([SUPPORT, SUPPORT, SUPPORT, SALES]))
    def publish(self, unit: Unit) -> VersionId:
        return published(self._registry, unit).id

    @rule(target=versions, passed=st.sampled_from([True, True, False, None]))
    def train(self, passed: bool | None) -> VersionId:
        job, version = trained(self._registry)
        self._fences[version.id] = fence_of(job)
        if passed is not None:
            self.judge(version.id, passed)
        return version.id

    @rule(version=versions, passed=st.booleans())
    def judge(self, version: VersionId, passed: bool) -> None:
        fence = self._fences.get(version, 1)
        record = self._registry.versions.record_gates
        self.ask(lambda: record(version, [a_gate(passed=passed)], fence=fence, evidence={}))

    @rule(
        alias=st.sampled_from(ALIASES),
        version=versions,
        behind=st.sampled_from([None, None, 0, 0, 1]),
    )
    def promote(self, alias: Alias, version: VersionId, behind: int | None) -> None:
        expected = None if behind is None else max(0, self._served[alias].generation - behind)
        begin = self._registry.rollouts.promote
        rollout = self.ask(
            lambda: begin(alias, version, ADMIN, unit=SUPPORT, expected_generation=expected)
        )
        if rollout is not None and expected is not None:
            assert (
                begin(alias, version, ADMIN, unit=SUPPORT, expected_generation=expected) == rollout
            )

    @rule(alias=st.sampled_from(ALIASES), behind=st.sampled_from([0, 0, 0, 1]))
    def roll_back(self, alias: Alias, behind: int) -> None:
        served = self._served[alias]
        expected = max(0, served.generation - behind)
        begin = self._registry.rollouts.roll_back
        rollout = self.ask(lambda: begin(alias, OWNER, unit=SUPPORT, expected_generation=expected))
        if rollout is None:
            return
        assert begin(alias, OWNER, unit=SUPPORT, expected_generation=expected) == rollout
        if rollout.generation == served.generation and rollout.state is RolloutState.LOADING:
            assert rollout.target == self.good_before(alias)

    def good_before(self, alias: Alias) -> VersionId | None:
        served = self._served[alias]
        for version_id in reversed(served.history):
            version = self._registry.versions.by_id(version_id)
            if version_id != served.stable and version_id not in self._bad and version.servable:
                return version_id
        return None

    @rule()
    def carry_out(self) -> None:
        """The replica loads what is wanted, the routes flip, the replica observes that."""
        for rollout in self._registry.routes.changes(-1).rollouts:
            load(self._registry, self._process, rollout.target)
        for rollout in self._registry.rollouts.advance():
            self.note(rollout)
        observe(self._registry, self._process)
        self._registry.rollouts.advance()

    @rule()
    def refuse(self) -> None:
        """The engine cannot load what is wanted."""
        for rollout in self._registry.routes.changes(-1).rollouts:
            if rollout.state is RolloutState.LOADING:
                acknowledge(self._registry, self._process, rollout.target, error="torn")
        for rollout in self._registry.rollouts.advance():
            self.note(rollout)

    def note(self, rollout: Rollout) -> None:
        if rollout.state is not RolloutState.FLIPPED:
            return
        served = self._served[rollout.alias]
        if rollout.action is Action.ROLL_BACK and served.stable is not None:
            self._bad.add(served.stable)
        served.history.append(rollout.target)
        served.stable = rollout.target
        served.generation += 1

    @rule(version=versions, aliases=st.sampled_from([ALIASES, ALIASES, ALIASES[:1], ()]))
    def retire(self, version: VersionId, aliases: Sequence[Alias]) -> None:
        principal = owner_of(self._registry.versions.by_id(version).unit)
        command = self._registry.versions.retire
        retired = self.ask(lambda: command(version, principal, aliases=aliases))
        if retired is None:
            return
        assert command(version, principal, aliases=aliases) == retired
        for alias, served in self._served.items():
            if served.stable == version:
                assert alias not in aliases
                served.stable, served.generation = None, served.generation + 1

    @rule(number=st.integers(1, 4))
    def add_and_revoke_a_key(self, number: int) -> None:
        try:
            self._registry.keys.add([a_key(f"key_{number}")])
        except Conflict:
            self._registry.keys.revoke(f"key_{number}", by=ADMIN)

    @invariant()
    def a_version_is_live_exactly_while_a_route_serves_it(self) -> None:
        page = self._registry.versions.list(SYSTEM, adapter=None, after=None, limit=1000)
        live = {version.id for version in page.items if version.state is VersionState.LIVE}
        assert live == {served.stable for served in self._served.values()} - {None}
        marked = {version.id for version in page.items if version.rolled_back_at is not None}
        assert marked == self._bad

    @invariant()
    def who_reads_what_changed_knows_what_who_reads_everything_knows(self) -> None:
        self._follower.catch_up(self._registry)
        newcomer = Follower()
        newcomer.catch_up(self._registry)
        assert newcomer == self._follower
        loading = [r.alias for r in newcomer.rollouts if r.state is RolloutState.LOADING]
        assert len(loading) == len(set(loading))
        for alias, served in self._served.items():
            route = newcomer.routes.get(alias, Route(alias=alias, unit=SUPPORT))
            assert (route.stable, route.generation) == (served.stable, served.generation)


@pytest.mark.timeout(200)
def test_any_sequence_of_commands_does_what_the_model_says(
    empty: Callable[[], Backend],
) -> None:
    run_state_machine_as_test(
        lambda: Routes(empty()),  # type: ignore[arg-type,unused-ignore]
        settings=settings(
            max_examples=10,
            stateful_step_count=30,
            deadline=None,
            suppress_health_check=[HealthCheck.too_slow],
        ),
    )
