"""What every registry does with permissions to be answered by another unit's version."""

from __future__ import annotations

import pytest

from adapters.domain.names import Unit, new_permission_id
from adapters.domain.pages import Page
from adapters.domain.permissions import Permission
from adapters.domain.versions import ServedVersion
from adapters.errors import Conflict, NotFound, NotPermitted
from adapters.registry import Registry
from tests.adapters.registry.values import (
    ADMIN,
    ALIASES,
    OWNER,
    SALES,
    a_gate,
    judged,
    published,
)

HR = Unit("hr")


def served(registry: Registry, since: int = -1) -> dict[str, ServedVersion]:
    return {each.name: each for each in registry.routes.changes(since).versions}


def test_replicas_are_told_with_whom_a_version_is_shared_and_when_it_ends(
    registry: Registry,
) -> None:
    version, other = published(registry), published(registry)
    seen = registry.routes.revision()
    sales, _hr = registry.permissions.grant(version.id, [SALES, HR], ADMIN)
    assert {n: v.shared_with for n, v in served(registry, seen).items()} == {
        version.name: {SALES, HR}
    }
    assert served(registry)[version.name].shared_with == {SALES, HR}
    assert served(registry)[other.name].shared_with == frozenset()
    seen = registry.routes.revision()
    registry.permissions.withdraw(version.id, sales.id, ADMIN)
    assert served(registry, seen)[version.name].shared_with == {HR}


def test_a_permission_that_is_there_already_stays_as_it_is(registry: Registry) -> None:
    version = published(registry)
    first = registry.permissions.grant(version.id, [SALES], ADMIN)
    seen = registry.routes.revision()
    assert registry.permissions.grant(version.id, [SALES, SALES], ADMIN) == first
    assert registry.routes.revision() == seen


def test_permissions_are_listed_in_pages_and_by_unit(registry: Registry) -> None:
    version, other = published(registry), published(registry)
    units = [SALES, HR, Unit("legal")]
    made = list(registry.permissions.grant(version.id, units, ADMIN))
    elsewhere = registry.permissions.grant(other.id, [HR], ADMIN)[0]

    def listed(
        after: str | None = None, unit: Unit | None = None, *, newest: bool = True
    ) -> Page[Permission]:
        return registry.permissions.list(
            version.id, ADMIN, unit=unit, after=after, limit=2, newest_first=newest
        )

    assert listed().items == made[:0:-1]
    assert listed().has_more
    assert listed(made[1].id).items == [made[0]]
    assert listed(newest=False).items == made[:2]
    assert listed(made[1].id, newest=False).items == [made[2]]
    assert listed(unit=HR).items == [made[1]]
    with pytest.raises(NotFound):
        listed(elsewhere.id)


def test_only_who_sees_every_unit_shares_a_version(registry: Registry) -> None:
    version = published(registry)
    (permission,) = registry.permissions.grant(version.id, [SALES], ADMIN)
    with pytest.raises(NotPermitted):
        registry.permissions.grant(version.id, [HR], OWNER)
    with pytest.raises(NotPermitted):
        registry.permissions.withdraw(version.id, permission.id, OWNER)


def test_what_is_not_there_is_not_shared_and_not_ended(registry: Registry) -> None:
    version, other = published(registry), published(registry)
    (permission,) = registry.permissions.grant(version.id, [SALES], ADMIN)
    for version_id, permission_id in (
        (other.id, permission.id),
        (version.id, new_permission_id()),
    ):
        with pytest.raises(NotFound):
            registry.permissions.withdraw(version_id, permission_id, ADMIN)
    registry.permissions.withdraw(version.id, permission.id, ADMIN)
    with pytest.raises(NotFound):
        registry.permissions.withdraw(version.id, permission.id, ADMIN)


def test_a_version_that_is_never_served_again_is_not_shared(registry: Registry) -> None:
    retired = registry.versions.retire(published(registry).id, OWNER, aliases=ALIASES)
    rejected = judged(registry, a_gate(passed=False))
    for version, code in ((retired, "version_retired"), (rejected, "version_rejected")):
        with pytest.raises(Conflict) as refused:
            registry.permissions.grant(version.id, [SALES], ADMIN)
        assert refused.value.reason == code
