"""The test stand: a temporary state folder with one random adapter, and the service over it.

The adapter's weights are drawn, not trained: speed does not depend on what they say, and random
ones are certain to change the base's answers.
"""

from __future__ import annotations

import json
import shutil
import socket
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from safetensors.numpy import save_file

from adapters.admission.base_model import base_shapes, fingerprint
from adapters.admission.checks import CONFIG_FILE, WEIGHTS_FILE, admit, canonicalise
from adapters.domain.names import Unit
from adapters.domain.versions import Version
from adapters.registry.open import open_registry
from adapters.registry.ports import NewVersion, Versions
from adapters.settings import Settings
from adapters.signing_keys import find_signer, signature_of
from adapters.store.open import open_store
from service.cli.client import Client
from service.launch.child_process import Process, ProcessSpec, tail
from service.launch.launcher import child_environment, is_ready, with_base

ALIAS = "support"
RANK = 16
START_SECONDS = 1800.0
"""A service that has not ended by itself and is not ready by then hangs."""
STOP_SECONDS = 60.0


class StandFailed(Exception):
    """The service to be measured did not start, or did not answer as it must."""


@dataclass(frozen=True, kw_only=True)
class Stand:
    """A running service with `support:1` live."""

    settings: Settings
    keys: Mapping[str, str]
    """Unit → key."""
    version: str


@contextmanager
def prepared_settings(**overrides: object) -> Iterator[Settings]:
    """Settings over a temporary state folder with one unit, the base found, and a free port.

    Where no base is named it is the self-made one: beside the smallest, what surrounds the engine
    shows most.
    """
    with tempfile.TemporaryDirectory(prefix="wardrobe-bench-") as folder:
        root = Path(folder)
        write_unit(root / "units", ALIAS)
        settings = Settings().model_copy(
            update={
                "state": root / "state",
                "units": root / "units",
                "port": free_port(),
                "base": Settings().base or "tiny",
                **overrides,
            }
        )
        settings.state_folder.create()
        yield with_base(settings)


def free_port() -> int:
    """One of the system's choice: the configured one may be another service's any moment."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def write_unit(folder: Path, unit: str) -> None:
    """A units folder with one unit that has one alias, both of one name."""
    folder.mkdir(parents=True, exist_ok=True)
    text = f"unit: {unit}\naliases: [{unit}]\n"
    (folder / f"{unit}.yaml").write_text(text, "utf-8")


def publish(
    settings: Settings,
    versions: Versions,
    *,
    unit: str = ALIAS,
    adapter: Path | None = None,
    strength: float = 1.0,
) -> Version:
    """A version of `unit` through admission and store as any other: a PEFT folder's, or one with
    random weights of this strength.
    """
    base, store = Path(settings.base), open_store(settings)
    with tempfile.TemporaryDirectory(dir=settings.state) as folder:
        made = Path(folder)
        if adapter is None:
            draw_adapter(base, made, strength=strength)
        else:
            for name in (CONFIG_FILE, WEIGHTS_FILE):
                shutil.copyfile(adapter / name, made / name)
        shapes = base_shapes(base)
        admitted = admit(made, base=shapes, max_rank=settings.max_lora_rank)
        canonicalise(made, admitted)
        new = NewVersion(
            adapter=unit,
            unit=Unit(unit),
            digest=store.publish_adapter(made),
            base_fingerprint=fingerprint(base),
            rank=admitted.rank,
            size_bytes=admitted.size_bytes,
            evidence={},
        )
    new = replace(new, signature=signature_of(new, find_signer(settings)))
    return versions.publish(new, job_id=None, fence=None)


def draw_adapter(base: Path, folder: Path, *, seed: int = 7, strength: float = 1.0) -> None:
    """A PEFT adapter directory on every linear layer of `base`, with random A and B."""
    draw = np.random.default_rng(seed)
    shapes = base_shapes(base)
    tensors = {}
    for module, (out, into) in sorted(shapes.items()):
        for half, shape in (("A", (RANK, into)), ("B", (out, RANK))):
            values = draw.normal(0.0, 0.02, shape).astype(np.float32)
            tensors[f"base_model.model.{module}.lora_{half}.weight"] = values
    save_file(tensors, folder / WEIGHTS_FILE)
    config = {
        "peft_type": "LORA",
        "task_type": "CAUSAL_LM",
        "r": RANK,
        "lora_alpha": 2 * RANK * strength,
        "target_modules": sorted({module.rpartition(".")[2] for module in shapes}),
    }
    (folder / CONFIG_FILE).write_text(json.dumps(config), "utf-8")


@contextmanager
def serving(engine_args: str, environment: Mapping[str, str]) -> Iterator[Stand]:
    """The real service process with `support:1` live; stopped and cleaned up afterwards.

    Raises StandFailed.
    """
    with prepared_settings(engine_args=engine_args) as settings, running(settings, environment):
        yield _with_live_version(settings)


@contextmanager
def running(settings: Settings, environment: Mapping[str, str]) -> Iterator[Process]:
    """The real service process, ready; stopped afterwards.

    Raises StandFailed.
    """
    log = settings.state / "service.log"
    process = Process.start(
        ProcessSpec(
            name="service",
            command=[sys.executable, "-m", "service.engine.vllm_engine"],
            environment={**child_environment(settings, "service"), **environment},
            log=log,
        )
    )
    try:
        _wait(process, settings)
        yield process
    except StandFailed as failed:
        words = "\n  ".join(tail(log, 12))
        raise StandFailed(f"{failed}; the service's last words:\n  {words}") from failed
    finally:
        process.ask_to_stop()
        process.wait(STOP_SECONDS)
        process.kill()


def _with_live_version(settings: Settings) -> Stand:
    kept = json.loads(settings.state_folder.keys.read_text("utf-8"))
    registry = open_registry(settings.registry_url)
    try:
        version = publish(settings, registry.versions)
    finally:
        registry.close()
    with Client(settings.url, kept["units"][ALIAS]) as client:
        rollout = client.promote(ALIAS, version.name)
    if rollout["state"] != "complete":
        raise StandFailed(f"{version.name} did not become live: {rollout.get('error')}")
    return Stand(settings=settings, keys=kept["units"], version=version.name)


def _wait(process: Process, settings: Settings) -> None:
    deadline = time.monotonic() + START_SECONDS
    # keys first: the readiness of whoever else listens there is not ours
    while not (settings.state_folder.keys.is_file() and is_ready(settings.url)):
        if process.exit_code() is not None or time.monotonic() > deadline:
            raise StandFailed("the service did not start")
        time.sleep(0.25)
