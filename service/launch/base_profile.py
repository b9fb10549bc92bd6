"""The base's profile for the service: asked of the trainer's side, which knows models, and kept.

Kept in the cache under the base's fingerprint, so that only the first start waits for it.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import psutil

from adapters.admission.base_model import fingerprint
from adapters.brought_keys import trainer_environment
from adapters.domain.base_profile import BaseProfile, from_json, to_json
from adapters.domain.memory_plan import Device, MemoryPlan, plan_memory
from adapters.domain.recipes import base_overrides
from adapters.durable_files import write_private
from adapters.errors import InvalidRequest
from adapters.settings import NO_PARSER, Settings
from adapters.telemetry_off import TELEMETRY_OFF
from service.launch.base_resolver import inherited_environment

EDITION = 2
"""Goes up when a profile says more or otherwise than before."""

Read = Callable[[Settings, Path, str | None], dict[str, Any]]
"""Settings, folder and revision → the profile as plain values, or `error`."""


def kept_profile(
    settings: Settings, base: Path, *, revision: str | None = None, read: Read | None = None
) -> BaseProfile:
    """The profile of a base that is at hand, read once. Raises InvalidRequest."""
    note = _note(settings, base)
    with suppress(OSError, ValueError, KeyError, TypeError):
        return from_json(json.loads(note.read_text("utf-8"))).evolve(revision=revision)
    profile = read_profile(settings, base, revision=revision, read=read)
    with suppress(OSError):
        note.parent.mkdir(parents=True, exist_ok=True)
        write_private(note, json.dumps(to_json(profile)).encode("utf-8"))
    return profile


def read_profile(
    settings: Settings, base: Path, *, revision: str | None = None, read: Read | None = None
) -> BaseProfile:
    """The profile, read now. Raises InvalidRequest where there is no configuration to read."""
    values = (read or _ask)(settings, base, revision)
    if "error" in values:
        raise InvalidRequest(str(values["error"]))
    return from_json(values)


def memory_plan(
    settings: Settings, profile: BaseProfile, base: Path, *, trainer: bool = False
) -> MemoryPlan:
    """What follows from the profile on this machine, beside a `trainer`. Raises InvalidRequest."""
    device = this_device(on_gpu=settings.engine == "gpu")
    return plan_memory(
        profile,
        replace(device, trainings=settings.train_jobs if trainer and device.on_gpu else 0),
        max_lora_rank=settings.max_lora_rank,
        trained_length=base_overrides(base).max_length,
        gpu_share=settings.gpu_share if "gpu_share" in settings.model_fields_set else None,
    )


def planned(settings: Settings, base: Path, *, trainer: bool = False) -> Settings:
    """The settings with limits and parsers that fit the base; what somebody has set stays as it is.

    `trainer`: whether one runs beside the engine and shares its GPU. A folder without weights is
    left to the engine, which says more about it.
    """
    if not any(base.glob("*.safetensors")):
        return settings
    try:
        profile = kept_profile(settings, base)
        plan = memory_plan(settings, profile, base, trainer=trainer)
    except InvalidRequest:
        return settings
    found = {**plan.settings(), **parsers(profile)}
    free = {name: value for name, value in found.items() if name not in settings.model_fields_set}
    return settings.model_copy(update=free)


def parsers(profile: BaseProfile) -> dict[str, str]:
    """The settings that say how the base's tool calls and thoughts are read."""
    chat = profile.chat
    return {
        "tool_parser": (chat and chat.tool_parser) or NO_PARSER,
        "reasoning_parser": (chat and chat.reasoning_parser) or NO_PARSER,
    }


def this_device(*, on_gpu: bool) -> Device:
    """Memory of the machine, or of the container that we are in, and of its first GPU."""
    host = min(psutil.virtual_memory().total, _container_memory())
    return Device(memory=_gpu_memory() or host if on_gpu else host, host=host, on_gpu=on_gpu)


def _container_memory(limit: Path = Path("/sys/fs/cgroup/memory.max")) -> int:
    try:
        return int(limit.read_text("ascii"))
    except (OSError, ValueError):  # no limit is the word `max`
        return 1 << 62


def _gpu_memory() -> int | None:
    words = ["nvidia-smi", "--query-gpu=memory.total", "--format=csv,noheader,nounits"]
    with suppress(OSError, ValueError, IndexError, subprocess.TimeoutExpired):
        done = subprocess.run(words, capture_output=True, text=True, timeout=20, check=False)
        return int(done.stdout.split()[0]) << 20
    return None


def _ask(settings: Settings, base: Path, revision: str | None) -> dict[str, Any]:
    words = ["-m", "training.base.profile", str(base)]
    done = subprocess.run(
        [sys.executable, *words, *(["--revision", revision] if revision else [])],
        env=trainer_environment(settings, {**inherited_environment(settings), **TELEMETRY_OFF}),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        check=False,
    )
    lines = done.stdout.decode("utf-8", "replace").strip().splitlines()
    try:
        return dict(json.loads(lines[-1]))
    except (IndexError, ValueError):
        return {"error": f"the profile of the base in {base} cannot be read"}


def _note(settings: Settings, base: Path) -> Path:
    name = f"{fingerprint(base, cache=settings.cache)}-{settings.thinking}-{EDITION}.json"
    return settings.cache.expanduser() / "profiles" / name
