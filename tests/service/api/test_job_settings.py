"""What a job asks beside OpenAI's words, in one field, through the real openai SDK."""

from __future__ import annotations

from typing import Any

import openai
import pytest

from adapters.domain.jobs import JobError
from adapters.domain.names import JobId
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
