"""A job's process: settings and real context for `training.job`, and what its end means.

The exit code tells how it ended: 0 with the job in a final state, 75 stopped on request at a
point from which it can go on, 76 when the job is another trainer's now. Anything else is a crash,
and the trainer tries again.
"""

from __future__ import annotations

import argparse
import os
import resource
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import structlog

from adapters.admission.base_model import load_base_model
from adapters.brought_keys import brought_trainer_key
from adapters.domain.names import JobId
from adapters.errors import LeaseLost, Unavailable, WardrobeError
from adapters.logs import configure_logs
from adapters.registry.open import open_registry
from adapters.settings import Settings
from adapters.signing_keys import find_signer
from adapters.store.open import open_store
from adapters.telemetry_off import turn_telemetry_off
from training.data.render import ChatRenderer
from training.evaluate.through_service import ServiceAnswers, service_client
from training.finetune.device_plan import Devices
from training.finetune.fine_tuner import LoraFineTuner, import_slow_modules
from training.job.context import JobContext
from training.job.order import Order
from training.job.pace import threads_of_a_job
from training.job.trackers import ReportTo, open_trackers, report_to
from training.stopping import Stopped

STOPPED = 75
LEASE_LOST = 76
KEY_PATIENCE = 120.0
"""Seconds to wait for the service to make its keys on its first start."""

_log = structlog.get_logger(__name__)


def main(run_job: Callable[[JobContext, JobId, int], None]) -> int:
    """Runs the job of the command line; the answer is the exit code."""
    turn_telemetry_off()
    chosen = _arguments().parse_args()
    settings = Settings()
    configure_logs(settings.log_level)
    limit_memory(settings.train_memory_gib)
    os.nice(settings.train_niceness)
    # here and not in a thread: transformers' lazy modules break when two threads import them
    import_slow_modules()
    if chosen.wait:
        order = Order.from_line(sys.stdin.readline())
    else:
        order = Order(job_id=JobId(chosen.job), fence=chosen.fence)
    if order is None:
        return 0
    structlog.contextvars.bind_contextvars(job=order.job_id, fence=order.fence)
    stopping = threading.Event()
    signal.signal(signal.SIGTERM, lambda _number, _frame: stopping.set())
    try:
        with real_context(
            settings, settings.state_folder.job(order.job_id), stopping, slot=chosen.slot
        ) as context:
            run_job(context, order.job_id, order.fence)
    except Stopped:
        _log.info("stopped_on_request")
        return STOPPED
    except LeaseLost:
        _log.warning("lease_lost")
        return LEASE_LOST
    except WardrobeError as error:
        _log.error("run_failed", reason=error.reason, message=error.message)
        return 1
    except Exception:
        _log.exception("run_crashed")
        return 1
    return 0


def limit_memory(gib: float) -> None:
    """Has the kernel refuse this process more memory of its own than that; 0 is no limit.

    What is only mapped, as the base's file is, does not count.
    """
    if gib:
        most = int(gib * (1 << 30))
        resource.setrlimit(resource.RLIMIT_DATA, (most, most))


def _arguments() -> argparse.ArgumentParser:
    arguments = argparse.ArgumentParser(prog="python -m training.job")
    arguments.add_argument("--job", help="the job's id, ftjob-…")
    arguments.add_argument("--fence", type=int, help="of the lease it runs under")
    arguments.add_argument(
        "--wait", action="store_true", help="import in advance and read the order from stdin"
    )
    arguments.add_argument(
        "--slot", type=int, default=0, help="which of the jobs that run at once it is, from 0"
    )
    return arguments


@contextmanager
def real_context(
    settings: Settings, workdir: Path, stopping: threading.Event, *, slot: int = 0
) -> Iterator[JobContext]:
    """The registry, the store, the service and the base of these settings.

    `slot` is which of the jobs that run at once it is, from 0.

    Raises InvalidRequest, Unavailable, Stopped.
    """
    base = Path(settings.base)
    reports = report_to(settings.report_to, os.environ)
    registry = open_registry(settings.registry_url)
    key = trainer_key(settings, stopping)
    client = service_client(settings.url, key, authority=settings.service_ca)
    try:
        yield JobContext(
            registry=registry,
            store=open_store(settings),
            units=settings.units,
            base=load_base_model(base, name=settings.base_name or base.name, cache=settings.cache),
            renderer=ChatRenderer(base),
            fine_tuner=LoraFineTuner(
                base,
                precision=settings.train_precision,
                threads=threads_of_a_job(settings),
                devices=Devices(
                    count=settings.train_devices, slot=slot, gpu_share=settings.train_gpu_share
                ),
            ),
            answers=ServiceAnswers(client, stopping=stopping.is_set),
            signer=find_signer(settings),
            workdir=workdir,
            clock=time.monotonic,
            sleep=time.sleep,
            stopping=stopping.is_set,
            trackers=open_trackers(reports),
            tensorboard=ReportTo.TENSORBOARD in reports,
        )
    finally:
        client.close()
        registry.close()


def trainer_key(
    settings: Settings, stopping: threading.Event, *, patience: float = KEY_PATIENCE
) -> str:
    """The trainer's own key: the one that was brought, else the one that the service makes.

    No other key is read. Raises InvalidRequest, Unavailable, Stopped.
    """
    brought = brought_trainer_key(settings)
    if brought is not None:
        return brought
    path = settings.state_folder.trainer_key
    until = time.monotonic() + patience
    while True:
        try:
            return path.read_text("utf-8").strip()
        except FileNotFoundError:
            if time.monotonic() >= until:
                raise Unavailable(
                    f"there is no {path.name} in the state folder; start the service first",
                    code="service_unavailable",
                ) from None
        if stopping.wait(0.25):
            raise Stopped
