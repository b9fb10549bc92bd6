"""Datasets: which part a question belongs to, and which artifact a job was trained on."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Protocol

from adapters.domain.datasets import Part
from adapters.domain.names import Digest, JobId


class Datasets(Protocol):
    """Keeps, for the life of an adapter, which part each question belongs to.

    Questions are 16-byte digests; no text is ever kept.
    """

    def parts(self, adapter: str, questions: Collection[bytes]) -> dict[bytes, Part]:
        """The parts of those of `questions` that have one."""
        ...

    def assign(
        self, adapter: str, parts: Mapping[bytes, Part], *, job_id: JobId, fence: int
    ) -> dict[bytes, Part]:
        """Gives questions their parts, all of them or, where one has another part, none.

        The first decision stays. The answer is what holds now: `parts`, or what was decided before.
        Raises LeaseLost.
        """
        ...

    def of_job(self, job_id: JobId) -> Digest | None:
        """The artifact that the job's dataset is."""
        ...

    def newest(self, adapter: str) -> Digest | None:
        """The artifact of the adapter's newest job whose dataset is kept: what versions that no
        job has made are measured by.
        """
        ...

    def record(self, job_id: JobId, digest: Digest, *, fence: int) -> None:
        """Names the artifact that the job's dataset is, in the place of an earlier one.

        It is kept as long as the job or the version that it made. Raises LeaseLost, Condemned.
        """
        ...
