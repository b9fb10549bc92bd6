"""What people say of a version: whether it may go live, beside what its gates measured.

A unit may ask for two people (`gates.approval: second_person`). Whoever made the version, by
starting its job or by importing it, is not one who approves it. A no holds a version up in every
unit, until the one who said it says yes, or an admin takes it back: they may have left. It does not
lapse with their key, for what they saw in the version has not changed.

People are known by their token, or by whom their key was made for: all keys of one holder are one
person's, whichever followed which. Who has keys under two names is two people here.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from enum import StrEnum

from adapters.domain.jobs import Job
from adapters.domain.names import VersionId
from adapters.domain.versions import IMPORT, WEAKENED, Version
from adapters.errors import Conflict, NotPermitted


class Verdict(StrEnum):
    """What somebody says of a version."""

    APPROVED = "approved"
    """It may go live."""
    REJECTED = "rejected"
    """It may not."""


@dataclass(frozen=True, kw_only=True)
class Approval:
    """The last word of one person on one version."""

    version_id: VersionId
    actor: str
    """A key's id, or a token's holder without a name."""
    role: str
    verdict: Verdict
    reason: str | None
    at: float


def author_of(version: Version, job: Job | None) -> str | None:
    """Who made it happen: who started the job that made it or the stronger one, or who imported it;
    None where nobody is known.
    """
    if job is not None:
        return job.created_by
    evidence = version.evidence or {}
    told = evidence.get(WEAKENED) or evidence.get(IMPORT)
    return str(told["by"]) if isinstance(told, dict) and "by" in told else None


def check_may_decide(version: Version, person: Collection[str], *, author: str | None) -> None:
    """Raises NotPermitted where it is the author's own work; `person` has all ids of who asks."""
    if author in person:
        raise NotPermitted(
            f"{version.name} is this key's holder's own work; somebody else decides about it",
            code="approval_by_author",
        )


def check_approved(version: Version, said: Sequence[Approval], *, needed: bool) -> None:
    """Raises Conflict where somebody said no, or a yes is `needed` and nobody said it."""
    against = next((each for each in said if each.verdict is Verdict.REJECTED), None)
    if against is not None:
        raise Conflict(
            f"{against.actor} has rejected {version.name}; it waits until they approve it, or an "
            "admin takes that back",
            code="version_disapproved",
        )
    if needed and not said:
        raise Conflict(
            f"{version.name} waits for the approval of a second person "
            f"(`wardrobe approve {version.name}`)",
            code="approval_missing",
        )
