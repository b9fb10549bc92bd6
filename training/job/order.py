"""What a job's process is told: which job, under which lease; and what a dry run's end tells."""

from __future__ import annotations

import json
from dataclasses import dataclass

from adapters.domain.names import JobId

AGAIN = 75
"""A dry run's exit code where the registry or a disk was in the way: nothing is known yet."""


@dataclass(frozen=True, kw_only=True)
class Order:
    """What a process is to run."""

    job_id: JobId
    fence: int

    def line(self) -> bytes:
        """As a waiting process reads it."""
        return json.dumps({"job": self.job_id, "fence": self.fence}).encode() + b"\n"

    @classmethod
    def from_line(cls, line: str) -> Order | None:
        """None at the end of input: nobody will order any more."""
        if not line.strip():
            return None
        values = json.loads(line)
        return cls(job_id=JobId(values["job"]), fence=int(values["fence"]))
