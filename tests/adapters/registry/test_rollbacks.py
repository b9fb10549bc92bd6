"""What every registry does with rollbacks, and with aliases that move to another unit."""

from __future__ import annotations

from dataclasses import replace

import pytest

from adapters.domain.names import Alias
from adapters.domain.principals import Principal, Role
from adapters.domain.routes import RolloutState
from adapters.domain.versions import VersionState
from adapters.errors import Conflict, NotFound, VersionConflict
from adapters.registry import Registry
from tests.adapters.registry.backends import Clock
from tests.adapters.registry.values import (
    ALIAS,
    SALES,
    STRANGER,
    SUPPORT,
    a_process,
    acknowledge,
    carried_out,
    promote,
    promoted,
    published,
    roll_back,
    went_live,
)

# -- rollbacks


def test_a_rollback_returns_to_the_version_before_and_marks_the_one_it_leaves(
    registry: Registry, clock: Clock
) -> None:
    good, bad = went_live(registry, 2)
    rollout = roll_back(registry, 2)
    assert (rollout.action, rollout.target, rollout.replaced) == ("rollback", good.id, bad.id)
    assert registry.versions.by_id(bad.id).rolled_back_at is None
    clock.pass_by(1.0)
    assert carried_out(registry, rollout).stable == good.id
    assert registry.versions.by_id(bad.id) == replace(
        bad, state=VersionState.RETIRED, rolled_back_at=clock.now
    )


def test_doing_a_rollback_twice_is_doing_it_once(registry: Registry) -> None:
    """The SDK repeats what it got no answer to: the bad version must not come back live."""
    went_live(registry, 3)
    begun = roll_back(registry, 3)
    assert roll_back(registry, 3) == begun
    route = carried_out(registry, begun)
    revision = registry.routes.revision()
    assert roll_back(registry, 3) == registry.rollouts.get(begun.id)
    assert registry.routes.route(ALIAS, SUPPORT) == route
    assert registry.routes.revision() == revision


def test_a_second_rollback_goes_further_back_and_never_to_the_bad_version(
    registry: Registry,
) -> None:
    first, second, _ = went_live(registry, 3)
    assert carried_out(registry, roll_back(registry, 3)).stable == second.id
    assert carried_out(registry, roll_back(registry, 4)).stable == first.id
    with pytest.raises(Conflict) as raised:
        roll_back(registry, 5)
    assert raised.value.reason == "nothing_to_roll_back"


def test_a_rollback_that_failed_may_be_tried_again(registry: Registry) -> None:
    good, _ = went_live(registry, 2)
    begun = roll_back(registry, 2)
    acknowledge(registry, a_process(), good, error="no room")
    registry.rollouts.advance()
    again = roll_back(registry, 2)
    assert again.id != begun.id
    assert carried_out(registry, again).stable == good.id


def test_a_rollback_of_what_was_not_seen_changes_nothing(registry: Registry) -> None:
    good, _ = went_live(registry, 2)
    for generation in (0, 1, 3):
        with pytest.raises(VersionConflict):
            roll_back(registry, generation)
    promote(registry, good)
    with pytest.raises(Conflict) as raised:
        roll_back(registry, 2)
    assert raised.value.reason == "rollout_in_progress"


def test_nothing_is_rolled_back_where_one_version_was_served(registry: Registry) -> None:
    for ask in (0, 1):
        if ask:
            promoted(registry, published(registry))
        with pytest.raises(Conflict) as raised:
            roll_back(registry, ask)
        assert raised.value.reason == "nothing_to_roll_back"


def test_a_version_that_was_rolled_back_is_promoted_only_by_who_names_the_generation(
    registry: Registry,
) -> None:
    _, bad = went_live(registry, 2)
    carried_out(registry, roll_back(registry, 2))
    with pytest.raises(Conflict) as raised:
        promote(registry, bad)
    assert raised.value.reason == "version_rolled_back"
    assert carried_out(registry, promote(registry, bad, expected=3)).stable == bad.id


def test_another_unit_rolls_nothing_back(registry: Registry) -> None:
    went_live(registry, 2)
    with pytest.raises(NotFound):
        registry.rollouts.roll_back(ALIAS, STRANGER, unit=SUPPORT, expected_generation=2)
    trainer = Principal(id="key_t", role=Role.TRAINER, unit=None)
    with pytest.raises(NotFound):
        registry.rollouts.roll_back(ALIAS, trainer, unit=SUPPORT, expected_generation=2)


# -- an alias that moves to another unit


def test_an_alias_that_moves_starts_a_new_route(registry: Registry) -> None:
    mine, theirs = published(registry), published(registry, SALES)
    promoted(registry, mine)
    route = registry.routes.route(ALIAS, SALES)
    assert (route.stable, route.generation, route.since) == (None, 1, 0)
    rollout = promote(registry, theirs, unit=SALES, by=STRANGER, expected=1)
    assert rollout.replaced is None
    moved = carried_out(registry, rollout)
    assert (moved.stable, moved.generation, moved.since) == (theirs.id, 2, rollout.id)
    assert registry.versions.by_id(mine.id).state is VersionState.RETIRED
    with pytest.raises(Conflict) as raised:
        registry.rollouts.roll_back(ALIAS, STRANGER, unit=SALES, expected_generation=2)
    assert raised.value.reason == "nothing_to_roll_back"


def test_an_alias_that_comes_back_does_not_reach_behind_its_return(registry: Registry) -> None:
    mine, theirs, again = published(registry), published(registry, SALES), published(registry)
    promoted(registry, mine)
    promoted(registry, theirs)
    promoted(registry, again)
    with pytest.raises(Conflict) as raised:
        roll_back(registry, 3)
    assert raised.value.reason == "nothing_to_roll_back"


def test_what_the_unit_before_had_begun_ends_when_the_alias_moves(registry: Registry) -> None:
    begun = promote(registry, published(registry))
    promoted(registry, published(registry, SALES))
    failed = registry.rollouts.get(begun.id)
    assert (failed.state, failed.error) == (
        RolloutState.FAILED,
        "the alias was moved to another unit",
    )


def test_a_history_shows_the_units_own_rollouts_newest_first(registry: Registry) -> None:
    first, second = published(registry), published(registry)
    for version in (first, second, first):
        promoted(registry, version)
    promoted(registry, first, Alias("triage"))
    promoted(registry, published(registry, SALES))
    page = registry.rollouts.history(ALIAS, SUPPORT, after=None, limit=2)
    cursor = str(page.items[-1].id)
    rest = registry.rollouts.history(ALIAS, SUPPORT, after=cursor, limit=2)
    targets = [rollout.target for rollout in (*page.items, *rest.items)]
    assert targets == [first.id, second.id, first.id]
    assert (page.has_more, rest.has_more) == (True, False)
    with pytest.raises(NotFound):
        registry.rollouts.history(ALIAS, SUPPORT, after="x", limit=2)
