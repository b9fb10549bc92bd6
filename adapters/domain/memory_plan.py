"""What a base needs of a device's memory, and the limits of serving that follow from it."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from adapters.domain.base_profile import BYTES, BaseProfile, Problem, served_dtype

GIB = 1 << 30
CPU_SHARE = 0.5
"""Of a CPU's memory, which the trainer and everybody else use, too."""
GPU_SHARE = 0.9
"""Of a GPU, for the engine or for it and trainings together; the rest is what each process's driver
keeps for itself."""
SHARED_GPU = 0.5
"""Of a GPU that the engine shares with trainings, where that holds the base and what it needs."""
LEAST_TRAINING = 0.05
"""Of a GPU: enough for a small base, and to be told what a larger one would take."""
USUAL_LENGTH = 4096
"""No shorter conversations than these, as far as the base has them, make room for trainings."""
ADAPTER_SHARE = 0.1
"""Of the device's memory, for the adapters of one batch; of the host's for the resident ones."""
CONVERSATIONS = 32
"""As many of full length as should find room on a CPU at once."""
FEWEST = 2
"""Conversations of full length that must find room, and adapters: a swap needs a spare one."""
STEP = 256
"""Lengths are multiples of it where memory, not the base, decides."""


@dataclass(frozen=True, kw_only=True)
class Device:
    """Where a base is to be served: bytes of the device, and of the machine around it."""

    memory: int
    host: int
    on_gpu: bool
    trainings: int = 0
    """Jobs that may train on the same GPU at once."""


@dataclass(frozen=True, kw_only=True)
class MemoryPlan:
    """Bytes, and the settings that follow where nobody has set others."""

    weights: int
    kv_per_token: int
    adapter: int
    """One adapter of the highest rank on all linear modules."""
    dtype: str
    max_model_len: int
    kv_cache_gib: int
    max_loras: int
    max_cpu_loras: int
    gpu_share: float
    """Of the GPU's memory, for the engine."""
    train_gpu_share: float
    """Of the GPU's memory, for each job."""
    problems: tuple[Problem, ...] = ()

    def settings(self) -> Mapping[str, Any]:
        """Names and values of `Settings`."""
        return {
            "dtype": self.dtype,
            "max_model_len": self.max_model_len,
            "kv_cache_gib": self.kv_cache_gib,
            "max_loras": self.max_loras,
            "max_cpu_loras": self.max_cpu_loras,
            "gpu_share": self.gpu_share,
            "train_gpu_share": self.train_gpu_share,
        }


def plan_memory(
    profile: BaseProfile,
    device: Device,
    *,
    max_lora_rank: int,
    trained_length: int | None,
    gpu_share: float | None = None,
) -> MemoryPlan:
    """The limits for `profile` on `device`.

    `trained_length` is what the base's own recipe trains adapters on: no more is served then.
    `gpu_share` is what the owner gives the engine of a GPU, where they have said so.
    """
    dtype = served_dtype(profile.dtype, on_gpu=device.on_gpu)
    size = BYTES[dtype]
    weights, per_token = profile.parameters * size, profile.kv_numbers_per_token * size
    adapter = max(1, profile.adapter_width * max_lora_rank * size)
    max_loras = _between(FEWEST, int(device.memory * ADAPTER_SHARE) // adapter, 8)
    max_cpu_loras = _between(max_loras, int(device.host * ADAPTER_SHARE) // adapter, 32)
    length = min(profile.context, trained_length or profile.context)
    fixed = weights + max_loras * adapter
    if gpu_share is None:
        gpu_share = _gpu_share(device, fixed + FEWEST * min(length, USUAL_LENGTH) * per_token)
    left = int(device.memory * (gpu_share if device.on_gpu else CPU_SHARE)) - fixed
    fitting = left // FEWEST // max(1, per_token)
    if fitting < length:
        length = max(STEP, fitting // STEP * STEP)
    wanted = CONVERSATIONS * length * per_token
    return MemoryPlan(
        weights=weights,
        kv_per_token=per_token,
        adapter=adapter,
        dtype=dtype,
        max_model_len=length,
        kv_cache_gib=max(1, -(-min(wanted, max(0, left)) // GIB)),
        max_loras=max_loras,
        max_cpu_loras=max_cpu_loras,
        gpu_share=gpu_share,
        train_gpu_share=_training_share(device, gpu_share),
        problems=_too_large(weights, adapter, max_loras, left, FEWEST * STEP * per_token, device),
    )


def _gpu_share(device: Device, needed: int) -> float:
    """Of the GPU for the engine, which takes it as it starts and keeps it."""
    if not device.trainings:
        return GPU_SHARE
    return min(GPU_SHARE, max(SHARED_GPU, math.ceil(needed / device.memory * 100) / 100))


def _training_share(device: Device, gpu_share: float) -> float:
    """Of the GPU for each job: an engine that starts again must find its own part free."""
    if not device.trainings:
        return 1.0
    return round(max(LEAST_TRAINING, (GPU_SHARE - gpu_share) / device.trainings), 3)


def _too_large(
    weights: int, adapter: int, slots: int, left: int, least: int, device: Device
) -> tuple[Problem, ...]:
    if left >= least:
        return ()
    where = "GPU" if device.on_gpu else "machine"
    what = (
        f"needs {_gib(weights)} GiB for its weights and {_gib(slots * adapter)} for {slots} "
        f"adapters; of this {where}'s {_gib(device.memory)} GiB that leaves no room to answer"
    )
    return (Problem(what=what, blocking=True),)


def _gib(size: int) -> str:
    return f"{size / GIB:.1f}"


def _between(least: int, value: int, most: int) -> int:
    return max(least, min(value, most))
