"""Units that change while the service runs."""

from __future__ import annotations

import time
from collections.abc import Callable

from tests.service.world import World

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
