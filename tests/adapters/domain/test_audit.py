"""The chain of hashes: what is linked verifies, and whatever is done to it shows."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import pytest

from adapters.domain.audit import (
    EMPTY,
    MAX_REASON,
    Action,
    Damage,
    Entry,
    Head,
    Verdict,
    change,
    hash_of,
    linked,
    parse_anchor,
    parse_reason,
    verify,
)
from adapters.domain.principals import SYSTEM
from adapters.errors import InvalidRequest

Log = list[Entry]


def a_log(length: int, *, first: int = 0) -> Log:
    log: Log = []
    for number in range(first, first + length):
        new = change(
            SYSTEM,
            Action.VERSION_RETIRED,
            f"version/support:{number}",
            unit="support",
            before={"state": "live"},
            after={"state": "retired", "share": 0.1},
            reason="so",
        )
        log.append(linked(new, to=log[-1].head if log else EMPTY, at=1e9 + number / 10))
    return log


def head_of(log: Log) -> Head:
    return log[-1].head if log else EMPTY


def verified(log: Log, *, kept: Head | None = None, anchors: Sequence[Head] = ()) -> Verdict:
    """As it is read: in parts of two."""
    parts = [log[start : start + 2] for start in range(0, len(log) + 1, 2)]
    return verify([(part, kept or head_of(log)) for part in parts], anchors=anchors)


def rehashed(log: Log) -> Log:
    """All of it made anew, as one would who knows how it is hashed."""
    made: Log = []
    for entry in log:
        prev = made[-1].hash if made else EMPTY.hash
        unhashed = replace(entry, seq=len(made) + 1, prev_hash=prev)
        made.append(replace(unhashed, hash=hash_of(unhashed)))
    return made


def test_the_hash_is_the_one_that_anybody_can_compute() -> None:
    (entry,) = a_log(1)
    canonical = (
        '{"action":"version.retired","actor":"system","after":{"share":0.1,"state":"retired"},'
        '"at":1000000000.0,"before":{"state":"live"},"reason":"so","role":"system","seq":1,'
        '"subject":"version/support:0","unit":"support"}'
    )
    assert entry.hash == hashlib.sha256(("0" * 64 + canonical).encode()).hexdigest()


@pytest.mark.parametrize("length", [0, 1, 2, 3, 8])
def test_a_log_that_nobody_touched_is_intact(length: int) -> None:
    log = a_log(length)
    assert verified(log) == Verdict(head=head_of(log))
    assert verified(log, anchors=[EMPTY, *(entry.head for entry in log)]).intact


def edited(log: Log, n: int) -> Log:
    return [*log[:n], replace(log[n], actor="key_other"), *log[n + 1 :]]


def edited_facts(log: Log, n: int) -> Log:
    return [*log[:n], replace(log[n], before={"state": "candidate"}), *log[n + 1 :]]


def edited_and_hashed(log: Log, n: int) -> Log:
    """By somebody who stops halfway: the next entry, or the kept head, names the hash before."""
    forged = replace(log[n], reason="another")
    return [*log[:n], replace(forged, hash=hash_of(forged)), *log[n + 1 :]]


def deleted(log: Log, n: int) -> Log:
    return [*log[:n], *log[n + 1 :]]


def moved(log: Log, n: int) -> Log:
    """Trades its place and number with the next one, or the first."""
    other = (n + 1) % len(log)
    traded = list(log)
    traded[n], traded[other] = (
        replace(log[other], seq=log[n].seq),
        replace(log[n], seq=log[other].seq),
    )
    return traded


def put_in(log: Log, n: int) -> Log:
    """One more at this place, well hashed, and those behind it moved on by one."""
    forged = replace(log[n], actor="key_other")
    forged = replace(forged, hash=hash_of(forged))
    return [*log[:n], forged, *(replace(entry, seq=entry.seq + 1) for entry in log[n:])]


@pytest.mark.parametrize(
    "tamper", [edited, edited_facts, edited_and_hashed, deleted, moved, put_in]
)
def test_whatever_is_done_to_an_entry_shows(tamper: Callable[[Log, int], Log]) -> None:
    log = a_log(5)
    for n in range(len(log)):
        verdict = verified(tamper(log, n), kept=head_of(log))
        assert not verdict.intact
        assert verdict.head.seq <= n + 1, "nothing at or behind the place is vouched for"


def another(value: Any) -> Any:
    if isinstance(value, str):
        return f"{value}x"
    return value + 1 if isinstance(value, int | float) else {"x": 1}


def test_every_field_is_under_the_hash() -> None:
    (entry,) = a_log(1)
    for name in Entry.__dataclass_fields__:
        changed = replace(entry, **{name: another(getattr(entry, name))})
        assert not verify([([changed], changed.head)], anchors=[]).intact, name


def test_a_tail_that_was_cut_off_shows_by_the_kept_head_and_by_an_anchor() -> None:
    log = a_log(5)
    assert verified(log[:3], kept=head_of(log)).damage is Damage.CUT
    assert verified(log[:3]).intact, "whoever can cut can also write the head anew"
    cut = verified(log[:3], anchors=[log[1].head, log[4].head])
    assert (cut.damage, cut.at) == (Damage.CUT, 4)
    assert verified([], anchors=[log[0].head]).damage is Damage.CUT


def test_an_entry_behind_the_kept_head_shows() -> None:
    log = a_log(3)
    assert verified(log, kept=log[1].head).damage is Damage.UNLINKED
    assert verified(log, kept=replace(log[2].head, hash="f" * 64)).damage is Damage.UNLINKED


def test_a_log_made_anew_shows_by_an_anchor_only() -> None:
    log = a_log(5)
    forged = rehashed(edited(log, 1))
    assert verified(forged).intact
    assert verified(forged, anchors=[log[0].head]).intact
    for anchor in log[1:]:
        verdict = verified(forged, anchors=[log[0].head, anchor.head])
        assert (verdict.damage, verdict.at) == (Damage.UNANCHORED, anchor.seq)


def test_a_head_prints_as_the_anchor_that_is_read_again() -> None:
    head = head_of(a_log(3))
    assert parse_anchor(str(head)) == head
    for wrong in ("", "3", "3:abc", f"x:{head.hash}", f"{head} ", f"-3:{head.hash}"):
        with pytest.raises(InvalidRequest):
            parse_anchor(wrong)


def test_a_reason_is_one_printable_line() -> None:
    assert parse_reason("  the tone was off ") == "the tone was off"
    assert parse_reason(None) is parse_reason(" ") is None
    for wrong in ("a\nb", "x" * (MAX_REASON + 1), "\0", "\ud800"):
        with pytest.raises(InvalidRequest):
            parse_reason(wrong)


def test_facts_that_say_nothing_are_left_out() -> None:
    new = change(
        SYSTEM,
        Action.KEY_CREATED,
        "key/key_1",
        unit=None,
        before=None,
        after={"role": "admin", "unit": None},
        reason="x" * 1000,
    )
    assert (new.before, new.after) == (None, {"role": "admin"})
    assert new.reason == "x" * MAX_REASON
