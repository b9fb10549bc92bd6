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
from training.data.preferences import Pair, Thumb, learnt_tokens, sequences
from training.data.render import Rendered
from training.finetune.port import ChosenBy, Diverged, Measures, Task
from training.job.train import among
from training.stopping import Stopped

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


def preferences(method: str, count: int = 60) -> bytes:
    """So many records, as `method` learns from them."""

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

    return b"".join(json.dumps(record(at)).encode() + b"\n" for at in range(count))


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


# -- a learning curve


def small(world: World, count: int = 100, **policy: Any) -> Stage:
    """A job of so many examples, of which 16 test and a tenth validate; a unit with this policy."""
    write_unit(world.units)
    path = world.units / "support.yaml"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"data": policy}))
    return stage(world, world.add_queued_job(data(count)))


def test_small_data_is_told_what_more_examples_would_buy(world: World) -> None:
    at = small(world, learning_curve=True)
    shares: dict[int, float] = {18: 0.5, 37: 0.64, 74: 0.75}
    at.fine_tuner.answers_of = lambda task: shares[len(task.train)]
    assert run(at).status is JobStatus.SUCCEEDED
    whole, *smaller = at.fine_tuner.fine_tuned
    assert [len(task.train) for task in smaller] == [18, 37]
    assert [task.recipe.n_epochs for task in smaller] == [12.0, 6.0], "as many steps as the whole"
    quarter, half, every = (
        {row.ids for row in task.train if isinstance(row, Rendered)} for task in (*smaller, whole)
    )
    assert quarter < half < every
    assert len({task.workdir for task in at.fine_tuner.fine_tuned}) == 3
    (version,) = versions(world)
    assert version.evidence is not None
    curve = version.evidence["learning_curve"]
    assert [tuple(point.values()) for point in curve["points"]] == list(shares.items())
    assert "twice as many (148 examples) would bring it to about 0.82" in curve["said"]
    assert curve["validation_rows"] == 10
    assert curve["twice"]["score"] == pytest.approx(0.82, abs=0.001)
    assert curve["twice"]["low"] < 0.7 < 0.9 < curve["twice"]["high"]
    assert curve["said"] in world.messages(at.job_id)
    card = (world.store.fetch(version.digest) / "README.md").read_text()
    assert f"## More examples\n\n{curve['said']}." in card
    assert version.evidence["training"]["seconds"] == 1.5, "of the run that made it"


@pytest.mark.parametrize(
    ("method", "of"), [("supervised", "tokens"), ("dpo", "preferences"), ("kto", "preferences")]
)
def test_a_curve_of_token_accuracy_is_of_tokens_and_one_of_preferences_of_preferences(
    world: World, method: str, of: str
) -> None:
    write_unit(world.units, recipe={"method": method})
    path = world.units / "support.yaml"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"data": {"learning_curve": True}}))
    content = data(100) if method == "supervised" else preferences(method, 100)
    at = stage(world, world.add_queued_job(content))
    at.fine_tuner.chosen_by, at.fine_tuner.answers_of = ChosenBy.LOSS, lambda _task: 0.96
    assert run(at).status is JobStatus.SUCCEEDED
    (version,) = versions(world)
    assert version.evidence is not None
    said = version.evidence["learning_curve"]["said"]
    assert said.endswith(f"; the score is the share of {of} right")
    rows = len(at.fine_tuner.fine_tuned[0].validation)
    assert rows == 10
    tokens = sum(map(learnt_tokens, at.fine_tuner.fine_tuned[0].validation))
    assert (f"{rows} validation rows, not on their {tokens} tokens," in said) == (of == "tokens")
    assert ("the most there is" in said) == (of == "preferences")


def test_a_curve_goes_on_where_it_was_interrupted(world: World) -> None:
    at = small(world, learning_curve=True)
    with pytest.raises(Stopped):
        run(at.with_context(stopping=lambda: len(at.fine_tuner.fine_tuned) == 3))
    assert run(at).status is JobStatus.SUCCEEDED
    again = [(len(task.train), task.workdir.name) for task in at.fine_tuner.fine_tuned]
    assert again[:3] == again[3:]
    assert at.fine_tuner.first_steps == [0, 0, 0, STEPS, STEPS, 1]


@pytest.mark.parametrize(
    ("count", "policy", "told"),
    [
        (100, {}, "Few examples: `data.learning_curve: true` in the unit's file has a job"),
        (45, {"learning_curve": True}, "training examples: too few to estimate"),
        (600, {"learning_curve": True}, "Examples: 480 train"),
    ],
)
def test_nobody_trains_for_a_curve_that_is_not_asked_for_or_not_worth_it(
    world: World, count: int, policy: dict[str, Any], told: str
) -> None:
    at = small(world, count, **policy)
    run(at)
    assert len(at.fine_tuner.fine_tuned) == 1
    assert any(told in said for said in world.messages(at.job_id))
    assert not any("Learning curve" in said for said in world.messages(at.job_id))


def test_a_smaller_run_that_diverges_costs_the_curve_and_not_the_job(world: World) -> None:
    at = small(world, learning_curve=True)

    def answers(task: Task) -> float:
        if len(task.train) == 18:
            raise Diverged(3)
        return 0.5

    at.fine_tuner.answers_of = answers
    assert run(at).status is JobStatus.SUCCEEDED
    assert "There is no learning curve: a smaller run diverged" in world.messages(at.job_id)
    assert "learning_curve" not in (versions(world)[0].evidence or {})
