"""What gates say, and what it means together."""

from __future__ import annotations

from dataclasses import replace

import pytest
from pydantic import ValidationError

from adapters.domain.gates import GatePolicy, Outcome, all_passed, at_least, at_most

YES = at_least("effect", 0.5, 0.5, "")
NO = at_least("task", 0.49, 0.5, "", against="base")
SKIPPED = replace(YES, outcome=Outcome.SKIPPED)
ERROR = replace(YES, outcome=Outcome.ERROR)


def test_nothing_measured_proves_nothing() -> None:
    assert not all_passed([])
    assert not all_passed([SKIPPED])


def test_one_no_is_enough_and_so_is_one_that_could_not_be_measured() -> None:
    assert all_passed([YES, SKIPPED])
    assert not all_passed([YES, NO])
    assert not all_passed([YES, ERROR])


def test_a_gate_knows_which_side_of_its_bound_is_good() -> None:
    assert (YES.direction, YES.outcome, NO.outcome) == ("at_least", "passed", "failed")
    assert at_most("fidelity", 0.1, 0.1, "").passed
    assert not at_most("fidelity", 0.11, 0.1, "").passed


def test_a_gate_is_named_with_what_it_compares_with() -> None:
    assert (YES.name, NO.name) == ("effect", "task against base")


@pytest.mark.parametrize("old", ["min_fidelity", "held_out"])
def test_a_name_that_a_policy_does_not_have_is_refused_by_name(old: str) -> None:
    with pytest.raises(ValidationError, match=old):
        GatePolicy.model_validate({old: 0.9})
