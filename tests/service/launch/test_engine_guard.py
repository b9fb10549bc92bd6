"""What the supervisor learns of an engine: how its deaths are called, whether it hangs."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from service.engine.quarantine import Quarantine
from service.engine.quarantine_record import QuarantineRecord
from service.engine.vital_signs import VitalSigns
from service.launch.engine_guard import RECOVERED_AFTER, EngineGuard
from service.launch.out_of_memory import OomKills, oom_kills


class World:
    """One guard, with a clock and a kernel by hand."""

    def __init__(self, folder: Path) -> None:
        self.now = 100.0
        self.kills = OomKills(group=3, machine=7)
        self.signs = VitalSigns(folder / "signs", clock=self.clock)
        self.record = QuarantineRecord(folder / "in-flight")
        self.folder = folder
        self.guard = EngineGuard(
            self.signs,
            self.record,
            longest_silence=60.0,
            kills=lambda: self.kills,
            clock=self.clock,
        )

    def clock(self) -> float:
        return self.now

    def hangs_within(self, seconds: float) -> bool:
        """Whether it ever seems to hang while it is looked at once a second."""
        hung = False
        for _ in range(int(seconds)):
            self.now += 1.0
            hung = self.guard.hangs() or hung
        return hung

    def reasons(self) -> set[str]:
        return {reason for reason, count in self.signs.restarts.items() if count}


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    made = World(tmp_path)
    with closing(made.signs), closing(made.record):
        made.guard.starting()
        yield made


@pytest.mark.parametrize(
    ("code", "hung", "kills", "reason"),
    [
        (1, False, OomKills(group=3, machine=7), "exit"),
        (0, False, OomKills(group=3, machine=9), "exit"),
        (-signal.SIGSEGV, False, OomKills(group=3, machine=9), "signal"),
        (-signal.SIGKILL, False, OomKills(group=3, machine=7), "signal"),
        (-signal.SIGKILL, False, OomKills(group=3, machine=8), "out_of_memory"),
        (-signal.SIGKILL, False, OomKills(group=4, machine=8), "out_of_memory"),
        (1, False, OomKills(group=4, machine=8), "out_of_memory"),
        (0, True, OomKills(group=4, machine=8), "unresponsive"),
    ],
)
def test_a_death_is_called_by_what_it_was(
    world: World, code: int, hung: bool, kills: OomKills, reason: str
) -> None:
    world.kills = kills
    world.guard.ended(code, hung=hung, delay=1.0)
    assert world.reasons() == {reason}


def test_kills_of_an_earlier_life_explain_no_later_death(world: World) -> None:
    world.kills = OomKills(group=4, machine=8)
    world.guard.ended(-signal.SIGKILL, hung=False, delay=1.0)
    world.guard.starting()
    world.guard.ended(-signal.SIGKILL, hung=False, delay=1.0)
    assert world.signs.restarts["out_of_memory"] == world.signs.restarts["signal"] == 1


def test_it_hangs_when_one_voice_is_missing_for_too_long_and_never_while_it_starts(
    world: World,
) -> None:
    assert not world.hangs_within(10_000.0), "a large base may take its time"
    world.signs.note_core()
    assert not world.hangs_within(59.0)
    world.signs.note_loop(0)
    assert world.hangs_within(2.0), "the loop turns, and the core does not answer"
    world.guard.starting()
    assert not world.guard.hangs()


def test_after_a_pause_of_everything_everybody_may_be_heard_again(world: World) -> None:
    world.signs.note_core()
    assert not world.hangs_within(30.0)
    world.now += 5_000.0
    assert not world.hangs_within(50.0)
    world.signs.note_core()
    assert not world.hangs_within(59.0)
    assert world.hangs_within(2.0)


def test_what_a_start_takes_is_no_good_run(world: World) -> None:
    world.now += 500.0
    assert not world.guard.recovered()
    world.guard.note_ready()
    world.now += RECOVERED_AFTER - 1.0
    assert not world.guard.recovered()
    world.guard.note_ready()
    world.now += 1.0
    assert world.guard.recovered()
    world.guard.starting()
    assert not world.guard.recovered()


def test_what_an_engine_died_of_is_suspected_and_what_a_stop_cut_off_is_not(world: World) -> None:
    with closing(Quarantine(world.folder / "in-flight", key=b"k", alive=lambda: True)) as life:
        life.begin(b"x")
    world.guard.starting()
    assert [one.deaths for one in world.record.suspects()] == [1]
    with closing(Quarantine(world.folder / "in-flight", key=b"k", alive=lambda: True)) as life:
        life.begin(b"y")
    world.guard.stopping()
    world.guard.stopped()
    world.guard.starting()
    assert len(world.record.suspects()) == 1


def test_the_kernel_is_asked_for_our_own_control_group(tmp_path: Path) -> None:
    group = tmp_path / "sys/fs/cgroup/pods/this"
    group.mkdir(parents=True)
    (group / "memory.events").write_text("low 0\noom 3\noom_kill 2\noom_group_kill 1\n")
    (tmp_path / "proc/self").mkdir(parents=True)
    (tmp_path / "proc/self/cgroup").write_text("0::/pods/this\n")
    (tmp_path / "proc/vmstat").write_text("pgfault 12\noom_kill 5\n")
    assert oom_kills(tmp_path) == OomKills(group=2, machine=5)


def test_where_the_kernel_says_nothing_nothing_is_counted(tmp_path: Path) -> None:
    assert oom_kills(tmp_path) == OomKills(group=0, machine=0)
    assert oom_kills().machine >= 0
