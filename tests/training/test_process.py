"""A job's process: the key it waits for and what its exit codes say."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from adapters.errors import Unavailable
from adapters.state_folder import StateFolder, write_private
from training.process import trainer_key
from training.tuning import Stopped


@pytest.fixture
def state(tmp_path: Path) -> StateFolder:
    return StateFolder(tmp_path / "state").create()


def write_keys(state: StateFolder, **keys: str) -> None:
    write_private(state.keys, json.dumps(keys).encode())


def test_the_trainers_key_is_read_from_the_state_folder(state: StateFolder) -> None:
    write_keys(state, admin="a", trainer="wr-trainer-secret")
    assert trainer_key(state, threading.Event()) == "wr-trainer-secret"


def test_a_key_that_the_service_makes_later_is_waited_for(state: StateFolder) -> None:
    timer = threading.Timer(0.4, write_keys, [state], {"trainer": "late"})
    timer.start()
    assert trainer_key(state, threading.Event(), patience=10.0) == "late"
    timer.join()


def test_a_key_that_never_comes_is_told_with_advice(state: StateFolder) -> None:
    with pytest.raises(Unavailable, match="start the service first"):
        trainer_key(state, threading.Event(), patience=0.0)


def test_waiting_for_the_key_ends_when_asked_to_stop(state: StateFolder) -> None:
    stopping = threading.Event()
    stopping.set()
    with pytest.raises(Stopped):
        trainer_key(state, stopping)


@pytest.mark.slow
def test_a_waiting_process_ends_quietly_when_nobody_orders(state: StateFolder) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "training.run", "--wait"],
        env=os.environ | {"WARDROBE_STATE": str(state.root)},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        timeout=500,
    )
    assert done.returncode == 0
    assert b"Traceback" not in done.stderr
    assert done.stdout == b""
