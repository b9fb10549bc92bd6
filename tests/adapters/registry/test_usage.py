"""Usage by day, as every registry adds it up."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

from adapters.domain.limits import Traffic
from adapters.domain.names import Unit
from adapters.domain.principals import SYSTEM, Principal, Role
from adapters.registry import Registry
from adapters.registry.ports import DayUsage, UsageKey, Used
from tests.adapters.registry.backends import Clock

DAY = 86_400.0


def key(unit: str = "support", version: str = "support:1") -> UsageKey:
    return UsageKey(unit=unit, alias=unit, version=version, traffic=Traffic.INTERACTIVE)


def used(times: int = 1) -> Used:
    return Used(
        requests=times, prompt_tokens=10 * times, completion_tokens=3 * times, cost_nano=7 * times
    )


def all_days(registry: Registry, principal: Principal = SYSTEM) -> list[DayUsage]:
    return list(registry.usage.days(principal, since=0, until=10**6))


def test_batches_add_up_by_day_and_key(registry: Registry, clock: Clock) -> None:
    registry.usage.add("one", 1, [(key(), used()), (key(version="base"), used())])
    registry.usage.add("two", 1, [(key(), used(2))])
    clock.pass_by(DAY)
    registry.usage.add("one", 2, [(key(), used(5))])
    found = all_days(registry)
    assert [(each.key.version, each.used) for each in found] == [
        ("base", used()),
        ("support:1", used(3)),
        ("support:1", used(5)),
    ]
    assert found[2].day == found[0].day + 1
    assert registry.usage.days(SYSTEM, since=found[2].day, until=found[2].day + 1) == [found[2]]


def test_a_batch_that_is_told_again_is_added_once(registry: Registry) -> None:
    for batch in (1, 1, 2, 1, 2):
        registry.usage.add("one", batch, [(key(), used())])
    assert [each.used for each in all_days(registry)] == [used(2)]


def test_a_unit_sees_its_own(registry: Registry) -> None:
    registry.usage.add("one", 1, [(key(), used()), (key(unit="hr"), used())])
    support = Principal(id="key_1", role=Role.UNIT, unit=Unit("support"))
    assert [each.key.unit for each in all_days(registry, support)] == ["support"]
    trainer = Principal(id="key_2", role=Role.TRAINER, unit=None)
    assert all_days(registry, trainer) == []


def test_one_versions_use_is_told_of_all_days_and_of_no_other(
    registry: Registry, clock: Clock
) -> None:
    registry.usage.add("one", 1, [(key(), used()), (key(version="support:10"), used(9))])
    clock.pass_by(40 * DAY)
    registry.usage.add("one", 2, [(key(), used(2)), (key(unit="hr"), used(5))])
    support = Principal(id="key_1", role=Role.UNIT, unit=Unit("support"))
    found = registry.usage.of_version(support, "support:1")
    assert [each.used for each in found] == [used(), used(2)]


def test_writers_at_once_lose_nothing(registry: Registry) -> None:
    def write(writer: int) -> None:
        for batch in range(1, 11):
            registry.usage.add(f"w{writer}", batch, [(key(version=f"v{n}"), used()) for n in "ab"])

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(write, range(4)))
    assert [each.used for each in all_days(registry)] == [used(40), used(40)]


def test_an_amount_of_nobodys_mind_is_kept(registry: Registry) -> None:
    most = Used(requests=1, prompt_tokens=10**15, completion_tokens=1, cost_nano=10**18)
    registry.usage.add("one", 1, [(key(), most)])
    assert [each.used for each in all_days(registry)] == [most]
