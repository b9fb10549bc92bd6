"""Leases: what answers is never unloaded."""

from __future__ import annotations

import pytest

from adapters.domain.names import VersionId
from service.gateway.leases import Leases

ONE, TWO = VersionId(1), VersionId(2)


async def test_a_lease_is_held_while_the_body_runs_and_no_longer() -> None:
    leases = Leases()
    with leases.hold(ONE, "support"), leases.hold(ONE, "support"), leases.hold(TWO, "hr"):
        assert leases.held == {ONE, TWO}
        assert (leases.of_unit("support"), leases.of_unit("hr"), leases.total) == (2, 1, 3)
    assert leases.held == frozenset()
    assert (leases.of_unit("support"), leases.total) == (0, 0)


async def test_a_lease_is_given_back_however_the_body_ends() -> None:
    leases = Leases()
    with pytest.raises(RuntimeError), leases.hold(ONE, "support"):
        raise RuntimeError
    assert leases.total == 0


async def test_drained_waits_for_the_last_and_gives_up_in_time() -> None:
    leases = Leases()
    assert await leases.drained(0.01)
    with leases.hold(None, "support"):
        assert not await leases.drained(0.01)
    assert await leases.drained(0.01)
