"""The supervisor with real small processes: they die, ignore signals, leave children behind."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from service.launch.child_process import (
    KEPT_LOGS,
    Process,
    ProcessSpec,
    descendants,
    processes,
    rotate,
    tail,
)
from service.launch.supervisor import LONGEST_DELAY, after_exit

# a supervisor of its own process, as `wardrobe up` is; each argument is one child's program
SUPERVISE = """
import sys
from pathlib import Path
from service.launch.child_process import ProcessSpec
from service.launch.supervisor import Signals, Supervisor
import os

logs, patience, *programs = sys.argv[1:]
quotable = Path(os.environ["QUOTABLE"]) if "QUOTABLE" in os.environ else None
specs = [
    ProcessSpec(name=f"child{n}", command=[sys.executable, "-c", program], environment=os.environ,
                log=Path(logs) / f"child{n}.log", patience=float(patience), quotable=quotable)
    for n, program in enumerate(programs)
]
with Signals() as signals:
    sys.exit(Supervisor(specs, tell=lambda line: print(line, flush=True)).run(signals))
"""

FOREVER = "import time\nprint('up', flush=True)\ntime.sleep(600)"
DEAF = "import signal\nsignal.signal(signal.SIGTERM, signal.SIG_IGN)\n" + FOREVER
# the grandchild leaves the session and the group, as a trainer's run may
PARENT_OF_STRAY = (
    "import subprocess, sys, time\n"
    "child = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(600)'],"
    " start_new_session=True)\n"
    "print(f'stray {child.pid}', flush=True)\n"
)


# as vLLM's processes do: named memory that only Python's resource tracker removes after a death
SHARES_MEMORY = (
    "from multiprocessing.shared_memory import SharedMemory\n"
    "import os, signal, time\n"
    "memory = SharedMemory(create=True, size=64)\n"
    "print(memory.name, flush=True)\n"
)


class Supervised:
    """A running supervisor and what it has said."""

    def __init__(
        self, logs: Path, *programs: str, patience: float = 10.0, quotable: Path | None = None
    ) -> None:
        self.logs = logs
        self.popen = subprocess.Popen(
            [sys.executable, "-c", SUPERVISE, str(logs), str(patience), *programs],
            env={**os.environ, **({"QUOTABLE": str(quotable)} if quotable else {})},
            stdout=subprocess.PIPE,
            text=True,
        )

    def log(self, number: int) -> list[str]:
        return tail(self.logs / f"child{number}.log", 50)

    def wait_for(self, number: int, lines: int = 1) -> list[str]:
        until(lambda: len(self.log(number)) >= lines, f"{lines} lines of child{number}")
        return self.log(number)

    def stop(self, number: int = signal.SIGTERM) -> int:
        self.popen.send_signal(number)
        return self.popen.wait(timeout=20)


def until(condition: object, what: str, seconds: float = 15.0) -> None:
    deadline = time.monotonic() + seconds
    assert callable(condition)
    while not condition():
        assert time.monotonic() < deadline, f"waited {seconds} s for {what}"
        time.sleep(0.05)


def alive(pid: int) -> bool:
    found = processes().get(pid)
    return found is not None and not found.ended


@pytest.fixture
def started() -> Iterator[list[Supervised]]:
    """Supervisors that are ended, with all they started, whatever a test did."""
    running: list[Supervised] = []
    yield running
    for one in running:
        if one.popen.poll() is None:
            for pid in descendants({one.popen.pid}) | {one.popen.pid}:
                os.kill(pid, signal.SIGKILL)
            one.popen.wait(timeout=10)
        assert one.popen.stdout
        one.popen.stdout.close()


@pytest.mark.parametrize(
    ("failures", "recovered", "expected"),
    [
        (0, False, (1, 1.0)),
        (1, False, (2, 2.0)),
        (4, False, (5, 16.0)),
        (5, False, (6, LONGEST_DELAY)),
        (400, False, (401, LONGEST_DELAY)),
        (9, True, (1, 1.0)),
    ],
)
def test_the_delay_doubles_with_each_young_death_and_starts_over_after_a_long_life(
    failures: int, recovered: bool, expected: tuple[int, float]
) -> None:
    assert after_exit(failures, recovered=recovered) == expected


@pytest.mark.parametrize(
    "end", ["os.kill(os.getpid(), signal.SIGKILL)", "os._exit(0)", "time.sleep(600)"]
)
def test_shared_memory_is_removed_however_its_owner_ends(
    tmp_path: Path, started: list[Supervised], end: str
) -> None:
    started.append(one := Supervised(tmp_path, SHARES_MEMORY + end))
    one.wait_for(0, lines=1 if "sleep" in end else 2)
    assert one.stop() == 0
    names = [name for name in one.log(0) if name.startswith("psm_")]
    assert names
    assert not [name for name in names if Path("/dev/shm", name).exists()]


def test_a_child_that_dies_is_started_again(tmp_path: Path, started: list[Supervised]) -> None:
    started.append(one := Supervised(tmp_path, "print('up', flush=True); raise SystemExit(3)"))
    one.wait_for(0, lines=2)
    assert one.stop() == 0
    assert one.popen.stdout
    assert "child0 ended with exit code 3; starting it again in 1 s" in one.popen.stdout.read()


def test_a_child_that_was_killed_is_started_again_as_another_process(
    tmp_path: Path, started: list[Supervised]
) -> None:
    program = "import os, time\nprint(os.getpid(), flush=True)\ntime.sleep(600)"
    started.append(one := Supervised(tmp_path, program))
    first = int(one.wait_for(0)[0])
    os.kill(first, signal.SIGKILL)
    second = int(one.wait_for(0, lines=2)[1])
    assert second != first
    assert one.stop() == 0
    assert not alive(second)


def test_what_a_dead_child_left_in_another_session_is_ended_before_the_next_start(
    tmp_path: Path, started: list[Supervised]
) -> None:
    started.append(one := Supervised(tmp_path, PARENT_OF_STRAY + "raise SystemExit(1)"))
    stray = int(one.wait_for(0)[0].split()[1])
    one.wait_for(0, lines=2)
    assert not alive(stray)
    assert one.stop() == 0


def test_a_stop_leaves_no_process_and_no_zombie(tmp_path: Path, started: list[Supervised]) -> None:
    started.append(one := Supervised(tmp_path, PARENT_OF_STRAY + "time.sleep(600)", FOREVER))
    one.wait_for(0)
    one.wait_for(1)
    everything = descendants({one.popen.pid}) - {one.popen.pid}
    assert len(everything) == 3
    assert one.stop(signal.SIGINT) == 0
    assert not everything & processes().keys()


def test_a_child_that_ignores_sigterm_is_killed_after_its_patience(
    tmp_path: Path, started: list[Supervised]
) -> None:
    started.append(one := Supervised(tmp_path, DEAF, patience=1.0))
    one.wait_for(0)
    begun = time.monotonic()
    assert one.stop() == 0
    assert 0.9 < time.monotonic() - begun < 6.0


def test_the_last_one_started_is_stopped_first(tmp_path: Path, started: list[Supervised]) -> None:
    started.append(one := Supervised(tmp_path, FOREVER, FOREVER))
    one.wait_for(0)
    one.wait_for(1)
    assert one.stop() == 0
    assert one.popen.stdout
    said = one.popen.stdout.read()
    assert said.index("stopping the child1") < said.index("stopping the child0")


def test_a_second_signal_ends_everything_at_once(tmp_path: Path, started: list[Supervised]) -> None:
    started.append(one := Supervised(tmp_path, DEAF, patience=60.0))
    one.wait_for(0)
    one.popen.send_signal(signal.SIGINT)
    time.sleep(0.6)
    everything = descendants({one.popen.pid}) - {one.popen.pid}
    assert one.stop(signal.SIGINT) == 130
    assert everything
    assert not everything & processes().keys()


def test_children_die_with_a_supervisor_that_is_killed(
    tmp_path: Path, started: list[Supervised]
) -> None:
    started.append(one := Supervised(tmp_path, FOREVER))
    one.wait_for(0)
    (child,) = descendants({one.popen.pid}) - {one.popen.pid}
    one.popen.kill()
    one.popen.wait(timeout=10)
    until(lambda: not alive(child), "the child to end")


def test_a_child_does_not_get_the_terminals_signals(tmp_path: Path) -> None:
    child = Process.start(
        ProcessSpec(
            name="child",
            command=[sys.executable, "-c", FOREVER],
            environment=os.environ,
            log=tmp_path / "log",
        )
    )
    try:
        until(lambda: child.pid in processes(), "the child")
        assert processes()[child.pid].session == child.pid
    finally:
        child.kill()
    assert child.exit_code() == -signal.SIGKILL


def test_logs_are_rotated_and_the_oldest_goes(tmp_path: Path) -> None:
    log = tmp_path / "service.log"
    for run in range(KEPT_LOGS + 3):
        rotate(log)
        log.write_text(f"run {run}\n")
    kept = {path.name: path.read_text() for path in tmp_path.iterdir()}
    assert len(kept) == KEPT_LOGS + 1
    assert kept["service.log"] == f"run {KEPT_LOGS + 2}\n"
    assert kept["service.log.1"] == f"run {KEPT_LOGS + 1}\n"
    assert kept[f"service.log.{KEPT_LOGS}"] == "run 2\n"


def test_an_empty_log_is_not_rotated(tmp_path: Path) -> None:
    (tmp_path / "service.log").touch()
    rotate(tmp_path / "service.log")
    assert [path.name for path in tmp_path.iterdir()] == ["service.log"]


@pytest.mark.parametrize("met_callers", [False, True])
def test_a_log_that_may_hold_content_is_named_and_not_repeated(
    started: list[Supervised], tmp_path: Path, met_callers: bool
) -> None:
    starting = tmp_path / "starting"
    if not met_callers:
        starting.touch()
    started.append(Supervised(tmp_path, "print('last words'); exit(3)", quotable=starting))
    assert started[0].popen.stdout
    said = [started[0].popen.stdout.readline() for _ in range(2 if met_callers else 3)]
    assert "exit code 3" in said[0]
    assert ("  last words\n" in said) is not met_callers
    assert said[-1] == f"  see {tmp_path / 'child0.log'}\n"
