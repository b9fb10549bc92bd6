"""What a job asks beside OpenAI's words, in one field, through the real openai SDK."""

from __future__ import annotations

from typing import Any

import openai
import pytest
from openai.types.fine_tuning import FineTuningJob

from adapters.domain.jobs import JobError
from adapters.domain.names import JobId
from adapters.domain.principals import SYSTEM
from adapters.domain.recipes import Recipe, RecipeOverrides, resolve
from adapters.registry.ports import NewJob
from tests.service.world import World
from tests.simulation.engine import BASE

LINE = b'{"messages": [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]}\n'


def create(world: World, settings: Any, owner: str = "support", **more: Any) -> Any:
    client = world.client(owner)
    unit = {"extra_body": {"x_unit": settings["unit"]}} if owner == "admin" else {}
    file = client.files.create(file=("train.jsonl", LINE * 12), purpose="fine-tune", **unit)
    extra = {"x_wardrobe": settings, **more.pop("extra_body", {})}
    return client.fine_tuning.jobs.create(
        model=BASE, training_file=file.id, extra_body=extra, **more
    )


def test_a_job_keeps_what_it_asks_of_its_recipe_and_shows_it(world: World) -> None:
    recipe = {"rank": 8, "target_modules": ["q_proj"], "replay": 0.1, "quantization": "nf4"}
    job = create(world, {"recipe": recipe})
    assert job.model_extra["x_wardrobe"] == {
        "unit": "support", "recipe": recipe, "dry_run": False,
    }  # fmt: skip
    assert world.client().fine_tuning.jobs.retrieve(job.id).model_extra == job.model_extra
    plain = create(world, {})
    assert plain.model_extra["x_wardrobe"]["recipe"] is None


@pytest.mark.parametrize(
    ("settings", "param"),
    [
        ({"recipe": {"rank": 0}}, "x_wardrobe.recipe.rank"),
        ({"recipe": {"rank": "8"}}, "x_wardrobe.recipe.rank"),
        ({"recipe": {"path": "/etc"}}, "x_wardrobe.recipe.path"),
        ({"recipe": {"seed": 5}}, "x_wardrobe.recipe.seed"),
        ({"recipe": {"method": "dpo"}}, "x_wardrobe.recipe.method"),
        ({"recipe": {"quantization": "int8"}}, "x_wardrobe.recipe.quantization"),
        ({"recipe": {"start": "../x"}}, "x_wardrobe.recipe.start"),
        ({"dry_run": "yes"}, "x_wardrobe.dry_run"),
        ({"command": "ls"}, "x_wardrobe.command"),
        ("rank=8", "x_wardrobe"),
    ],
)
def test_settings_in_wrong_words_are_refused_by_name(
    world: World, settings: Any, param: str
) -> None:
    with pytest.raises(openai.BadRequestError) as raised:
        create(world, settings)
    assert raised.value.param == param


def test_an_admin_names_the_unit_there_and_no_unit_names_another(world: World) -> None:
    job = create(world, {"unit": "hr"}, owner="admin")
    assert job.model_extra["x_unit"] == "hr"
    with pytest.raises(openai.NotFoundError) as foreign:
        create(world, {"unit": "hr"})
    assert foreign.value.code == "unit_not_found"
    with pytest.raises(openai.BadRequestError, match="differ"):
        create(world, {"unit": "hr"}, owner="admin", extra_body={"x_unit": "support"})


def test_a_repeated_job_with_other_settings_is_a_409(world: World) -> None:
    client = world.client()
    file = client.files.create(file=("train.jsonl", LINE * 12), purpose="fine-tune").id

    def ask(**settings: Any) -> str:
        made: str = client.fine_tuning.jobs.create(
            model=BASE, training_file=file, extra_headers={"Idempotency-Key": "once"},
            extra_body={"x_wardrobe": settings},
        ).id  # fmt: skip
        return made

    first = ask(recipe={"rank": 8})
    assert ask(recipe={"rank": 8}) == first
    for other in ({}, {"recipe": {"rank": 4}}, {"recipe": {"rank": 8}, "dry_run": True}):
        with pytest.raises(openai.ConflictError) as raised:
            ask(**other)
        assert raised.value.code == "idempotency_key_reused"


def test_a_dry_run_ends_without_ever_being_queued(world: World) -> None:
    jobs = world.runtime.registry.jobs
    good, bad = (create(world, {"dry_run": True}) for _ in range(2))
    jobs.accept(JobId(good.id), error=None)
    jobs.accept(JobId(bad.id), error=JobError(code="invalid_training_file", message="no"))
    assert jobs.claim(owner="trainer", lease_seconds=9) is None
    found = {job.id: job for job in world.client().fine_tuning.jobs.list()}
    assert (found[good.id].status, found[bad.id].status) == ("succeeded", "failed")
    assert (found[good.id].fine_tuned_model, found[bad.id].error.message) == (None, "no")
    assert found[good.id].finished_at >= good.created_at


def retry(world: World, job_id: str, owner: str = "support", key: str = "", **body: Any) -> Any:
    headers = {"Idempotency-Key": key} if key else {}
    return world.client(owner).post(
        f"/fine_tuning/jobs/{job_id}/retry",
        cast_to=FineTuningJob,
        body=body,
        options={"headers": headers},
    )


def ended(world: World, job: Any) -> Any:
    return world.client().fine_tuning.jobs.cancel(job.id)


def test_a_job_that_has_ended_is_tried_again_with_what_is_changed(world: World) -> None:
    words: Any = {
        "metadata": {"ticket": "7"},
        "seed": 3,
        "method": {"type": "supervised", "supervised": {"hyperparameters": {"n_epochs": 2}}},
    }
    first = ended(world, create(world, {"recipe": {"rank": 8, "replay": 0.1}}, **words))
    again = retry(world, first.id, recipe={"augment": True, "replay": 0.2})
    assert again.id != first.id
    recipe = {"rank": 8, "replay": 0.2, "augment": True}
    assert again.model_extra["x_wardrobe"]["recipe"] == recipe
    changes = {"id", "created_at", "finished_at", "status", "x_wardrobe"}
    assert again.model_dump(exclude=changes) == first.model_dump(exclude=changes)
    events = world.client().fine_tuning.jobs.list_events(again.id).data
    assert [event.message for event in events] == [f"Created to try {first.id} again"]


def test_a_repeated_retry_is_one_job_and_a_seed_that_was_drawn_is_drawn_again(
    world: World,
) -> None:
    first = ended(world, create(world, {"recipe": {"rank": 8}}))
    again = retry(world, first.id, key="once")
    assert retry(world, first.id, key="once").id == again.id
    assert again.model_extra["x_wardrobe"] == first.model_extra["x_wardrobe"]
    with pytest.raises(openai.ConflictError) as other:
        retry(world, first.id, key="once", recipe={"augment": True})
    assert other.value.code == "idempotency_key_reused"
    seeds = {retry(world, first.id).seed for _ in range(3)}
    assert len(seeds) == 3


def test_what_goes_on_or_is_another_units_is_not_tried_again(world: World) -> None:
    going_on = create(world, {})
    with pytest.raises(openai.ConflictError) as raised:
        retry(world, going_on.id)
    assert raised.value.code == "job_state"
    with pytest.raises(openai.NotFoundError):
        retry(world, ended(world, going_on).id, owner="hr")


@pytest.mark.parametrize(
    ("body", "param"),
    [
        ({"recipe": {"rank": 0}}, "recipe.rank"),
        ({"recipe": {"augment": 1}}, "recipe.augment"),
        ({"recipe": {"seed": 5}}, "recipe.seed"),
        ({"recipe": {"method": "dpo"}}, "recipe.method"),
        ({"training_file": "file-1"}, "training_file"),
    ],
)
def test_a_retry_in_wrong_words_is_refused_by_name(
    world: World, body: dict[str, Any], param: str
) -> None:
    first = ended(world, create(world, {}))
    with pytest.raises(openai.BadRequestError) as raised:
        retry(world, first.id, **body)
    assert raised.value.param == param


def resolved(world: World, job: Any) -> Recipe:
    stored = world.runtime.registry.jobs.get(JobId(job.id), SYSTEM)
    return resolve(
        base=RecipeOverrides(),
        unit=RecipeOverrides(),
        job=stored.hyperparameters,
        asked=stored.recipe,
    )


def test_what_a_retry_changes_wins_over_all_that_the_job_had_asked_for(world: World) -> None:
    knobs = {"n_epochs": 2, "batch_size": 4, "learning_rate_multiplier": 3.0}
    method: Any = {"type": "supervised", "supervised": {"hyperparameters": knobs}}
    first = ended(world, create(world, {"recipe": {"rank": 8, "alpha": 8}}, method=method))
    changes = {"n_epochs": 5.0, "learning_rate": 1e-3, "rank": 32}
    again = resolved(world, retry(world, first.id, recipe=changes))
    assert (again.n_epochs, again.batch_size, again.learning_rate) == (5.0, 4, 1e-3)
    assert (again.rank, again.alpha) == (32, 64)


def test_a_job_of_preferences_is_not_tried_again_with_what_supervised_jobs_learn(
    world: World,
) -> None:
    first = ended(world, create(world, {}, method={"type": "dpo"}))
    for recipe in ({"augment": True}, {"replay": 0.2}):
        with pytest.raises(openai.BadRequestError) as raised:
            retry(world, first.id, recipe=recipe)
        assert raised.value.param == f"recipe.{next(iter(recipe))}"
    assert retry(world, first.id, recipe={"beta": 0.3}).status == "validating_files"


def test_a_job_on_a_base_that_is_served_no_more_is_not_tried_again(world: World) -> None:
    jobs = world.runtime.registry.jobs
    first = ended(world, create(world, {}))
    stored = jobs.get(JobId(first.id), SYSTEM)
    other = jobs.create(
        NewJob.like(stored, model="former-base"), stored.principal, idempotency_key=None
    )
    ended(world, other)
    with pytest.raises(openai.NotFoundError) as raised:
        retry(world, other.id)
    assert raised.value.code == "model_not_found"


def test_a_retry_says_that_its_file_is_gone(world: World) -> None:
    first = ended(world, create(world, {}))
    world.client().files.delete(first.training_file)
    with pytest.raises(openai.BadRequestError) as raised:
        retry(world, first.id)
    assert (raised.value.code, raised.value.param) == ("file_not_found", "training_file")
