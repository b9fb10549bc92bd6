"""Where a job's training begins: with the base, or with a version that is trained further."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from adapters.domain.jobs import JobStatus
from adapters.domain.principals import SYSTEM
from tests.training.job.stage import RANK, Stage, stage
from tests.training.job.test_pipeline import error_of, run, versions
from tests.training.world import World, data, write_unit

ALIKE = {"rank": RANK, "alpha": 2 * RANK}


def begin(world: World, *, model: str = "tiny", **recipe: Any) -> Stage:
    """A job of the unit with this recipe."""
    write_unit(world.units, recipe=ALIKE | recipe)
    return stage(world, world.add_queued_job(data(40), data(24, start=100), model=model))


def started_from(at: Stage) -> Path | None:
    return at.fine_tuner.fine_tuned[-1].start


def said(world: World, at: Stage) -> str:
    return " ".join(world.messages(at.job_id))


@pytest.fixture
def live(world: World) -> World:
    """A world in which `support:1` is live."""
    assert run(begin(world)).fine_tuned_model == "support:1"
    return world


def test_a_unit_that_begins_with_its_live_version_begins_with_the_base_at_first(
    world: World,
) -> None:
    at = begin(world, start="live")
    assert run(at).status is JobStatus.SUCCEEDED
    assert started_from(at) is None
    assert "training begins with the base" in said(world, at)


def test_the_live_version_is_trained_further_and_the_new_one_says_so(live: World) -> None:
    at = begin(live, start="live")
    job = run(at)
    (first,) = (version for version in versions(live) if version.number == 1)
    assert started_from(at) == live.store.fetch(first.digest)
    assert job.resolved is not None
    assert job.resolved["start"] == "support:1"
    (second,) = (version for version in versions(live) if version.number == 2)
    assert second.evidence is not None
    assert second.evidence["start"] == {"version": "support:1", "digest": first.digest}


def interrupted(_: Any) -> Any:
    """Stands for the end of the process."""
    raise KeyboardInterrupt


def test_a_job_that_goes_on_begins_with_what_its_first_attempt_did(live: World) -> None:
    at = begin(live, start="live")
    at.fine_tuner.at_step = interrupted
    with pytest.raises(KeyboardInterrupt):
        run(at)
    write_unit(live.units, recipe=ALIKE)  # which would begin with the base
    again = stage(live, at.job_id)
    run(again)
    assert started_from(again) == started_from(at)


def test_a_fine_tuned_model_as_model_is_trained_further(live: World) -> None:
    at = begin(live, model="support:1")
    run(at)
    assert started_from(at) is not None


def test_a_job_that_has_published_ends_whatever_became_of_what_it_began_with(live: World) -> None:
    at = begin(live, start="live")
    at.service.log_prob = interrupted  # it is asked once the version is published
    with pytest.raises(KeyboardInterrupt):
        run(at)
    assert len(versions(live)) == 2
    first = live.store.fetch(versions(live)[-1].digest)
    (first / "adapter_config.json").unlink()
    again = stage(live, at.job_id)
    assert run(again).status is JobStatus.SUCCEEDED
    assert again.fine_tuner.fine_tuned == []


@pytest.mark.parametrize(
    ("recipe", "why"),
    [
        ({"rank": 8}, "its rank is 4 and the recipe's 8"),
        ({"start": "support:9"}, "there is no such version"),
        ({"start": "sales:1"}, "there is no such version"),
    ],
)
def test_what_cannot_be_trained_further_is_refused_with_the_reason(
    live: World, recipe: dict[str, Any], why: str
) -> None:
    at = begin(live, **{"start": "support:1"} | recipe)
    code, message = error_of(at)
    assert code == "invalid_recipe"
    assert message.startswith("training cannot begin with ")
    assert why in message
    assert at.fine_tuner.fine_tuned == []


def test_a_version_that_was_withdrawn_is_not_trained_further(live: World) -> None:
    run(begin(live))
    live.registry.versions.retire(versions(live)[-1].id, SYSTEM, aliases=())
    assert "was rejected or withdrawn" in error_of(begin(live, start="support:1"))[1]


def test_a_version_whose_files_are_damaged_is_not_trained_further(live: World) -> None:
    folder = live.store.fetch(versions(live)[0].digest)
    config = folder / "adapter_config.json"
    config.chmod(0o644)
    config.write_text(json.dumps({**json.loads(config.read_text()), "r": 1}))
    at = begin(live, start="live")
    code, message = error_of(at)
    assert code == "invalid_recipe"
    assert "training cannot begin with support:1" in message
    assert at.fine_tuner.fine_tuned == []
