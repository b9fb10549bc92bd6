"""One unit's flood is refused or waits in its own lane; the others are all answered.

The short version of `benchmarks/flood.py`, on the simulated engine: nothing is timed here.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx2
import pytest

from adapters.settings import Settings
from benchmarks.flood import CALM, FLOOD, Shape, measure, ratios
from tests.simulation.cluster import Cluster, cluster

pytestmark = pytest.mark.slow
PACE, SHARE, SECONDS = 4.0, 2.0, 4.0


def shape(*, unlimited: bool) -> Shape:
    return Shape(seconds=SECONDS, blocks=2, pace=PACE, share=SHARE, unlimited=unlimited, tokens=4)


@contextmanager
def served(folder: Path, limits: str, **environment: Any) -> Iterator[tuple[Cluster, Settings]]:
    """One replica with a live version for each unit, and limits for the flood's."""
    with cluster(folder, replicas=1, aliases=(FLOOD, *CALM), **environment) as house:
        file = folder / "units" / f"{FLOOD}.yaml"
        file.write_text(f"unit: {FLOOD}\naliases: [{FLOOD}]\n{limits}")
        (replica,) = house.replicas
        replica.wait_ready()
        for alias in (FLOOD, *CALM):
            url = f"{replica.url}/v1/adapters/{alias}/promote"
            body = {"version": house.publish(alias)}
            answer = httpx2.post(url, json=body, headers=house.headers, timeout=60)
            assert answer.json()["state"] == "complete"
        yield house, house.settings.model_copy(update={"port": replica.port})


@pytest.mark.parametrize("unlimited", [False, True])
async def test_a_flood_is_kept_to_its_share_and_everybody_else_is_answered(
    tmp_path: Path, unlimited: bool
) -> None:
    limits = "" if unlimited else f"limits: {{requests_per_minute: {round(SHARE * 60)}}}\n"
    environment: dict[str, Any] = {"SIMULATED_STEP_SECONDS": 0.02, "WARDROBE_SHARED_SEQUENCES": 6}
    with served(tmp_path, limits, **environment) as (_, settings):
        keys = json.loads(settings.state_folder.keys.read_text("utf-8"))["units"]
        idle, flooded, answers = await measure(settings, keys, shape(unlimited=unlimited))
    asked = 2 * PACE * SECONDS
    for side in (idle, flooded):
        assert sum(len(block.whole) for block in side) >= asked - 4
    found = ratios(idle, flooded)
    for name, ratio in found.items():
        print(f"{name}: {ratio.bare * 1000:.0f} ms idle, {ratio.wardrobe * 1000:.0f} ms beside it")
    assert set(found) == {"latency_p50", "latency_p99", "ttft_p50", "ttft_p99"}
    assert set(answers) == ({200} if unlimited else {200, 429})
    if not unlimited:
        assert answers[200] <= SHARE * 60
        assert answers[429] > answers[200], "fifty times its share"
