"""The audit log: who changed what, from what to what and why, as a chain of hashes.

The hash of an entry covers the one before it, so an entry that was altered, deleted, moved or put
in shows. A log whose end was cut off, or that was made anew as a whole, shows by an *anchor* only:
a head that somebody kept elsewhere.

An entry holds names, ids, digests, states and numbers; never content, never a secret.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from enum import StrEnum
from typing import Any

from adapters.domain.principals import Principal
from adapters.errors import InvalidRequest

Facts = Mapping[str, Any]
"""What is told of a thing before or after a change: flat, and small enough to be read."""

MAX_REASON = 500
"""Characters of a reason."""
_NO_HASH = "0" * 64
_ANCHOR = re.compile(r"(\d{1,10}):([0-9a-f]{64})")


class Action(StrEnum):
    """What was done, as `<kind of thing>.<what happened to it>`."""

    KEY_CREATED = "key.created"
    """Somebody may call who could not before."""
    KEY_ROTATED = "key.rotated"
    """A key has a successor, and ends earlier."""
    KEY_REVOKED = "key.revoked"
    """A key has ended for ever."""
    KEYS_RESET = "keys.reset"
    """Every key has ended, and the pepper is forgotten."""
    FILE_CREATED = "file.created"
    """A file was uploaded, or a job left it as a result."""
    FILE_DELETED = "file.deleted"
    """A file is forgotten; its bytes are collected."""
    UPLOAD_BEGUN = "upload.begun"
    """A file is to come in parts; `file.created` is what it comes to."""
    UPLOAD_CANCELLED = "upload.cancelled"
    """Its owner gave an upload up."""
    JOB_CREATED = "job.created"
    """Somebody asked for a version to be made."""
    JOB_QUEUED = "job.queued"
    """Its files were found good."""
    JOB_STOP_REQUESTED = "job.stop_requested"
    """A trainer that runs it is to cancel or pause it."""
    JOB_PAUSED = "job.paused"
    """It waits behind its newest checkpoint."""
    JOB_RESUMED = "job.resumed"
    """It waits for a trainer again."""
    JOB_ENDED = "job.ended"
    """It succeeded, failed or was cancelled."""
    DATA_KEY_MADE = "data_key.made"
    """A unit has a key, with which pseudonyms and erased terms are made."""
    RECORDS_ERASED = "records.erased"
    """A person's records are left out of what is trained next."""
    EVALUATION_ADDED = "evaluation.added"
    """A scorer's numbers of a model were kept."""
    VERSION_PUBLISHED = "version.published"
    """A candidate is there."""
    VERSION_JUDGED = "version.judged"
    """Gates gave their verdicts; a version that failed is rejected."""
    VERSION_MOVED = "version.moved"
    """A flip made it live or retired, or marked it as rolled back from."""
    VERSION_RETIRED = "version.retired"
    """It was withdrawn for good."""
    VERSION_SIGNED = "version.signed"
    """Somebody who holds a signing key vouches for it, after it was published."""
    VERSION_APPROVED = "version.approved"
    """Somebody says that it may go live."""
    VERSION_DISAPPROVED = "version.disapproved"
    """Somebody says that it may not."""
    VERSION_REJECTION_WITHDRAWN = "version.rejection_withdrawn"
    """An admin takes back what somebody has said against it."""
    VERSION_SHARED = "version.shared"
    """Another unit may be answered by it."""
    VERSION_UNSHARED = "version.unshared"
    """Another unit may be answered by it no more."""
    VERSION_PINNED = "version.pinned"
    """It is kept resident, or no longer."""
    VERSION_COLLECTED = "version.collected"
    """The retention ended it: its artifact goes."""
    ROLLOUT_BEGUN = "rollout.begun"
    """Somebody asked for a route to be moved."""
    ROLLOUT_FLIPPED = "rollout.flipped"
    """The route has moved."""
    ROLLOUT_COMPLETED = "rollout.completed"
    """Nobody answers by the old route any more."""
    ROLLOUT_FAILED = "rollout.failed"
    """It ended and changed nothing."""
    CANARY_SCORED = "canary.scored"
    """Something outside said how good answers were."""
    ROUTE_EMPTIED = "route.emptied"
    """A version that it named was withdrawn."""
    REPLICA_RETIRED = "replica.retired"
    """An operator said that a silent replica is gone."""
    QUARANTINE_CLEARED = "quarantine.cleared"
    """An operator lets requests reach an engine again that died of them."""
    ROWS_COLLECTED = "registry.collected"
    """The retention deleted rows that nobody may name any more."""


@dataclass(frozen=True, kw_only=True)
class Change:
    """One change, on its way into the log; the registry gives its place and the time."""

    actor: str
    """A key's or a job's id, or `system`."""
    role: str
    unit: str | None
    """Whose thing was changed; None is nobody's or everybody's."""
    action: Action
    subject: str
    """`<kind>/<name>`: `route/support`, `version/support:8`, `key/key_1`."""
    before: Facts | None
    after: Facts | None
    reason: str | None


@dataclass(frozen=True, kw_only=True)
class Entry:
    """One change as the log keeps it. `action` is text: a newer build may know more of them."""

    seq: int
    at: float
    """By the database's clock. Of changes that were made at one moment, either may stand first."""
    actor: str
    role: str
    unit: str | None
    action: str
    subject: str
    before: Facts | None
    after: Facts | None
    reason: str | None
    prev_hash: str
    hash: str

    @property
    def head(self) -> Head:
        """The log's head when this entry was its newest."""
        return Head(seq=self.seq, hash=self.hash)


@dataclass(frozen=True, kw_only=True)
class Head:
    """The newest entry's number and hash: what stands for everything up to it."""

    seq: int
    hash: str

    def __str__(self) -> str:
        return f"{self.seq}:{self.hash}"


EMPTY = Head(seq=0, hash=_NO_HASH)
"""Of a log without entries."""


def parse_anchor(text: str) -> Head:
    """`17:<hash>` as a head prints itself. Raises InvalidRequest."""
    match = _ANCHOR.fullmatch(text)
    if match is None:
        raise InvalidRequest(
            "an anchor looks like `17:<64 hexadecimal digits>`, as `wardrobe audit head` prints it",
            param="anchor",
        )
    return Head(seq=int(match[1]), hash=match[2])


def parse_reason(text: str | None) -> str | None:
    """A caller's reason, or None where it says nothing. Raises InvalidRequest."""
    said = (text or "").strip()
    if len(said) > MAX_REASON or not said.isprintable():
        raise InvalidRequest(
            f"a reason is one line of at most {MAX_REASON} characters", param="reason"
        )
    return said or None


def change(
    principal: Principal,
    action: Action,
    subject: str,
    *,
    unit: str | None,
    before: Facts | None,
    after: Facts | None,
    reason: str | None,
) -> Change:
    """The change that `principal` makes; what is None among its facts is left out."""
    return Change(
        actor=principal.id,
        role=principal.role.value,
        unit=unit,
        action=action,
        subject=subject,
        before=_told(before),
        after=_told(after),
        reason=None if reason is None else reason[:MAX_REASON],
    )


def _told(facts: Facts | None) -> Facts | None:
    return {name: value for name, value in facts.items() if value is not None} if facts else None


def linked(new: Change, *, to: Head, at: float) -> Entry:
    """The entry behind `to`, hashed."""
    values = {**vars(new), "action": new.action.value, "seq": to.seq + 1, "at": at}
    unhashed = Entry(**values, prev_hash=to.hash, hash=_NO_HASH)
    return Entry(**values, prev_hash=to.hash, hash=hash_of(unhashed))


def hash_of(entry: Entry) -> str:
    """SHA-256 of the previous hash's digits and of everything else as canonical JSON.

    That is: no spaces, names in order, ASCII with escapes, numbers as short as they can be.
    """
    said = asdict(entry)
    for name in ("prev_hash", "hash"):
        del said[name]
    canonical = json.dumps(said, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return hashlib.sha256((entry.prev_hash + canonical).encode()).hexdigest()


# -- verifying


class Damage(StrEnum):
    """What is wrong with a log."""

    MISSING = "missing"
    """An entry is not there, or stands in another place."""
    UNLINKED = "unlinked"
    """An entry does not follow the one before it: one was put in, moved or made anew."""
    ALTERED = "altered"
    """An entry does not have the hash of what it says."""
    CUT = "cut"
    """The log ends before the head that was kept of it."""
    UNANCHORED = "unanchored"
    """At an anchor's number stands another entry: the log was made anew."""


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """What verifying a log has found."""

    head: Head
    """The last entry up to which everything fits."""
    damage: Damage | None = None
    at: int | None = None
    """The number of the entry that does not fit, or is missing."""

    @property
    def intact(self) -> bool:
        return self.damage is None


def verify(parts: Iterable[tuple[Sequence[Entry], Head]], *, anchors: Sequence[Head]) -> Verdict:
    """Walks a log from its first entry to its last, and stops where something does not fit.

    `parts` are entries in order, each with the head that the registry kept at that moment;
    `anchors` are heads that were kept elsewhere.
    """
    anchored: dict[int, set[str]] = {}
    for anchor in anchors:
        anchored.setdefault(anchor.seq, set()).add(anchor.hash)
    head = kept = EMPTY
    for entries, kept_then in parts:
        kept = kept_then
        for entry in entries:
            damage = _damage(entry, after=head)
            if damage is not None:
                at = head.seq + 1 if damage is Damage.MISSING else entry.seq
                return Verdict(head=head, damage=damage, at=at)
            if anchored.get(entry.seq, set()) - {entry.hash}:
                return Verdict(head=head, damage=Damage.UNANCHORED, at=entry.seq)
            head = entry.head
    if any(newer.seq > head.seq for newer in (kept, *anchors)):
        return Verdict(head=head, damage=Damage.CUT, at=head.seq + 1)
    if kept != head:
        return Verdict(head=head, damage=Damage.UNLINKED, at=min(kept.seq + 1, head.seq))
    return Verdict(head=head)


def _damage(entry: Entry, *, after: Head) -> Damage | None:
    if entry.seq != after.seq + 1:
        return Damage.MISSING
    if entry.prev_hash != after.hash:
        return Damage.UNLINKED
    return None if hash_of(entry) == entry.hash else Damage.ALTERED
