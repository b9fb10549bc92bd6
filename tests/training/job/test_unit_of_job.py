"""A unit that is read while someone edits the folder."""

from __future__ import annotations

import pytest

from adapters.errors import NotFound, Unavailable
from tests.training.world import World
from training.job.unit_of_job import wait_for_unit


def test_a_folder_that_stays_broken_is_waited_for_with_bounds_and_not_shown(world: World) -> None:
    (world.units / "secret-project.yaml").write_text("unit: [")
    clock = iter(range(0, 10_000, 100))
    pauses: list[int] = []
    with pytest.raises(Unavailable) as caught:
        wait_for_unit(
            world.units,
            "support",
            clock=lambda: float(next(clock)),
            pause=lambda: pauses.append(1),
        )
    assert len(pauses) == 5
    assert "secret-project" not in caught.value.message
    assert caught.value.reason == "settings_unavailable"


def test_a_unit_that_is_not_there_is_not_waited_for(world: World) -> None:
    with pytest.raises(NotFound):
        wait_for_unit(world.units, "sales", clock=lambda: 0.0, pause=lambda: None)
