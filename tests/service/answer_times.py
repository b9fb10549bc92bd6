"""Prints how long refusals of a foreign thing and of an unknown one take, route by route.

    python -m tests.service.answer_times [requests of each, 100]

What is equal is the work (`test_isolation.py`); this shows what somebody with a watch would see.
"""

from __future__ import annotations

import statistics
import sys
import tempfile
import time
from pathlib import Path

from tests.service.callers import ABOUT_THINGS, FOREIGN, Scene, scene


def milliseconds(made: Scene, number: int, times: int) -> dict[str, float]:
    """The medians, asked in turn by the unit's own key."""
    row = ABOUT_THINGS[number]
    (caller,) = [each for each in made.callers if each.name == "unit"]
    took: dict[str, list[float]] = {FOREIGN: [], "nothing": []}
    for _ in range(times):
        for unit, each in took.items():
            began = time.perf_counter()
            made.ask(caller, row, unit)
            each.append(time.perf_counter() - began)
    return {unit: 1e3 * statistics.median(each) for unit, each in took.items()}


def main() -> None:
    """Of every route that names something and refuses the unit's key for it."""
    times = int(sys.argv[1]) if len(sys.argv) > 1 else 100
    with tempfile.TemporaryDirectory() as folder, scene(Path(folder)) as made:
        (caller,) = [each for each in made.callers if each.name == "unit"]
        for number, row in enumerate(ABOUT_THINGS):
            if made.ask(caller, row, "nothing").status_code not in (400, 404):
                continue
            found = milliseconds(made, number, times)
            name = f"{row.method} {row.template}"
            print(f"{name:70} foreign {found[FOREIGN]:7.2f} ms, unknown {found['nothing']:7.2f} ms")


if __name__ == "__main__":
    main()
