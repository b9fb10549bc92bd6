"""The routing table: which name means what, and whose prefix cache is whose."""

from __future__ import annotations

from adapters.domain.names import Alias, Unit, VersionId
from adapters.domain.principals import Caller, Role
from adapters.domain.routes import Route
from adapters.registry import Snapshot
from service.reconcile.route_table import RoutingTable, build_table
from tests.service.reconcile.test_plan import version

BASE = "the-base"


def table(alias: str) -> RoutingTable:
    route = Route(alias=Alias(alias), unit=Unit("support"), stable=VersionId(1))
    snapshot = Snapshot(
        revision=1,
        routes={route.alias: route},
        rollouts=(),
        versions={VersionId(1): version(1)},
        keys=(),
    )
    return build_table(snapshot, base_name=BASE, pepper=b"pepper")


def test_an_alias_called_like_the_base_does_not_hide_the_base() -> None:
    caller = Caller(key_id="key_1", role=Role.UNIT, unit=Unit("support"))
    assert table(BASE).resolve(BASE, caller).version is None
    assert table("support").resolve("support", caller).version == version(1)


def test_a_unit_called_like_a_role_shares_no_prefix_cache_with_it() -> None:
    routes = table("support")
    unit = Caller(key_id="key_1", role=Role.UNIT, unit=Unit("admin"))
    admin = Caller(key_id="key_2", role=Role.ADMIN, unit=None)
    assert routes.resolve(BASE, unit).salt != routes.resolve(BASE, admin).salt
