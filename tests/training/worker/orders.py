"""Where processes are killed: files that a test writes, of which each start takes one."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, kw_only=True)
class Order:
    """Kill `victim`, `child` or `trainer`, at the `place`th place that the child comes to."""

    place: int
    victim: str
    name: str = ""

    def carried_out(self, folder: Path) -> None:
        """Says so, just before."""
        (folder / f"{self.name}.done").touch()


def give(folder: Path, job_id: str, orders: list[Order]) -> None:
    """The orders of one job, for its starts in turn."""
    folder.mkdir(exist_ok=True)
    for at, order in enumerate(orders):
        (folder / f"{job_id}.{at}").write_text(f"{order.place} {order.victim}")


def next_order(folder: Path, job_id: str) -> Order | None:
    """Takes the first one that is left."""
    for path in sorted(folder.glob(f"{job_id}.[0-9]")):
        place, victim = path.read_text().split()
        path.unlink()
        return Order(place=int(place), victim=victim, name=path.name)
    return None


def carried_out(folder: Path) -> int:
    """How many kills there have been."""
    return len(list(folder.glob("*.done")))
