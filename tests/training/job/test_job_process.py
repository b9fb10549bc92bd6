"""A job's process: the key it waits for and what its exit codes say."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from adapters.durable_files import write_private
from adapters.errors import Unavailable
from adapters.settings import Settings
from adapters.state_folder import StateFolder
from training.job.job_process import trainer_key
from training.job.pace import threads_of_a_job
from training.stopping import Stopped


@pytest.fixture
def state(tmp_path: Path) -> StateFolder:
    return StateFolder(tmp_path / "state").create()


@pytest.fixture
def settings(state: StateFolder) -> Settings:
    return Settings(state=state.root)


def write_key(state: StateFolder, key: str) -> None:
    write_private(state.trainer_key, f"{key}\n".encode())


def test_the_trainers_key_is_read_from_its_own_file_and_no_other_is_opened(
    state: StateFolder, settings: Settings
) -> None:
    write_key(state, "wr-trainer-secret")
    state.keys.mkdir()  # reading it would be an error
    assert trainer_key(settings, threading.Event()) == "wr-trainer-secret"


def test_a_key_that_was_brought_to_the_trainer_comes_first(
    state: StateFolder, settings: Settings, tmp_path: Path
) -> None:
    write_key(state, "wr-trainer-secret")
    (tmp_path / "mounted").write_text("a-key-from-a-secret\n")
    ours = settings.model_copy(update={"trainer_key_file": tmp_path / "mounted"})
    assert trainer_key(ours, threading.Event()) == "a-key-from-a-secret"


def test_a_key_that_the_service_makes_later_is_waited_for(
    state: StateFolder, settings: Settings
) -> None:
    timer = threading.Timer(0.4, write_key, [state, "late"])
    timer.start()
    assert trainer_key(settings, threading.Event(), patience=10.0) == "late"
    timer.join()


def test_a_key_that_never_comes_is_told_with_advice(settings: Settings) -> None:
    with pytest.raises(Unavailable, match="start the service first"):
        trainer_key(settings, threading.Event(), patience=0.0)


def test_waiting_for_the_key_ends_when_asked_to_stop(settings: Settings) -> None:
    stopping = threading.Event()
    stopping.set()
    with pytest.raises(Stopped):
        trainer_key(settings, stopping)


@pytest.mark.slow
def test_a_waiting_process_ends_quietly_when_nobody_orders(state: StateFolder) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "training.job", "--wait"],
        env=os.environ | {"WARDROBE_STATE": str(state.root)},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        timeout=500,
    )
    assert done.returncode == 0
    assert b"Traceback" not in done.stderr
    assert done.stdout == b""


@pytest.mark.slow
def test_a_job_yields_to_a_service_beside_it_and_has_no_more_memory_than_it_may(
    state: StateFolder,
) -> None:
    environment = {"WARDROBE_STATE": str(state.root), "WARDROBE_TRAIN_NICENESS": "7"}
    environment |= {"WARDROBE_TRAIN_MEMORY_GIB": "3.5"}
    with subprocess.Popen(
        [sys.executable, "-m", "training.job", "--wait"],
        env=os.environ | environment,
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    ) as waiting:
        ours = os.getpriority(os.PRIO_PROCESS, 0)
        until = time.monotonic() + 300.0
        while os.getpriority(os.PRIO_PROCESS, waiting.pid) < min(19, ours + 7):
            assert waiting.poll() is None
            assert time.monotonic() < until
            time.sleep(0.05)
        limits = Path(f"/proc/{waiting.pid}/limits").read_text()
        (most,) = re.findall(r"Max data size +(\d+)", limits)
        assert int(most) == 3.5 * (1 << 30)
        waiting.kill()


def test_jobs_that_run_at_once_share_the_cores_unless_threads_are_named(state: StateFolder) -> None:
    def threads(**settings: int) -> int:
        return threads_of_a_job(Settings(state=state.root, **settings))  # type: ignore[arg-type]

    cores = len(os.sched_getaffinity(0))
    assert threads() == 0, "all that it may use"
    assert threads(train_jobs=2) == max(1, cores // 2)
    assert threads(train_jobs=2, train_threads=3) == 3
