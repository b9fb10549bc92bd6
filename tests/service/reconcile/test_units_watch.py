"""Units that change while the service runs."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

from prometheus_client import CollectorRegistry

from adapters.domain.names import Unit
from adapters.domain.units import Units
from adapters.errors import StorageFull
from service.metrics import Metrics
from service.reconcile.units_watch import UnitsWatch
from tests.service.world import World, write_units

SOON = 6.0


def soon(condition: Callable[[], bool]) -> bool:
    deadline = time.monotonic() + SOON
    while time.monotonic() < deadline:
        if condition():
            return True
        time.sleep(0.1)
    return False


def test_a_new_unit_works_without_a_restart(world: World) -> None:
    units = world.settings.units
    (units / "legal.yaml").write_text("unit: legal\naliases: [legal]\n")

    def has_key() -> bool:
        try:
            return bool(world.key("legal"))
        except KeyError:
            return False

    assert soon(has_key)
    assert soon(lambda: world.http("legal").get("/v1/models").status_code == 200)
    assert soon(lambda: world.http("legal").get("/v1/adapters/legal").status_code == 200)


def test_a_folder_with_a_mistake_leaves_the_last_good_units_in_force(world: World) -> None:
    invalid = "wardrobe_units_folder_invalid"
    (world.settings.units / "hr.yaml").write_text("unit: hr\naliases: [support]\n")
    assert soon(lambda: world.prometheus.get_sample_value(invalid) == 1)
    assert world.http("hr").get("/v1/adapters/hr").status_code == 200
    (world.settings.units / "hr.yaml").write_text("unit: hr\naliases: [hr]\n")
    assert soon(lambda: world.prometheus.get_sample_value(invalid) == 0)


async def test_a_change_that_cannot_be_put_into_force_is_counted_and_tried_again(
    tmp_path: Path,
) -> None:
    answers: list[Exception | None] = [StorageFull("no room for keys"), OSError("no"), None]

    def on_change(_: Units) -> None:
        answer = answers.pop(0)
        if answer is not None:
            raise answer

    invalid = "wardrobe_units_folder_invalid"
    prometheus = CollectorRegistry()
    write_units(tmp_path)
    watch = UnitsWatch(tmp_path, Metrics(prometheus), on_change=on_change)
    (tmp_path / "legal.yaml").write_text("unit: legal\naliases: [legal]\n")
    for _ in range(2):
        assert await watch.attempt() is False
        assert prometheus.get_sample_value(invalid) == 1
        assert Unit("legal") not in watch.current.units.by_name
    assert await watch.attempt()
    assert prometheus.get_sample_value(invalid) == 0
    assert Unit("legal") in watch.current.units.by_name
    assert await watch.attempt()
    assert answers == []


async def test_a_unit_that_is_gone_is_out_of_force_even_while_the_rest_cannot_be_put_into_force(
    tmp_path: Path,
) -> None:
    def on_change(_: Units) -> None:
        raise StorageFull("no room for keys")

    write_units(tmp_path)
    watch = UnitsWatch(tmp_path, Metrics(CollectorRegistry()), on_change=on_change)
    (tmp_path / "sales.yaml").unlink()
    (tmp_path / "legal.yaml").write_text("unit: legal\naliases: [legal]\n")
    assert await watch.attempt() is False
    assert sorted(watch.current.units.by_name) == ["hr", "support"]
    assert sorted(watch.current.units.owner_of) == ["hr", "hr-screening", "support"]
