"""Spares: processes that wait for their order with the slow imports behind them."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from adapters.domain.names import JobId
from tests.training.world import alive, wait_until
from training.job.order import Order
from training.worker.child_process import Child, describe_exit
from training.worker.spare_process import Starter

ORDER = Order(job_id=JobId("ftjob-1"), fence=3)
SPARE = "import pathlib, sys; pathlib.Path(sys.argv[1]).write_text('spare ' + sys.stdin.readline())"
FRESH = "import pathlib, sys; pathlib.Path(sys.argv[1]).write_text('fresh ' + sys.argv[2])"


@pytest.fixture
def told(tmp_path: Path) -> Path:
    return tmp_path / "told"


@pytest.fixture
def starter(told: Path) -> Iterator[Starter]:
    made = Starter(
        lambda order: [sys.executable, "-c", FRESH, str(told), order.job_id],
        os.environ,
        waiting=[sys.executable, "-c", SPARE, str(told)],
    )
    yield made
    made.close()


def test_a_spare_carries_out_the_order_it_reads(starter: Starter, told: Path) -> None:
    starter.prepare()
    child = starter.begin(ORDER)
    assert child.ended(within=120.0) == 0
    said, _, line = told.read_text().partition(" ")
    assert said == "spare"
    assert Order.from_line(line) == ORDER


def test_without_a_spare_a_fresh_process_is_started(starter: Starter, told: Path) -> None:
    assert starter.begin(ORDER).ended(within=120.0) == 0
    assert told.read_text() == "fresh ftjob-1"


def test_a_spare_that_died_meanwhile_is_replaced_by_a_fresh_process(
    starter: Starter, told: Path
) -> None:
    starter.prepare()
    spare = starter.begin(ORDER)  # taken out to learn its pid; the next one is killed
    spare.ended(within=120.0)
    starter.prepare()
    taken = starter._spare
    assert taken is not None
    os.kill(taken.pid, signal.SIGKILL)
    wait_until(lambda: not alive(taken.pid))
    assert starter.begin(ORDER).ended(within=120.0) == 0
    assert told.read_text() == "fresh ftjob-1"


def test_preparing_twice_keeps_the_one_spare(starter: Starter) -> None:
    starter.prepare()
    first = starter._spare
    starter.prepare()
    assert starter._spare is first


def test_closing_ends_the_spare(starter: Starter) -> None:
    starter.prepare()
    spare = starter._spare
    assert spare is not None
    starter.close()
    assert not alive(spare.pid)


def test_the_end_of_input_is_no_order() -> None:
    assert Order.from_line("") is None


def test_exits_are_told_in_words() -> None:
    assert describe_exit(3) == "ended with exit code 3"
    assert describe_exit(-15) == "was killed by SIGTERM"
    assert describe_exit(-9) == "was killed by SIGKILL (out of memory?)"
    assert describe_exit(-35) == "was killed by signal 35"


class Undead:
    """A process that hangs in a device: even the kernel cannot take it away."""

    pid = 2**30
    stdin = None

    def wait(self, timeout: float) -> int:
        raise subprocess.TimeoutExpired("undead", timeout)


def test_a_child_that_cannot_be_reaped_is_told_and_not_waited_for() -> None:
    assert Child(Undead()).kill() is False  # type: ignore[arg-type]
