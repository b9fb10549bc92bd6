"""The route table: which name means what, whose it is, and what a change costs."""

from __future__ import annotations

import inspect
import time
from dataclasses import replace
from types import MappingProxyType
from typing import Any

import pytest

from adapters.domain.api_keys import Key
from adapters.domain.names import Alias, Digest, Unit, VersionId
from adapters.domain.principals import Principal, Role, Scope
from adapters.domain.routes import Canary, Route, Shadow
from adapters.domain.units import UnitConfig, Units
from adapters.domain.versions import ServedVersion
from adapters.errors import NotFound
from adapters.registry.ports import Changes
from service.reconcile.route_table import RouteTable, drawn

BASE = "the-base"
SUPPORT = Principal(id="key_1", role=Role.UNIT, unit=Unit("support"))
SALES = Principal(id="key_2", role=Role.UNIT, unit=Unit("sales"))
ADMIN = Principal(id="key_3", role=Role.ADMIN, unit=None)


def units(**aliases: list[str]) -> Units:
    by_name = {Unit(unit): UnitConfig(unit=unit, aliases=named) for unit, named in aliases.items()}
    owner_of = {Alias(alias): Unit(unit) for unit, named in aliases.items() for alias in named}
    return Units(MappingProxyType(by_name), MappingProxyType(owner_of))


class Configured:
    """A table, and the units in force, which a test may change."""

    def __init__(self, **aliases: list[str]) -> None:
        self.units = units(**aliases)
        self.now = 0.0
        self.table = RouteTable(
            base_name=BASE,
            pepper=b"pepper",
            units=lambda: self.units,
            clock=lambda: self.now,
        )
        self._revision = 0

    def apply(self, *changed: Route | ServedVersion | Key) -> None:
        self._revision += 1
        self.table.apply(
            Changes(
                revision=self._revision,
                routes=[one for one in changed if isinstance(one, Route)],
                versions=[one for one in changed if isinstance(one, ServedVersion)],
                keys=[one for one in changed if isinstance(one, Key)],
            )
        )

    def serves(self, model: str, principal: Principal) -> str | None:
        try:
            return self.table.resolve(model, principal).model
        except NotFound:
            return None


def version(number: int, unit: str = "support", *, servable: bool = True) -> ServedVersion:
    return ServedVersion(
        id=VersionId(number), adapter="support", number=number, unit=Unit(unit), created_at=0.0,
        digest=Digest("a" * 64), base_fingerprint=Digest("b" * 64), servable=servable,
    )  # fmt: skip


def route(alias: str, number: int, unit: str = "support") -> Route:
    return Route(alias=Alias(alias), unit=Unit(unit), stable=VersionId(number), generation=number)


def key(principal: Principal, *, revoked_at: float | None = None) -> Key:
    return Key(
        id=principal.id, role=principal.role, unit=principal.unit, hash=principal.id,
        created_at=0.0, revoked_at=revoked_at,
    )  # fmt: skip


def test_a_key_is_known_until_its_end_by_this_processes_clock() -> None:
    at = Configured(support=["support"])
    at.apply(replace(key(SUPPORT), expires_at=10.0))
    at.now = 9.0
    assert at.table.principal(SUPPORT.id) == SUPPORT
    at.now = 10.0
    assert at.table.principal(SUPPORT.id) is None


def test_a_holder_whose_last_key_ends_soon_is_counted_and_one_that_rotates_is_not() -> None:
    at = Configured(support=["support"], sales=["sales"])
    shop = replace(key(SUPPORT), name="shop", expires_at=50.0)
    at.apply(shop)
    at.apply(replace(key(SALES), name="crm", expires_at=500.0))
    at.now = 1.0
    assert at.table.keys_ending(100.0) == {"support": 1}
    at.apply(replace(shop, id="key_next", hash="key_next", expires_at=500.0))
    assert at.table.keys_ending(100.0) == {}
    assert at.table.keys_ending(1000.0) == {"support": 1, "sales": 1}
    at.apply(replace(shop, id="key_next", hash="key_next", expires_at=500.0, revoked_at=2.0))
    assert at.table.keys_ending(100.0) == {"support": 1}
    at.now = 60.0
    assert at.table.keys_ending(100.0) == {}, "it has ended"
    at.apply(key(SUPPORT))
    assert at.table.keys_ending(1e9) == {"sales": 1}, "a key that never ends"


def test_the_table_knows_whether_keys_of_earlier_builds_are_in_force() -> None:
    at = Configured(support=["support"])
    found = []
    for changed in (key(SUPPORT), key(SALES), key(SALES, revoked_at=1.0)):
        at.apply(replace(changed, hash_version=1 if changed.id == SALES.id else 2))
        found.append(at.table.knows_old_hashes)
    assert found == [False, True, False]


def test_the_base_is_unknown_to_whom_it_is_not_granted() -> None:
    at = Configured(support=[BASE, "support"])
    at.apply(version(1), route(BASE, 1))
    without = replace(SUPPORT, scopes=frozenset({Scope.INFER}))
    with pytest.raises(NotFound) as refused:
        at.table.resolve(BASE, without)
    with pytest.raises(NotFound) as missing:
        at.table.resolve("nothing", without)
    assert refused.value.message == missing.value.message
    assert BASE not in dict(at.table.visible(without))


def test_a_key_for_one_alias_sees_that_alias_and_its_versions_alone() -> None:
    at = Configured(support=["support", "triage"])
    at.apply(version(1), route("support", 1), route("triage", 1))
    some = replace(SUPPORT, aliases=frozenset({Alias("support")}))
    assert list(dict(at.table.visible(some))) == ["support", "support:1"]
    with pytest.raises(NotFound):
        at.table.resolve("triage", some)


def test_an_alias_called_like_the_base_does_not_hide_the_base() -> None:
    at = Configured(support=[BASE, "support"])
    at.apply(version(1), route(BASE, 1), route("support", 1))
    assert at.table.resolve(BASE, SUPPORT).version is None
    assert at.table.resolve("support", SUPPORT).version == version(1)


def test_a_unit_called_like_a_role_shares_no_prefix_cache_with_it() -> None:
    at = Configured(support=["support"])
    unit = Principal(id="key_1", role=Role.UNIT, unit=Unit("admin"))
    assert at.table.resolve(BASE, unit).salt != at.table.resolve(BASE, ADMIN).salt


def test_a_flip_moves_the_alias_and_leaves_the_versions_names() -> None:
    at = Configured(support=["support"])
    at.apply(version(1), version(2), route("support", 1))
    at.apply(route("support", 2))
    assert at.serves("support", SUPPORT) == "support:2"
    assert at.serves("support:1", SUPPORT) == "support:1"
    assert [each.name for each in at.table.live().values()] == ["support:2"]


def test_what_is_not_servable_any_more_is_forgotten_with_what_led_there() -> None:
    at = Configured(support=["support"])
    at.apply(version(1), route("support", 1))
    at.apply(version(1, servable=False))
    assert at.serves("support:1", SUPPORT) is None
    assert at.serves("support", SUPPORT) is None
    assert at.table.versions == {}


def test_another_units_names_look_unknown() -> None:
    at = Configured(support=["support"], sales=["sales"])
    at.apply(version(1), route("support", 1))
    assert at.serves("support", SALES) is None
    assert at.serves("support:1", SALES) is None
    assert at.serves("support", ADMIN) == "support:1"


def test_an_alias_that_moved_to_another_unit_starts_anew() -> None:
    at = Configured(support=["support"], sales=["sales"])
    at.apply(version(1), route("support", 1))
    at.units = units(support=["other"], sales=["sales", "support"])
    for principal in (SUPPORT, SALES, ADMIN):
        assert at.serves("support", principal) is None
    begun = at.table.route(Alias("support"), Unit("sales"))
    assert (begun.stable, begun.generation, begun.unit) == (None, 1, "sales")
    assert at.table.live() == {}
    assert at.serves("support:1", SUPPORT) == "support:1", "the version is still its unit's"


def test_a_deleted_units_keys_aliases_and_versions_are_refused_at_once() -> None:
    at = Configured(support=["support"], sales=["sales"])
    at.apply(version(1), route("support", 1), key(SUPPORT), key(SALES), key(ADMIN))
    at.units = units(sales=["sales"])
    assert at.table.principal("key_1") is None
    assert at.table.principal("key_2") == SALES
    assert at.serves("support", ADMIN) is None
    assert at.serves("support:1", ADMIN) is None
    assert [name for name, _ in at.table.visible(ADMIN)] == []
    assert at.table.live() == {}


def test_a_revoked_key_is_forgotten() -> None:
    at = Configured(support=["support"])
    at.apply(key(SUPPORT))
    assert at.table.principal("key_1") == SUPPORT
    at.apply(key(SUPPORT, revoked_at=1.0))
    assert at.table.principal("key_1") is None


@pytest.mark.parametrize("method", [RouteTable.apply, RouteTable.resolve, RouteTable.live])
def test_neither_end_of_the_window_can_be_interrupted(method: object) -> None:
    assert not inspect.iscoroutinefunction(method)


def microseconds_of_a_flip(versions: int) -> float:
    at = Configured(support=["support"])
    at.apply(*(version(number) for number in range(1, versions + 1)), route("support", 1))
    began = time.perf_counter()
    for number in range(200):
        at.apply(route("support", 1 + number % versions))
    return (time.perf_counter() - began) / 200 * 1e6


def test_a_flip_costs_the_same_among_ten_thousand_versions_as_among_ten() -> None:
    few, many = microseconds_of_a_flip(10), microseconds_of_a_flip(10_000)
    assert many < 5 * few + 50, f"{few:.0f} µs among 10, {many:.0f} µs among 10,000"


def test_what_a_restored_registry_does_not_have_is_forgotten() -> None:
    configured = Configured(support=["support"])
    configured.apply(version(1), key(SUPPORT))
    configured.apply(version(2), route("support", 2), key(SALES))
    table = configured.table
    table.apply(Changes(revision=1, versions=[version(1)], keys=[key(SUPPORT)]))
    assert configured.serves("support:1", SUPPORT) == "support:1"
    assert configured.serves("support:2", SUPPORT) is None
    assert configured.serves("support", SUPPORT) is None
    assert table.principal(key(SUPPORT).hash) is not None
    assert table.principal(key(SALES).hash) is None


# -- canaries, shadows and pins


def split(weight: float, *, share: float = 0.0, trial: int = 5) -> Route:
    """Version 1 is stable, 2 its canary, 3 its shadow."""
    return replace(
        route("support", 1),
        canary=Canary(version=VersionId(2), weight=weight, rollout=trial),
        shadow=Shadow(version=VersionId(3), share=share, rollout=trial + 1),
    )


def canaried(weight: float, **more: Any) -> Configured:
    at = Configured(support=["support"])
    at.apply(version(1), version(2), version(3), split(weight, **more))
    return at


def in_canary(at: Configured, lots: int = 2_000) -> set[str]:
    asked = (f"user {number}" for number in range(lots))
    resolve = at.table.resolve
    return {lot for lot in asked if resolve("support", SUPPORT, lot).model == "support:2"}


def test_a_canary_answers_about_its_part() -> None:
    assert in_canary(canaried(0.0)) == set()
    assert 60 <= len(in_canary(canaried(5.0))) <= 140
    assert len(in_canary(canaried(100.0))) == 2_000


def test_whoever_is_in_a_canary_stays_in_it_at_a_higher_weight() -> None:
    at, before = canaried(1.0), set[str]()
    for weight in (1.0, 5.0, 20.0, 20.5, 80.0):
        at.apply(split(weight))
        now = in_canary(at)
        assert before <= now
        before = now


def test_a_lot_falls_the_same_in_every_process_and_differently_in_the_next_canary() -> None:
    first = in_canary(canaried(20.0))
    assert in_canary(canaried(20.0)) == first
    later = in_canary(canaried(20.0, trial=9))
    assert 0.1 < len(first & later) / len(first) < 0.3


def test_who_is_in_a_canary_cannot_be_told_without_the_key() -> None:
    lots = [f"user {number}" for number in range(1_000)]
    mine = {lot for lot in lots if drawn(b"a" * 32, 5, lot) < 20.0}
    others = {lot for lot in lots if drawn(b"b" * 32, 5, lot) < 20.0}
    assert 0.1 < len(mine & others) / len(mine) < 0.3


def test_both_arms_of_a_canary_are_counted_for_it_and_a_version_by_its_name_is_not() -> None:
    at = canaried(50.0)
    found = {at.table.resolve("support", SUPPORT, f"{lot}") for lot in range(50)}
    assert {(target.model, target.trial) for target in found} == {
        ("support:1", 5),
        ("support:2", 5),
    }
    assert at.table.resolve("support:2", SUPPORT, "1").trial is None


def test_who_only_looks_gets_the_stable_version() -> None:
    assert canaried(100.0).serves("support", SUPPORT) == "support:1"


def test_a_shadow_is_named_with_the_stable_version_and_draws_by_itself() -> None:
    at = canaried(0.0, share=10.0)
    shadow = at.table.resolve("support", SUPPORT, "1").shadow
    assert shadow is not None
    assert shadow.target.model == "support:3"
    copied = sum(at.table.draws(shadow, f"req_{number}") for number in range(2_000))
    assert 140 <= copied <= 260


def test_a_canary_that_is_not_servable_any_more_leaves_the_stable_version_alone() -> None:
    at = canaried(100.0)
    at.apply(version(2, servable=False))
    target = at.table.resolve("support", SUPPORT, "1")
    assert (target.model, target.trial) == ("support:1", None)


def test_what_must_be_resident_is_what_answers_then_what_is_compared_then_what_is_pinned() -> None:
    at = canaried(5.0)
    at.apply(replace(version(4), pinned=True))
    assert [each.number for each in at.table.required()] == [1, 2, 3, 4]
    assert at.table.trials == {5, 6}
    at.apply(version(4))
    assert [each.number for each in at.table.required()] == [1, 2, 3]


def test_a_shared_version_is_the_other_units_under_its_own_name_and_salt() -> None:
    at = Configured(support=["support"], sales=["sales"])
    at.apply(replace(version(1), shared_with=frozenset({Unit("sales")})), route("support", 1))
    mine, theirs = (at.table.resolve("support:1", each) for each in (SUPPORT, SALES))
    assert (mine.unit, theirs.unit, theirs.model) == ("support", "sales", "support:1")
    assert mine.salt != theirs.salt
    assert at.serves("support", SALES) is None, "an alias is never shared"
    assert [name for name, _ in at.table.visible(SALES)] == ["support:1"]
    for less in (
        replace(SALES, scopes=frozenset({Scope.TRAIN})),
        replace(SALES, aliases=frozenset({Alias("sales")})),
    ):
        assert at.serves("support:1", less) is None
        assert not at.table.visible(less)


def test_what_is_shared_ends_with_the_permission_the_version_and_its_unit() -> None:
    shared = replace(version(1), shared_with=frozenset({Unit("sales")}))
    for ended in (version(1), replace(shared, servable=False)):
        at = Configured(support=["support"], sales=["sales"])
        at.apply(shared)
        assert at.serves("support:1", SALES) == "support:1"
        at.apply(ended)
        assert at.serves("support:1", SALES) is None
        assert not at.table.visible(SALES)
    orphaned = Configured(sales=["sales"])
    orphaned.apply(shared)
    assert orphaned.serves("support:1", SALES) is None
