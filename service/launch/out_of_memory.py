"""Counts what the kernel has ended to free memory, so that such a death is called by its name."""

from __future__ import annotations

import signal
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, kw_only=True)
class OomKills:
    """How many there were: of our control group, and of the whole machine."""

    group: int
    machine: int

    def explain(self, before: OomKills, *, code: int) -> bool:
        """Whether a death with this exit code was one of those since `before`.

        The group's kills are ours, whichever of our processes it was. The machine's may be
        anybody's, and count only where ours was ended by the same signal.
        """
        if self.group > before.group:
            return True
        return self.machine > before.machine and code == -signal.SIGKILL


def oom_kills(root: Path = Path("/")) -> OomKills:
    """As the kernel counts them now; 0 where it does not say."""
    group = root / "sys/fs/cgroup" / _own_group(root).lstrip("/") / "memory.events"
    return OomKills(group=_count(group), machine=_count(root / "proc/vmstat"))


def _own_group(root: Path) -> str:
    """Our path below the second version's one hierarchy; its root in a container."""
    try:
        lines = (root / "proc/self/cgroup").read_text().splitlines()
    except OSError:
        return ""
    return next((line.removeprefix("0::") for line in lines if line.startswith("0::")), "")


def _count(path: Path) -> int:
    try:
        lines = path.read_text().splitlines()
    except OSError:
        return 0
    words = (line.split() for line in lines)
    return next((int(value) for name, value in words if name == "oom_kill"), 0)
