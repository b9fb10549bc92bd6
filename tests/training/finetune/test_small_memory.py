"""Runs that do not fit: they get smaller and end, or say with numbers why they cannot."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.training.small_base import SMALL_BASE
from training.base.build import ensure_base

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1200)]


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return ensure_base(tmp_path_factory.mktemp("cache"), recipe=SMALL_BASE)


def run_within(room: int, base: Path, workdir: Path) -> list[str]:
    """What a run says in a process that gets `room` MiB for base, adapter and steps."""
    module = "tests.training.finetune.small_memory"
    done = subprocess.run(
        [sys.executable, "-m", module, str(base), str(workdir), str(room)],
        capture_output=True,
        text=True,
        timeout=600,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


def test_out_of_memory_ends_in_a_smaller_micro_batch_and_a_finished_job(
    base: Path, tmp_path: Path
) -> None:
    *_, ample = run_within(4096, base, tmp_path / "ample")
    *plans, tight = run_within(150, base, tmp_path / "tight")
    _, steps, micro_batch, loss = ample.split()
    assert (steps, micro_batch) == ("4", "16")
    assert plans[0].split()[0] == "tried"
    word, steps, micro_batch, same_loss = tight.split()
    assert (word, steps) == ("done", "4")
    assert 1 <= int(micro_batch) < 16
    assert float(same_loss) == pytest.approx(float(loss), rel=1e-4), "the gradients are the same"


def test_a_plan_counts_only_the_memory_that_the_process_may_have() -> None:
    script = """
import resource
from training.finetune.this_device import this_device
free = this_device(1).free
resource.setrlimit(resource.RLIMIT_DATA, (2 << 30, 2 << 30))
print(this_device(1).free < min(free, 2 << 30))
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert done.stdout == "True\n", done.stderr


def test_one_row_that_does_not_fit_fails_with_the_numbers(base: Path, tmp_path: Path) -> None:
    (*_, said) = run_within(24, base, tmp_path)
    assert said.startswith("out_of_memory this machine has too little memory to train the base")
    assert "one row of 500 tokens" in said
