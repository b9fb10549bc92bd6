"""Principals: whose things they may use, and what for."""

from __future__ import annotations

from typing import Any

import pytest

from adapters.domain.names import Alias, Unit
from adapters.domain.principals import (
    OF_A_UNIT,
    OF_THE_WHOLE,
    SYSTEM,
    Principal,
    Role,
    Scope,
    widened,
)

SUPPORT = Unit("support")


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


def principal(role: Role, unit: Unit | None = None, **more: Any) -> Principal:
    return Principal(id="key_1", role=role, unit=unit, **more)


def test_without_scopes_a_principal_has_all_that_its_role_may_have() -> None:
    assert {scope for scope in Scope if principal(Role.UNIT, SUPPORT).may(scope)} == OF_A_UNIT
    assert all(principal(Role.ADMIN).may(scope) for scope in Scope)
    trainer = {scope for scope in Scope if principal(Role.TRAINER).may(scope)}
    assert trainer == {Scope.INFER, Scope.BASE}


def test_every_scope_is_about_one_unit_or_about_all() -> None:
    assert frozenset(Scope) == OF_A_UNIT | OF_THE_WHOLE
    assert not OF_A_UNIT & OF_THE_WHOLE


@pytest.mark.parametrize("scope", Scope)
def test_a_scope_allows_itself_and_what_it_cannot_do_without(scope: Scope) -> None:
    brings = {
        Scope.TRAIN: {Scope.READ},
        Scope.PROMOTE: {Scope.READ},
        Scope.APPROVE: {Scope.READ},
        Scope.ADMIN: set(Scope),
    }
    assert widened({scope}) == {scope} | brings.get(scope, set())


def test_an_owner_of_no_unit_sees_every_unit_by_the_admins_scope_alone() -> None:
    assert not principal(Role.ADMIN, scopes=frozenset({Scope.METRICS})).sees_every_unit
    assert not principal(Role.ADMIN, scopes=frozenset({Scope.METRICS})).may_act_for("support")
    assert principal(Role.ADMIN, scopes=widened({Scope.ADMIN})).sees_every_unit
    assert not principal(Role.UNIT, SUPPORT).sees_every_unit
    assert not principal(Role.TRAINER).sees_every_unit


def test_a_key_for_some_aliases_names_no_other() -> None:
    some = principal(Role.UNIT, SUPPORT, aliases=frozenset({Alias("support")}))
    assert some.may_name("support", "support")
    assert not some.may_name("support", "triage")
    assert not some.may_name("sales", "support")
    assert principal(Role.UNIT, SUPPORT).may_name("support", "triage")


def test_nobody_is_answered_without_the_scope() -> None:
    training = principal(Role.UNIT, SUPPORT, scopes=frozenset({Scope.TRAIN}))
    assert training.may_act_for("support")
    assert not training.may_infer_for("support")
    assert not training.may_name("support", "support")
