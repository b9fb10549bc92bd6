"""API keys: what they hold, how they are hashed, and what may be granted."""

from __future__ import annotations

import hashlib
import hmac
from typing import Any

import pytest

from adapters.domain.api_keys import (
    DAY_S,
    MAX_BEARER,
    MAX_LIFETIME_S,
    Key,
    KeyHasher,
    check_grant,
    hash_key,
    issue,
    make_key,
    succeed,
)
from adapters.domain.names import Alias, Unit
from adapters.domain.principals import Grant, Role, Scope
from adapters.errors import InvalidRequest

PEPPER = b"p" * 32
SUPPORT = Unit("support")
INFER = frozenset({Scope.INFER})


def test_a_key_is_recognised_by_its_hash_and_not_kept() -> None:
    secret, record = make_key(Role.UNIT, SUPPORT, pepper=PEPPER)
    assert record.hash == hash_key(secret, pepper=PEPPER)
    assert secret not in repr(record)
    assert (record.role, record.unit) == (Role.UNIT, SUPPORT)


def test_the_hash_needs_the_pepper() -> None:
    assert hash_key("wr-x", pepper=PEPPER) != hash_key("wr-x", pepper=b"q" * 32)


def test_keys_tell_their_kind_hold_256_bits_and_fit_a_bearer() -> None:
    unit, _ = make_key(Role.UNIT, SUPPORT, pepper=PEPPER)
    admin, _ = make_key(Role.ADMIN, None, pepper=PEPPER)
    assert unit.startswith("wr-support-")
    assert admin.startswith("wr-admin-")
    longest, _ = make_key(Role.UNIT, Unit("u" * 40), pepper=PEPPER)
    assert len(unit.removeprefix("wr-support-")) >= 43
    assert len(longest) <= MAX_BEARER


def test_two_keys_share_nothing() -> None:
    made = [make_key(Role.ADMIN, None, pepper=PEPPER) for _ in range(50)]
    assert len({secret for secret, _ in made}) == 50
    assert len({record.id for _, record in made}) == 50


def test_ops_may_bring_the_key() -> None:
    secret, record = make_key(Role.ADMIN, None, pepper=PEPPER, secret="from-a-secret")
    assert secret == "from-a-secret"
    assert record.hash == hash_key("from-a-secret", pepper=PEPPER)


def test_a_bearer_that_is_no_text_is_hashed_like_any_other() -> None:
    assert len(hash_key("\udcff\x00ü", pepper=PEPPER)) == 64


def test_keys_of_earlier_builds_were_hashed_under_the_pepper_itself() -> None:
    before = hmac.new(PEPPER, b"wr-x", hashlib.sha256).hexdigest()
    hasher = KeyHasher(PEPPER)
    assert hasher.hash_of_earlier_builds("wr-x") == before != hasher.hash("wr-x")


def grant(unit: Unit | None = SUPPORT, **changes: Any) -> Grant:
    role = Role.ADMIN if unit is None else Role.UNIT
    return Grant(**{"role": role, "unit": unit, "scopes": INFER, **changes})


@pytest.mark.parametrize(
    "wrong",
    [
        grant(scopes=frozenset()),
        grant(scopes=None),
        grant(scopes=frozenset({Scope.METRICS})),
        grant(scopes=frozenset({Scope.INFER, Scope.ADMIN})),
        grant(None),
        grant(None, scopes=frozenset({Scope.TRAIN, Scope.METRICS})),
        grant(aliases=frozenset()),
        grant(scopes=frozenset({Scope.TRAIN}), aliases=frozenset({Alias("support")})),
    ],
)
def test_a_grant_of_nothing_or_of_more_than_its_owner_has_is_none(wrong: Grant) -> None:
    with pytest.raises(InvalidRequest):
        check_grant(wrong)


@pytest.mark.parametrize("name", ["", "Shop", "two words", "a" * 41, "1st", "metrics key", "ü"])
def test_a_holders_name_is_one(name: str) -> None:
    with pytest.raises(InvalidRequest) as raised:
        issue(grant(), name, lifetime_s=DAY_S, pepper=PEPPER)
    assert raised.value.param == "name"


@pytest.mark.parametrize("lifetime_s", [0.0, -1.0, 59.0, MAX_LIFETIME_S + 1, float("nan")])
def test_a_key_lives_for_a_while_and_not_for_ever(lifetime_s: float) -> None:
    with pytest.raises(InvalidRequest) as raised:
        issue(grant(), "shop", lifetime_s=lifetime_s, pepper=PEPPER)
    assert raised.value.param == "expires_in"


def test_the_key_that_follows_another_may_do_the_same_for_as_long() -> None:
    given = grant(aliases=frozenset({Alias("support")}))
    _, new = issue(given, "shop", lifetime_s=90 * DAY_S, pepper=PEPPER)
    kept = Key(
        id=new.id, role=new.role, unit=new.unit, scopes=new.scopes, aliases=new.aliases,
        hash=new.hash, name=new.name, created_at=5.0, expires_at=5.0 + 90 * DAY_S,
    )  # fmt: skip
    secret, after = succeed(kept, pepper=PEPPER)
    assert (after.owner, after.scopes, after.aliases) == (new.owner, new.scopes, new.aliases)
    assert after.expires_in == 90 * DAY_S
    assert after.hash == hash_key(secret, pepper=PEPPER) != new.hash
    assert after.id != new.id


def test_a_key_is_in_force_until_it_expires_or_is_revoked() -> None:
    key = Key(id="key_1", role=Role.UNIT, unit=SUPPORT, hash="h", created_at=0.0, expires_at=10.0)
    assert key.in_force(9.9)
    assert not key.in_force(10.0)
    ended = Key(id="key_1", role=Role.UNIT, unit=SUPPORT, hash="h", created_at=0.0, revoked_at=1.0)
    assert not ended.in_force(0.5)
