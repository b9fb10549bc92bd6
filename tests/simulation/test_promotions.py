"""Hundreds of promotions and rollbacks under callers that never stop, while replicas die.

`SIMULATED_COMMANDS` and `SIMULATED_SEED` change the size of the run and repeat one; the history of
a failed run is kept beside its logs.
"""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.simulation.chaos import Chaos, FaultKind, Fleet, Mix, schedule
from tests.simulation.checker import check, summary
from tests.simulation.cluster import Cluster, cluster
from tests.simulation.harness import Plan, Report, drive, unexpected
from tests.simulation.history import Outcome

ALIASES = ("support", "sales", "hr", "legal", "travel", "it")
COMMANDS = int(os.environ.get("SIMULATED_COMMANDS", "500"))
SEED = int(os.environ.get("SIMULATED_SEED", "20"))

TOGGLES = pytest.mark.xfail(
    strict=True, reason="`previous` toggles: a rollback returns to what was rolled back from"
)

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]


def told(report: Report, house: Cluster) -> dict[str, int]:
    """Prints the run; the answer is what is wrong with it, by kind."""
    violations = check(report.history, house.texts)
    print("\n".join(report.lines(violations)))
    if violations:
        report.history.write(house.folder / "history.json")
        print("\n".join(f"{v.kind} {v.alias}: {v.why}: {v.entry}" for v in violations[:20]))
    return summary(violations)


def test_promotions_under_callers_with_one_replica(tmp_path: Path) -> None:
    commands = max(1, COMMANDS // 5)
    with cluster(tmp_path, replicas=1, aliases=ALIASES, WARDROBE_MAX_CPU_LORAS=16) as house:
        fleet = Fleet(replicas=house.replicas)
        fleet.bring_back(house.replicas[0])
        plan = Plan(seed=SEED, commands=commands, aliases=ALIASES, rollbacks=0.0)
        report = drive(house, plan, [], fleet)
        assert told(report, house) == {}
        assert unexpected(report.history, faults=False) == {}


@TOGGLES
def test_promotions_while_replicas_die_and_come_back(tmp_path: Path) -> None:
    weights = {FaultKind.KILL: 5, FaultKind.TERMINATE: 2, FaultKind.PAUSE: 2}
    with cluster(tmp_path, replicas=3, aliases=ALIASES, WARDROBE_MAX_CPU_LORAS=16) as house:
        fleet = Fleet(replicas=house.replicas)
        for replica in house.replicas:
            fleet.bring_back(replica)
        plan = Plan(seed=SEED, commands=COMMANDS, aliases=ALIASES)
        faults = schedule(SEED, Mix(weights=weights), replicas=len(house.replicas))
        report = drive(house, plan, [(Chaos(fleet=fleet), faults)], fleet)
        assert told(report, house) == {}
        assert unexpected(report.history, faults=True) == {}
        assert sum(c.outcome is Outcome.COMPLETE for c in report.history.commands) > COMMANDS // 2
