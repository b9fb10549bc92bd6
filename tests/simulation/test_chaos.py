"""The schedule of faults is the same for the same seed, and recoveries are measured honestly."""

from __future__ import annotations

from itertools import islice

from tests.simulation.chaos import FaultKind, Mended, Mix, recoveries, schedule, told
from tests.simulation.history import Command, History, Outcome

MIX = Mix(weights={FaultKind.KILL: 3, FaultKind.PAUSE: 1, FaultKind.RESTART_DATABASE: 2})


def test_the_same_seed_makes_the_same_faults() -> None:
    first, again = (list(islice(schedule(5, MIX, replicas=3), 50)) for _ in range(2))
    assert first == again
    assert first != list(islice(schedule(6, MIX, replicas=3), 50))


def test_every_kind_and_every_replica_gets_its_turn_and_nothing_else() -> None:
    faults = list(islice(schedule(5, MIX, replicas=3), 300))
    assert {fault.kind for fault in faults} == set(MIX.weights)
    assert {fault.index for fault in faults} == {0, 1, 2}
    assert all(MIX.quiet[0] <= fault.after <= MIX.quiet[1] for fault in faults)
    pauses = [fault.lasts for fault in faults if fault.kind is FaultKind.PAUSE]
    assert min(pauses) < 10.0 < max(pauses), "both sides of a replica's silence"


def command(ended: float, outcome: Outcome) -> Command:
    return Command(
        started=0.0, ended=ended, replica="a", alias="x", action="promote", outcome=outcome
    )


def test_what_readiness_does_not_show_the_next_complete_command_does() -> None:
    history = History(
        commands=[
            command(4.0, Outcome.COMPLETE),
            command(6.0, Outcome.UNKNOWN),
            command(7.5, Outcome.COMPLETE),
        ]
    )
    mended = [
        Mended(kind=FaultKind.KILL, at=1.0, seconds=2.0),
        Mended(kind=FaultKind.RESTART_DATABASE, at=5.0, seconds=None),
        Mended(kind=FaultKind.RESTART_DATABASE, at=9.0, seconds=None),
    ]
    assert recoveries(mended, history) == {
        FaultKind.KILL: [2.0],
        FaultKind.RESTART_DATABASE: [2.5],
    }
    assert len(told(mended, history)) == 2
