"""Leases: what answers is never unloaded."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from adapters.domain.names import Digest, Unit, VersionId
from adapters.domain.versions import ServedVersion
from service.engine.leases import Lease, Leases
from service.engine.shared_residency import SharedResidency
from tests.simulation.engine import SimulatedEngine

ONE, TWO = VersionId(1), VersionId(2)


@pytest.fixture
def residency(tmp_path: Path) -> Iterator[SharedResidency]:
    """The engine holds versions 1 and 2."""
    shared = SharedResidency(tmp_path / "engine")
    for version in (ONE, TWO):
        shared.begin_load(version)
        shared.note_resident(version)
    yield shared
    shared.close()


@pytest.fixture
def leases(residency: SharedResidency, tmp_path: Path) -> Leases:
    engine = SimulatedEngine()
    for version in (ONE, TWO):
        engine.name(served(version), tmp_path)
    return Leases(residency, engine)


def served(version: VersionId) -> ServedVersion:
    return ServedVersion(
        id=version, adapter="support", number=version, unit=Unit("support"), created_at=0.0,
        digest=Digest("a" * 64), base_fingerprint=Digest("b" * 64),
    )  # fmt: skip


def taken(leases: Leases, version: VersionId | None) -> Lease:
    lease = leases.take(version)
    assert lease is not None
    return lease


async def test_a_lease_is_held_while_the_body_runs_and_no_longer(
    leases: Leases, residency: SharedResidency
) -> None:
    with taken(leases, ONE), taken(leases, ONE), taken(leases, TWO):
        assert ONE in leases.held
        assert residency.leased([ONE, TWO]) == {ONE, TWO}
        assert leases.total == 3
    assert ONE not in leases.held
    assert residency.leased([ONE, TWO]) == frozenset()
    assert leases.total == 0


async def test_only_the_last_of_a_versions_leases_lets_it_go(
    leases: Leases, residency: SharedResidency
) -> None:
    first, second = taken(leases, ONE), taken(leases, ONE)
    with second:
        with first:
            pass
        assert residency.leased([ONE]) == {ONE}
    assert residency.leased([ONE]) == frozenset()


async def test_a_lease_is_given_back_however_the_body_ends(leases: Leases) -> None:
    with pytest.raises(RuntimeError), taken(leases, ONE):
        raise RuntimeError
    assert leases.total == 0


async def test_what_the_engine_does_not_hold_has_no_lease(
    leases: Leases, residency: SharedResidency
) -> None:
    assert leases.take(VersionId(3)) is None
    with residency.unused(ONE) as unused:
        assert unused
        assert leases.take(ONE) is None, "it is being unloaded"
    assert leases.total == 0


async def test_drained_waits_for_the_last_and_gives_up_in_time(leases: Leases) -> None:
    assert await leases.drained(0.01)
    with taken(leases, None):
        assert not await leases.drained(0.01)
    assert await leases.drained(0.01)
