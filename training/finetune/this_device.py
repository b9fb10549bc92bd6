"""What the machine has to train with: its device, the memory that is free there, its threads."""

from __future__ import annotations

import gc
import os
import resource
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import torch

from training.finetune.device_plan import Device, Devices

_CGROUP = Path("/sys/fs/cgroup")
_THREADS = torch.get_num_threads()
"""Of this process, as it began: a run sets its own, and the next must not divide those again."""
_NO_MEMORY = (
    "can't allocate memory",
    "not enough memory",
    "bad_alloc",
    "could not create a memory",
)
"""How torch's allocator, the C++ library and oneDNN say it on a CPU, where none has an error class
of its own for it."""


def places(devices: Devices) -> list[int]:
    """Where a job's devices are: the numbers of GPUs, or of processes on the CPU.

    Jobs that run at once use other GPUs, as long as there are enough.
    """
    if not torch.cuda.is_available():
        return list(range(devices.count))
    return devices.among(torch.cuda.device_count())


def use_place(place: int, *, gpu_share: float) -> None:
    """Makes the GPU of that number the one that this process means, and bounds what it takes there.

    What goes beyond `gpu_share` of its memory raises torch.OutOfMemoryError, as a full GPU does.
    """
    if torch.cuda.is_available():
        torch.cuda.set_device(place)
        torch.cuda.set_per_process_memory_fraction(gpu_share)


def this_device(threads: int, *, count: int = 1) -> Device:
    """The GPU that this process uses, where there is one, or the CPU.

    `threads` of 0 are as many as this process may use; `count` devices share them. Each is taken to
    have as much free memory as this one: a dry step tells where it has not.
    """
    wanted = max(1, (threads or min(_THREADS, _quota())) // count)
    if torch.cuda.is_available():
        free, total = torch.cuda.mem_get_info()
        free = free_of_a_share(
            free=free,
            held=torch.cuda.memory_reserved(),
            used=torch.cuda.memory_allocated(),
            share=int(total * torch.cuda.get_per_process_memory_fraction()),
        )
        return Device(kind="cuda", free=free, threads=wanted, count=count)
    free = min([min(_free_here()) // count, *_allowed_still()])
    return Device(kind="cpu", free=free, threads=wanted, count=count)


def free_of_a_share(*, free: int, held: int, used: int, share: int) -> int:
    """Bytes of a GPU that this process may still use of its `share`, where others leave `free`.

    What it holds and does not use is free for it.
    """
    return max(0, min(free + held - used, share - used))


def ran_out_of_memory(error: BaseException) -> bool:
    """Whether memory was what a step lacked."""
    if isinstance(error, torch.OutOfMemoryError | MemoryError):
        return True
    return isinstance(error, RuntimeError) and any(words in str(error) for words in _NO_MEMORY)


def memory_held() -> int | None:
    """Bytes that this process holds of what it trains in; None where nothing tells."""
    if torch.cuda.is_available():
        return int(torch.cuda.memory_reserved())
    with suppress(OSError, ValueError, IndexError):
        pages = int(Path("/proc/self/statm").read_text("ascii").split()[1])
        return pages * os.sysconf("SC_PAGE_SIZE")
    return None


def give_back_memory() -> None:
    """Frees what a failed step has left behind."""
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()


def _free_here() -> Iterator[int]:
    """Bytes: of the machine, and below the limit of its control group."""
    yield os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    with suppress(OSError):
        for line in Path("/proc/meminfo").read_text("ascii").splitlines():
            if line.startswith("MemAvailable:"):
                yield int(line.split()[1]) * 1024
    with suppress(OSError, ValueError):  # "max": no limit
        limit = int((_CGROUP / "memory.max").read_text("ascii"))
        yield max(0, limit - int((_CGROUP / "memory.current").read_text("ascii")))


def _allowed_still() -> Iterator[int]:
    """Bytes below the limit of this process's own, where it has one."""
    most, _ = resource.getrlimit(resource.RLIMIT_DATA)
    if most == resource.RLIM_INFINITY:
        return
    with suppress(OSError):
        for line in Path("/proc/self/status").read_text("ascii").splitlines():
            if line.startswith("VmData:"):
                yield max(0, most - int(line.split()[1]) * 1024)


def _quota() -> int:
    """Cores that the control group allows: a container often has fewer than its machine."""
    cores = os.cpu_count() or 1
    with suppress(OSError, ValueError):
        allowed, period = (_CGROUP / "cpu.max").read_text("ascii").split()
        return max(1, min(cores, round(int(allowed) / int(period))))
    return cores
