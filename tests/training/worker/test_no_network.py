"""A job needs no network: it passes where there is none, and nothing in it tries to leave."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path

import pytest

from adapters.admission.base_model import load_base_model
from adapters.domain.jobs import JobStatus
from adapters.durable_files import write_private
from tests.sealed_network import sealed, tried_to_leave, why_not
from tests.training.small_base import SMALL_BASE
from tests.training.world import World, data, wait_until, write_unit

pytestmark = pytest.mark.slow

QUANTIZATION = "nf4" if find_spec("bitsandbytes") else "none"
TRIES = """
import socket
with socket.socket() as tcp, socket.socket(type=socket.SOCK_DGRAM) as udp:
    print(tcp.connect_ex(("192.0.2.1", 443)), udp.connect_ex(("192.0.2.1", 53)), flush=True)
    input()
"""


@pytest.fixture(autouse=True)
def _namespaces() -> None:
    reason = why_not()
    if reason is not None:
        pytest.skip(f"no network namespace of its own: {reason}")


@contextmanager
def cut_off(words: list[str], **environment: str) -> Iterator[subprocess.Popen[str]]:
    """A Python process without a network."""
    with subprocess.Popen(
        sealed([sys.executable, *words]),
        env=os.environ | environment,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        try:
            yield process
        finally:
            process.kill()


def test_what_tries_to_leave_would_be_counted() -> None:
    with cut_off(["-c", TRIES]) as process:
        assert process.stdout is not None
        assert process.stdout.readline().split() == ["101", "101"], "the network is unreachable"
        assert tried_to_leave(process.pid) == 2


def test_a_whole_job_passes_without_a_network_and_nothing_tries_to_leave(world: World) -> None:
    """On two processes, which meet over the loopback interface, and a base in four bits."""
    from training.base.build import ensure_base

    cache = world.units.parent / "cache"
    base = ensure_base(cache, recipe=SMALL_BASE)
    fingerprint = load_base_model(base, name="tiny", cache=cache).fingerprint
    # the toy service computes nothing: what it says of tokens is about right, and no more
    write_unit(
        world.units,
        gates={"max_drift": 10.0, "max_overfitting": 10.0},
        recipe={"n_epochs": 1, "quantization": QUANTIZATION},
    )
    write_private(world.state.trainer_key, b"wr-trainer-without-a-network\n")
    world.report_ready(base=fingerprint)
    job_id = world.add_job(data(40), data(24, start=100))
    with cut_off(
        ["-m", "tests.training.worker.sealed_trainer"], **settings(world, base)
    ) as trainer:

        def ended() -> bool:
            assert trainer.poll() is None
            world.replica.load()
            world.replica.observe()
            return world.job(job_id).status.finished

        wait_until(ended)
        assert world.job(job_id).error is None
        assert world.job(job_id).status is JobStatus.SUCCEEDED
        assert tried_to_leave(trainer.pid) == 0
    assert len(world.published()) == 1
    assert any("2 processes on" in said for said in world.messages(job_id))


def settings(world: World, base: Path) -> dict[str, str]:
    return {
        "WARDROBE_STATE": str(world.state.root),
        "WARDROBE_UNITS": str(world.units),
        "WARDROBE_CACHE": str(world.units.parent / "cache"),
        "WARDROBE_BASE": str(base),
        "WARDROBE_BASE_NAME": "tiny",
        "WARDROBE_TRAIN_PRECISION": "float32",
        "WARDROBE_TRAIN_DEVICES": "2",
    }
