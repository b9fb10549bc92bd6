"""Evaluations: what scorers gave models on the examples of a test part."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Protocol

from adapters.domain.evaluations import Evaluation, NewEvaluation
from adapters.domain.names import JobId, Unit, VersionId
from adapters.domain.pages import Page
from adapters.domain.principals import Principal


class Evaluations(Protocol):
    """Keeps evaluations, which are never changed; those of a version go with its artifact."""

    def add(
        self, new: Sequence[NewEvaluation], *, job_id: JobId | None, fence: int | None
    ) -> Sequence[Evaluation]:
        """Adds all or none. What a job has added before is returned as it was added then.

        Raises LeaseLost when `job_id` is given and `fence` is not its current one, or a cancel of
        the job was asked for.
        """
        ...

    def relevant(
        self, unit: Unit, adapter: str, *, subjects: Collection[str], since: VersionId
    ) -> Sequence[Evaluation]:
        """Those on an adapter's rows of one of `subjects` or of a version newer than `since`.

        Oldest first.
        """
        ...

    def list(
        self,
        principal: Principal,
        *,
        adapter: str,
        subject: str | None,
        after: str | None,
        limit: int,
    ) -> Page[Evaluation]:
        """Newest first; `after` is an evaluation's id as text."""
        ...
