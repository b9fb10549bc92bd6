"""API keys."""

from __future__ import annotations

import pytest

from adapters.domain.names import Unit
from adapters.domain.principals import MAX_BEARER, SYSTEM, Principal, Role, hash_key, make_key

PEPPER = b"p" * 32
SUPPORT = Unit("support")


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


@pytest.mark.parametrize(
    ("role", "own", "acts_own", "acts_other", "infers_own", "infers_other"),
    [
        (Role.ADMIN, None, True, True, True, True),
        (Role.UNIT, SUPPORT, True, False, True, False),
        (Role.TRAINER, None, False, False, True, True),
        (Role.UNIT, None, False, False, False, False),
        (Role.SYSTEM, None, True, True, True, True),
    ],
)
def test_who_may_do_what_for_whom(
    role: Role,
    own: Unit | None,
    acts_own: bool,
    acts_other: bool,
    infers_own: bool,
    infers_other: bool,
) -> None:
    principal = Principal(id="key_1", role=role, unit=own)
    assert principal.may_act_for("support") is acts_own
    assert principal.may_act_for("sales") is acts_other
    assert principal.may_infer_for("support") is infers_own
    assert principal.may_infer_for("sales") is infers_other


def test_the_system_acts_under_a_name_that_no_key_has() -> None:
    assert (SYSTEM.id, SYSTEM.role, SYSTEM.unit) == ("system", Role.SYSTEM, None)
