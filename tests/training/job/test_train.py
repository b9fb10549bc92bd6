"""A sweep: several trainings in one job, and one that the validation part chooses."""

from __future__ import annotations

import json
from typing import Any

import pytest

from adapters.domain.jobs import JobStatus
from adapters.domain.principals import SYSTEM
from adapters.domain.recipes import Recipe
from tests.training.job.stage import STEPS, Stage, stage
from tests.training.job.test_pipeline import error_of, run, versions
from tests.training.world import World, data, write_unit
from training.data.preferences import Pair, Thumb, sequences
from training.finetune.port import Measures
from training.job.train import among

RATES = (3e-4, 1e-3)


@pytest.fixture
def swept(world: World) -> Stage:
    """Four trials, of which the third is the best."""
    write_unit(world.units, recipe={"sweep": {"learning_rate": RATES, "rank": [4, 8]}})
    at = stage(world, world.add_queued_job(data(40), data(24, start=100)))
    losses = iter([0.5, 0.4, 0.1, 0.3])
    known: dict[tuple[int, float], float] = {}

    def loss_of(recipe: Recipe) -> float:
        trial = (recipe.rank, recipe.learning_rate)
        if trial not in known:
            known[trial] = next(losses)
        return known[trial]

    at.fine_tuner.loss_of = loss_of
    return at


def test_a_sweep_is_one_job_with_one_version_by_the_best_trial(swept: Stage) -> None:
    job = run(swept)
    assert (job.status, job.fine_tuned_model) == (JobStatus.SUCCEEDED, "support:1")
    tried = [(task.recipe.rank, task.recipe.learning_rate) for task in swept.fine_tuner.fine_tuned]
    assert tried == [(4, 3e-4), (4, 1e-3), (8, 3e-4), (8, 1e-3)]
    assert len({task.workdir for task in swept.fine_tuner.fine_tuned}) == 4
    assert job.trained_tokens == 4 * 1234
    (version,) = versions(swept.world)
    evidence = version.evidence
    assert evidence is not None
    assert (evidence["recipe"]["rank"], evidence["recipe"]["learning_rate"]) == (8, 3e-4)
    assert [trial["chosen"] for trial in evidence["sweep"]] == [False, False, True, False]
    assert evidence["training"]["best_step"] == 3 * STEPS
    assert evidence["validation"] == {"chosen": 0.1, "lowest": 0.1, "trained": 0.2}


def test_the_steps_of_all_trials_are_one_curve(swept: Stage) -> None:
    run(swept)
    kept = swept.world.registry.jobs.checkpoints(swept.job_id, SYSTEM, after=None, limit=100).items
    assert [point.step for point in reversed(kept)] == list(range(5, 4 * STEPS + 1, 5))
    said = swept.world.messages(swept.job_id)
    assert "Trial 2 of 4: rank 4, learning rate 0.001" in said
    assert "Trial 3 is the best on the validation part: rank 8, learning rate 0.0003" in said


def test_a_trials_time_left_is_that_of_all() -> None:
    measures = Measures(
        step=5, total_steps=10, train_loss=1.0, train_accuracy=0.5, seconds=30.0, seconds_left=10.0
    )
    second = among(measures, 1, 4)
    assert (second.step, second.total_steps, second.seconds_left) == (15, 40, 10.0 + 2 * 40.0)
    assert among(measures, 0, 1) == measures


def preferences(method: str) -> bytes:
    """60 records, as `method` learns from them."""

    def record(at: int) -> dict[str, Any]:
        asked, better, worse = f"question {at}", f"answer {at}", f"worse answer {at}"
        if method == "kto":
            return {
                "prompt": asked,
                "completion": better if at % 2 else worse,
                "label": at % 2 == 1,
            }
        return {
            "input": {"messages": [{"role": "user", "content": asked}]},
            "preferred_output": [{"role": "assistant", "content": better}],
            "non_preferred_output": [{"role": "assistant", "content": worse}],
        }

    return b"".join(json.dumps(record(at)).encode() + b"\n" for at in range(60))


@pytest.mark.parametrize(("method", "kind"), [("dpo", Pair), ("kto", Thumb)])
def test_a_method_of_preferences_is_given_rows_of_its_kind(
    world: World, method: str, kind: type
) -> None:
    write_unit(world.units, recipe={"method": method})
    at = stage(world, world.add_queued_job(preferences(method)))
    assert run(at).status is JobStatus.SUCCEEDED
    (task,) = at.fine_tuner.fine_tuned
    rows = (*task.train, *task.validation)
    assert rows
    assert all(isinstance(row, kind) for row in rows)
    assert all(any(read.learn) for row in rows for read in sequences(row))


@pytest.mark.parametrize("method", ["dpo", "kto"])
def test_a_file_of_another_kind_than_the_method_learns_from_is_refused(
    world: World, method: str
) -> None:
    write_unit(world.units, recipe={"method": method})
    at = stage(world, world.add_queued_job(data(60)))
    code, _ = error_of(at)
    assert code == "invalid_training_file"
    assert at.fine_tuner.fine_tuned == []
