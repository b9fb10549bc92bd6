"""One job from its files to its end, with a toy fine_tuner and a toy service at the seams."""

from __future__ import annotations

import csv
import errno
import io
import json
import shutil
from collections.abc import Callable, Iterable
from dataclasses import fields, replace
from functools import partial
from typing import Any

import pytest
import yaml
from PIL import Image

from adapters.domain.jobs import Job, JobStatus
from adapters.domain.names import Alias, Digest, FileId, JobId
from adapters.domain.principals import SYSTEM
from adapters.domain.routes import Route
from adapters.domain.versions import Version, VersionState
from adapters.errors import Condemned, LeaseLost, StorageFull, Unavailable
from adapters.registry import Registry
from adapters.signatures import Signer, TrustedKeys
from adapters.signing_keys import statement_of
from tests.training.job.stage import SIGNER, STEPS, Stage, stage
from tests.training.world import OWNER, UNIT, Troubled, World, data, jsonl, make_world
from training.data.questions import Question
from training.finetune.port import Diverged
from training.job.pipeline import run_job
from training.stopping import Stopped


@pytest.fixture
def ready(world: World) -> Stage:
    return stage(world, world.add_queued_job(data(40), data(24, start=100)))


def run(at: Stage) -> Job:
    run_job(at.context, at.job_id, at.fence)
    return at.world.job(at.job_id)


def versions(world: World) -> list[Version]:
    return list(world.registry.versions.list(SYSTEM, adapter=None, after=None, limit=100).items)


def route(world: World) -> Route:
    return world.registry.routes.route(Alias("support"), UNIT)


def with_port(at: Stage, **ports: Any) -> Stage:
    """The same with other ports of the registry."""
    return at.with_context(registry=replace(at.world.registry, **ports))


def error_of(at: Stage) -> tuple[str, str]:
    job = run(at)
    assert job.status is JobStatus.FAILED
    assert job.finished_at is not None
    assert job.error is not None
    assert at.world.messages(at.job_id)[-1] == job.error.message
    return job.error.code, job.error.message


def test_a_good_job_ends_with_a_proven_version_that_is_live(ready: Stage) -> None:
    job = run(ready)
    assert (job.status, job.fine_tuned_model) == (JobStatus.SUCCEEDED, "support:1")
    assert job.trained_tokens == 1234
    assert job.resolved is not None
    assert job.resolved["seed"] == job.seed
    (version,) = versions(ready.world)
    assert [(gate.name, gate.outcome) for gate in version.gates] == [
        ("artifact", "passed"),
        ("effect against base", "passed"),
        ("fidelity", "passed"),
        ("task against base", "passed"),
        ("task against live", "skipped"),
        ("overfitting", "passed"),
        ("skill against one answer", "passed"),
        ("ends", "passed"),
        ("data: overlap", "passed"),
        ("data: personal", "passed"),
        ("data: left out", "passed"),
    ]
    assert version.state is VersionState.LIVE
    assert route(ready.world).stable == version.id
    TrustedKeys([SIGNER.public]).check(version.signature, statement_of(version))
    assert version.evidence is not None
    assert version.evidence["test"]["adapter"] == {"exact_match": 1.0, "token_f1": 1.0}
    assert version.evidence["data"]["train_examples"] == 40
    assert version.evidence["data"]["dataset"] == ready.world.registry.datasets.of_job(job.id)
    assert version.evidence["training"]["chosen_by"] == "validation_answers"
    assert version.evidence["training"]["device"]["micro_batch"] == 8


@pytest.mark.parametrize(
    ("signer", "code"), [(None, "signing_key_missing"), (SIGNER, "signature_untrusted")]
)
def test_what_no_replica_would_load_is_said_before_anything_is_read_or_trained(
    ready: Stage, signer: Signer | None, code: str
) -> None:
    ready.world.report_ready(trusted_keys=["another"])
    assert error_of(ready.with_context(signer=signer))[0] == code
    assert ready.renderer.rendered == 0
    assert ready.fine_tuner.fine_tuned == []


def test_data_that_does_not_fit_into_the_jobs_memory_is_said_so(ready: Stage) -> None:
    def too_large(_rows: int) -> None:
        raise MemoryError

    ready.renderer.at_row = too_large
    code, message = error_of(ready)
    assert code == "out_of_memory"
    assert "WARDROBE_TRAIN_MEMORY_GIB" in message


def test_the_events_tell_the_story_in_openais_words(ready: Stage) -> None:
    run(ready)
    story = iter(ready.world.messages(ready.job_id))
    for words in (
        "Fine-tuning job started",
        "Training for 10 steps over 1,234 tokens, by 2 threads of the CPU in float32, 8 rows at",
        "Step 5/10: training loss=0.40, validation loss=0.20",
        "Checkpoint created at step 5",
        "Checkpoint created at step 10",
        "Gates of support:1: artifact passed, effect against base passed, fidelity passed, task",
        "support:1 is live as support",
        "New fine-tuned model created: support:1",
        "Fine tuning job successfully completed",
    ):
        assert any(words in message for message in story), f"not told, or too late: {words}"


def test_metrics_events_and_checkpoints_have_openais_shape(ready: Stage) -> None:
    run(ready)
    page = ready.world.registry.jobs.events(ready.job_id, SYSTEM, after=None, limit=100)
    measured = next(event for event in page.items if event.type == "metrics")
    assert measured.data == {
        "step": 10,
        "total_steps": 10,
        "train_loss": 0.2,
        "train_mean_token_accuracy": 1.0,
        "valid_loss": 0.1,
        "full_valid_loss": 0.1,
        "seconds_left": 0.0,
    }
    kept = ready.world.registry.jobs.checkpoints(ready.job_id, SYSTEM, after=None, limit=10).items
    assert [checkpoint.step for checkpoint in kept] == [10, 5]
    assert kept[0].metrics["full_valid_loss"] == 0.1


def test_the_result_file_is_openais_csv(ready: Stage) -> None:
    file_id, *_ = run(ready).result_files
    file = ready.world.registry.files.get(file_id, SYSTEM)
    assert file.purpose == "fine-tune-results"
    with ready.world.store.open_file(file.digest) as content:
        rows = list(csv.DictReader(io.StringIO(content.read().decode())))
    assert list(rows[0]) == [
        "step",
        "train_loss",
        "train_accuracy",
        "valid_loss",
        "valid_mean_token_accuracy",
    ]
    assert rows[-1]["step"] == "10"
    assert rows[-1]["valid_loss"] == "0.1"


def test_the_curve_is_a_picture_too(ready: Stage) -> None:
    _, file_id, _ = run(ready).result_files
    file = ready.world.registry.files.get(file_id, SYSTEM)
    assert (file.filename, file.purpose) == ("loss_curve.png", "fine-tune-results")
    with ready.world.store.open_file(file.digest) as content, Image.open(content) as picture:
        colours = {colour for _, colour in picture.getcolors(1 << 20) or ()}
    assert {(0x1F, 0x77, 0xB4), (0xD6, 0x27, 0x28)} <= colours, "both curves are drawn"


def test_the_data_card_with_its_labels_is_among_the_results_of_the_unit(ready: Stage) -> None:
    *_, file_id = run(ready).result_files
    file = ready.world.registry.files.get(file_id, OWNER)
    assert (file.filename, file.purpose) == ("data_card.md", "fine-tune-results")
    digest = ready.world.registry.datasets.of_job(ready.job_id)
    assert digest is not None
    with ready.world.store.open_file(file.digest) as content:
        said = content.read().decode()
    assert said == (ready.world.store.fetch_dataset(digest) / "README.md").read_text()
    assert "## What the stages did" in said


def test_what_is_published_is_clean_and_has_a_card(ready: Stage) -> None:
    run(ready)
    (version,) = versions(ready.world)
    path = ready.world.store.fetch(version.digest)
    assert {file.name for file in path.iterdir()} == {
        "README.md",
        "adapter_config.json",
        "adapter_model.safetensors",
        "manifest.json",
    }
    assert "/somewhere" not in (path / "adapter_config.json").read_text()
    card = (path / "README.md").read_text()
    assert ready.job_id in card
    assert str(version.base_fingerprint) in card
    assert "question" not in card


def test_repetitions_and_overlap_are_told_to_the_data_owner(world: World) -> None:
    at = stage(world, world.add_queued_job(data(40) + data(3), data(29, start=35)))
    run(at)
    messages = world.messages(at.job_id)
    assert "Examples: 35 train, 10 validation, 19 test" in messages
    assert "Dropped 3 exact duplicates" in messages
    assert any(message.startswith("Dropped 5 examples") for message in messages)


def test_examples_that_are_too_long_are_refused_by_line(world: World) -> None:
    long = jsonl([("word " * 300, "yes")])
    at = stage(world, world.add_queued_job(data(40) + long))
    code, message = error_of(at)
    assert code == "invalid_training_file"
    assert message == "Training file: line 41: 301 tokens, longer than the 256 tokens allowed"
    assert at.fine_tuner.fine_tuned == []


@pytest.mark.parametrize(
    ("refused", "where"),
    [("question 7", "Training file: line 8: "), ("question 103", "Validation file: line 4: ")],
)
def test_an_example_that_the_chat_template_refuses_is_named_by_its_line(
    ready: Stage, refused: str, where: str
) -> None:
    ready.renderer.refused = refused
    code, message = error_of(ready)
    assert code == "chat_template"
    assert message.startswith(where)
    assert refused not in message


def test_a_training_that_diverges_fails_with_advice(ready: Stage) -> None:
    def diverge(step: int) -> None:
        if step == 3:
            raise Diverged(step)

    ready.fine_tuner.at_step = diverge
    code, message = error_of(ready)
    assert code == "diverged"
    assert "at step 3; lower the learning rate" in message


def test_another_units_typo_is_waited_for(ready: Stage) -> None:
    typo = ready.world.units / "sales.yaml"
    typo.write_text("unit: sales\naliases: [sales]\nrecipe: {rnak: 8}\n")
    waits: list[float] = []

    def sleep(seconds: float) -> None:
        waits.append(seconds)
        typo.unlink(missing_ok=True)
        ready.service.sleep(seconds)

    assert run(ready.with_context(sleep=sleep)).status is JobStatus.SUCCEEDED
    assert waits


def test_a_unit_that_is_gone_fails_the_job(ready: Stage) -> None:
    (ready.world.units / "support.yaml").write_text("unit: other\naliases: [other]\n")
    assert error_of(ready)[0] == "unit_not_found"


def test_a_rank_that_the_service_cannot_serve_fails_before_training(ready: Stage) -> None:
    ready.world.report_ready(max_lora_rank=8)
    code, message = error_of(ready)
    assert code == "invalid_recipe"
    assert "rank 16" in message
    assert ready.fine_tuner.fine_tuned == []


def test_a_service_with_another_base_fails_the_job_before_training(ready: Stage) -> None:
    base = ready.context.base
    other = type(base)(path=base.path, name="x", fingerprint="c" * 64, shapes=base.shapes)  # type: ignore[arg-type]
    code, _message = error_of(ready.with_context(base=other))
    assert code == "base_mismatch"
    assert ready.fine_tuner.fine_tuned == []


@pytest.mark.parametrize(
    ("gate", "changes"),
    [
        ("effect against base", {"log_prob": lambda _model: -0.1}),
        ("task against base", {"version": lambda _q: "something else"}),
        ("overfitting", {"log_prob": lambda model: -3.0 if model == "tiny" else -2.0}),
        ("artifact", {"servable": False}),
    ],
)
def test_a_failed_gate_rejects_the_version_and_is_named(
    ready: Stage, gate: str, changes: dict[str, Any]
) -> None:
    for name, value in changes.items():
        setattr(ready.service, name, value)
    code, message = error_of(ready)
    (version,) = versions(ready.world)
    assert code == "gate_failed"
    assert f"gate `{gate}` said no: measured" in message
    assert version.state is VersionState.REJECTED
    assert route(ready.world).stable is None
    assert ready.world.job(ready.job_id).fine_tuned_model is None
    assert ready.world.job(ready.job_id).result_files


def test_an_adapter_that_the_engine_serves_as_the_base_fails_fidelity(ready: Stage) -> None:
    ready.service.log_prob = lambda _model: -3.0
    code, message = error_of(ready)
    assert code == "gate_failed"
    assert "gate `fidelity` said no: measured 2.9, at most 0.005 is needed" in message


@pytest.mark.parametrize(("value", "why"), [(0.0, "every delta is zero"), (float("nan"), "finite")])
def test_an_adapter_that_admission_refuses_is_never_published(
    ready: Stage, value: float, why: str
) -> None:
    ready.fine_tuner.value = value
    code, message = error_of(ready)
    assert code == "gate_failed"
    assert message.startswith("gate `artifact` said no")
    assert why in message
    assert versions(ready.world) == []
    assert ready.world.published() == []


def test_a_manual_policy_leaves_a_candidate(tmp_path_factory: pytest.TempPathFactory) -> None:
    world = make_world(tmp_path_factory.mktemp("manual"), {"promote": "manual"})
    at = stage(world, world.add_queued_job(data(), data(24, start=100)))
    assert run(at).status is JobStatus.SUCCEEDED
    assert versions(world)[0].state is VersionState.CANDIDATE
    assert route(world).generation == 0
    world.close()


def test_where_two_people_are_asked_for_a_job_puts_nothing_live(
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    world = make_world(tmp_path_factory.mktemp("two"), {"approval": "second_person"})
    at = stage(world, world.add_queued_job(data(), data(24, start=100)))
    assert run(at).status is JobStatus.SUCCEEDED
    assert versions(world)[0].state is VersionState.CANDIDATE
    assert any(
        "waits for the approval of a second person (`wardrobe approve support:1`)" in message
        for message in world.messages(at.job_id)
    )
    world.close()


def test_the_card_has_metadata_the_environment_and_what_its_unit_says(ready: Stage) -> None:
    unit = {"unit": "support", "aliases": ["support"], "card": {"intended_use": "For callers."}}
    (ready.world.units / "support.yaml").write_text(json.dumps(unit))
    run(ready)
    (version,) = versions(ready.world)
    text = (ready.world.store.fetch(version.digest) / "README.md").read_text()
    assert text.startswith("---\nlibrary_name: peft\n")
    for said in ("## Intended use\n\nFor callers.", "| peft | ", "| seed | ", version.job_id or ""):
        assert said in text
    assert version.evidence is not None
    assert version.evidence["environment"]["engine"]
    assert version.evidence["base"]["name"] == "tiny"


def test_the_card_tells_the_base_the_languages_and_what_became_of_the_data(ready: Stage) -> None:
    unit = {
        "unit": "support",
        "aliases": ["support"],
        "card": {"license": "apache-2.0", "language": ["en", "de"]},
    }
    world = ready.world
    (world.units / "support.yaml").write_text(json.dumps(unit))
    (world.units / "README.md").write_text("---\nlicense: mit\nlanguage: en\n---\n# A base")
    run(ready)
    (version,) = versions(world)
    text = (world.store.fetch(version.digest) / "README.md").read_text()
    metadata = yaml.safe_load(text.split("---\n")[1])
    assert version.evidence is not None
    digest = version.evidence["data"]["dataset"]
    assert metadata == {
        "library_name": "peft",
        "pipeline_tag": "text-generation",
        "base_model": "tiny",
        "base_model_relation": "adapter",
        "language": ["en", "de"],
        "license": "apache-2.0",
        "datasets": [f"support/support-{digest[:12]}"],
        "tags": ["lora", "wardrobe"],
    }
    for said in (
        "## Base model",
        "| license | mit |",
        "### Parts\n\n| part | examples |\n|---|---|\n",
        "| train | 40 |",
        "### Personal data and secrets",
        "| left out: exact duplicates | 0 |",
        "A second look, for what no finder knows, found 0 left.",
    ):
        assert said in text
    assert "answer 1" not in text, "a label is the data owner's to see"


def test_a_canary_policy_lets_a_version_answer_a_part(
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    policy = {"promote": "canary", "canary": {"steps": [{"weight": 7, "minutes": 5}]}}
    world = make_world(tmp_path_factory.mktemp("canary"), policy)
    first = stage(world, world.add_queued_job(data(), data(24, start=100)))
    assert run(first).status is JobStatus.SUCCEEDED
    live = route(world).stable
    assert live is not None  # there was nothing to compare the first one with
    at = stage(world, world.add_queued_job(data(60), data(24, start=100)))
    assert run(at).status is JobStatus.SUCCEEDED
    now = route(world)
    assert now.stable == live
    assert now.canary is not None
    assert now.canary.weight == 7.0
    told = "support:2 answers 7% of support as a canary, by the unit's schedule"
    assert told in world.messages(at.job_id)
    world.close()


def test_a_rollout_that_fails_is_told_and_does_not_fail_the_job(ready: Stage) -> None:
    ready.service.rollouts_fail = True
    assert run(ready).status is JobStatus.SUCCEEDED
    assert any(
        "support:1 was not put live: " in message and "its weights are damaged" in message
        for message in ready.world.messages(ready.job_id)
    )


@pytest.mark.parametrize(
    ("units", "why"),
    [
        ({"support": ["other"], "sales": ["support"]}, "the alias support is not this unit's"),
        ({"sales": ["support"]}, "there is no unit `support`"),
    ],
)
def test_an_alias_that_has_left_its_unit_meanwhile_is_not_taken_back(
    ready: Stage, units: dict[str, list[str]], why: str
) -> None:
    def move(step: int) -> None:
        for unit in {"support", "sales"} - units.keys():
            (ready.world.units / f"{unit}.yaml").unlink(missing_ok=True)
        for unit, aliases in units.items():
            text = json.dumps({"unit": unit, "aliases": aliases})
            (ready.world.units / f"{unit}.yaml").write_text(text)

    ready.fine_tuner.at_step = move
    assert run(ready).status is JobStatus.SUCCEEDED
    assert route(ready.world).stable is None
    assert any(why in message for message in ready.world.messages(ready.job_id))


class Collecting:
    """A port whose `add` or `publish` comes while the same bytes are being collected.

    The first call is refused, as long as they are condemned; then they are deleted, as equal bytes
    that nobody named would be, and the next call is let through.
    """

    def __init__(self, port: Any, delete: Callable[[], None]) -> None:
        self._port, self._delete, self.refused = port, delete, 0

    def __getattr__(self, name: str) -> Any:
        return getattr(self._port, name)

    def add(self, new: Any, **by: Any) -> Any:
        self._refuse_once()
        return self._port.add(new, **by)

    def publish(self, new: Any, **lease: Any) -> Any:
        self._refuse_once()
        return self._port.publish(new, **lease)

    def _refuse_once(self) -> None:
        if self.refused:
            return
        self.refused += 1
        self._delete()
        raise Condemned("these bytes are being collected")


def test_an_adapter_whose_equal_is_being_collected_is_there_in_the_end(ready: Stage) -> None:
    def delete() -> None:
        for digest in ready.world.published():
            published = ready.world.state.artifacts / "adapters" / digest
            published.chmod(0o700)
            shutil.rmtree(published)

    collecting = Collecting(ready.world.registry.versions, delete)
    assert run(with_port(ready, versions=collecting)).status is JobStatus.SUCCEEDED
    (version,) = versions(ready.world)
    assert collecting.refused == 1
    assert ready.world.store.fetch(version.digest).is_dir()


def test_a_result_file_whose_equal_is_being_collected_is_there_in_the_end(ready: Stage) -> None:
    files = ready.world.registry.files

    def delete() -> None:
        kept = {files.get(file_id, SYSTEM).digest for file_id in training_files(ready)}
        for path in (ready.world.state.artifacts / "files").rglob("*"):
            if path.is_file() and path.name not in kept:
                path.unlink()

    collecting = Collecting(files, delete)
    kept = run(with_port(ready, files=collecting)).result_files
    assert collecting.refused == 1
    assert len(kept) == 3
    for file_id in kept:
        ready.world.store.open_file(files.get(file_id, SYSTEM).digest).close()


def training_files(at: Stage) -> list[FileId]:
    job = at.world.job(at.job_id)
    return [file_id for file_id in (job.training_file, job.validation_file) if file_id]


def test_a_disk_without_room_while_publishing_fails_the_job_and_shows_nothing(
    ready: Stage,
) -> None:
    class FullStore(type(ready.world.store)):  # type: ignore[misc]
        def publish_adapter(self, directory: object) -> object:
            raise StorageFull("there is no room left for artifacts; free some")

    full = FullStore(ready.world.state.artifacts)
    code, message = error_of(ready.with_context(store=full))
    assert code == "storage_full"
    assert "free some" in message
    assert versions(ready.world) == []


def test_a_disk_without_room_for_checkpoints_fails_the_job_too(ready: Stage) -> None:
    def full(step: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    ready.fine_tuner.at_step = full
    assert error_of(ready)[0] == "storage_full"


def test_other_trouble_with_files_is_a_crash_and_not_a_verdict(ready: Stage) -> None:
    def broken(step: int) -> None:
        raise OSError(errno.EIO, "Input/output error")

    ready.fine_tuner.at_step = broken
    with pytest.raises(OSError, match="Input/output"):
        run(ready)
    assert ready.world.job(ready.job_id).status is JobStatus.RUNNING


def test_a_service_that_does_not_come_back_fails_the_job_with_advice(ready: Stage) -> None:
    def gone(_question: Question) -> str:
        raise Unavailable("the service did not answer", code="service_unavailable")

    ready.service.base = gone
    assert error_of(ready)[0] == "service_unavailable"


def test_a_run_that_lost_its_lease_says_and_publishes_nothing_more(ready: Stage) -> None:
    def lose(step: int) -> None:
        if step == 7:
            ready.world.claim()

    ready.fine_tuner.at_step = lose
    with pytest.raises(LeaseLost):
        run(ready)
    assert versions(ready.world) == []
    assert ready.world.job(ready.job_id).status is JobStatus.RUNNING


def test_a_run_asked_to_stop_goes_on_later_from_its_checkpoint(ready: Stage) -> None:
    stop(ready)
    assert ready.world.job(ready.job_id).status is JobStatus.RUNNING
    run(ready)
    assert ready.fine_tuner.first_steps == [0, 1]


def write_recipe(world: World, **recipe: Any) -> None:
    unit = {"unit": "support", "aliases": ["support"], "recipe": recipe}
    (world.units / "support.yaml").write_text(json.dumps(unit))


def stop(at: Stage) -> None:
    """Asks the run to stop once it trains."""
    with pytest.raises(Stopped):
        run(at.with_context(stopping=lambda: bool(at.fine_tuner.first_steps)))


def test_a_resumed_run_keeps_the_recipe_of_its_first_attempt(ready: Stage) -> None:
    stop(ready)
    write_recipe(ready.world, learning_rate=0.5)
    run(ready)
    first, second = ready.fine_tuner.fine_tuned
    assert (second.recipe, second.workdir) == (first.recipe, first.workdir)


def test_a_units_seed_is_obeyed_where_the_job_has_none_of_its_own(world: World) -> None:
    write_recipe(world, seed=3)
    run(stage(world, world.add_queued_job(data(), seed=None)))
    run(stage(world, world.add_queued_job(data(), seed=5)))
    seeds = [job.resolved["seed"] for job in jobs_of(world) if job.resolved]
    assert seeds == [5, 3]


def jobs_of(world: World) -> list[Job]:
    return list(world.registry.jobs.list(SYSTEM, metadata=None, after=None, limit=9).items)


def test_checkpoints_of_another_recipe_are_not_continued(ready: Stage) -> None:
    stop(ready)
    ready.world.report_ready(max_model_len=128)
    run(ready)
    first, second = ready.fine_tuner.fine_tuned
    assert (first.recipe.max_length, second.recipe.max_length) == (256, 128)
    assert ready.fine_tuner.first_steps == [0, 0]


def test_checkpoints_of_another_base_are_not_continued(ready: Stage) -> None:
    stop(ready)
    other = replace(ready.context.base, fingerprint=Digest("c" * 64))
    ready.world.report_ready(base=other.fingerprint)
    run(ready.with_context(base=other))
    assert ready.fine_tuner.first_steps == [0, 0]


def test_a_recipe_that_this_build_does_not_know_fails_with_advice(ready: Stage) -> None:
    ready.world.registry.jobs.resolve(ready.job_id, fence=ready.fence, recipe={"rnak": 1})
    code, message = error_of(ready)
    assert code == "invalid_recipe"
    assert "start a new job" in message


@pytest.mark.parametrize("trouble", [StorageFull("full"), Unavailable("away")])
@pytest.mark.parametrize("diverges", [False, True])
def test_a_registry_that_cannot_take_the_end_of_a_job_is_asked_again(
    ready: Stage, trouble: Exception, diverges: bool
) -> None:
    def diverge(step: int) -> None:
        raise Diverged(step)

    if diverges:
        ready.fine_tuner.at_step = diverge
    job = run(
        with_port(ready, jobs=Troubled(ready.world.registry.jobs, "finish", trouble, trouble))
    )
    assert job.status is (JobStatus.FAILED if diverges else JobStatus.SUCCEEDED)


class JudgedBefore:
    """A port of versions in which the verdicts were recorded a moment ago, by ourselves."""

    def __init__(self, versions: Any) -> None:
        self._versions = versions

    def __getattr__(self, name: str) -> Any:
        return getattr(self._versions, name)

    def record_gates(self, *args: Any, **more: Any) -> Version:
        self._versions.record_gates(*args, **more)
        return self._versions.record_gates(*args, **more)  # type: ignore[no-any-return]


def test_verdicts_that_are_there_already_are_taken_as_they_are(ready: Stage) -> None:
    job = run(with_port(ready, versions=JudgedBefore(ready.world.registry.versions)))
    assert job.status is JobStatus.SUCCEEDED


class Killed(BaseException):
    """What kill -9 looks like from inside: nothing is caught, nothing is cleaned up."""


class Death:
    """A process that dies at call number `at` of the registry, before or after it took effect."""

    def __init__(self, at: int, *, after: bool) -> None:
        self._left, self._after = at, after

    def call(self, method: Any, *args: Any, **kwargs: Any) -> Any:
        self._left -= 1
        if self._left == 0 and not self._after:
            raise Killed
        try:
            return method(*args, **kwargs)
        finally:
            if self._left == 0:  # also where the call was refused
                raise Killed

    def awaits(self, registry: Registry) -> Registry:
        """The registry, each of whose ports counts its calls."""
        ports: dict[str, Any] = {
            field.name: Mortal(getattr(registry, field.name), self)
            for field in fields(registry)
            if field.name != "close"
        }
        return replace(registry, **ports)


class Mortal:
    """One port of such a process's registry."""

    def __init__(self, port: Any, death: Death) -> None:
        self._port, self._death = port, death

    def __getattr__(self, name: str) -> Any:
        return partial(self._death.call, getattr(self._port, name))


def _take_over(at: Stage) -> Stage:
    """The next trainer, after the lease has ended."""
    taken = at.world.claim()
    assert taken.lease is not None
    return replace(at, fence=taken.lease.fence)


def _killed_runs(tmp_path_factory: pytest.TempPathFactory) -> Iterable[tuple[int, bool]]:
    return ((at, after) for at in range(1, 200) for after in (False, True))


@pytest.mark.slow
@pytest.mark.timeout(400)
def test_killed_at_any_call_and_run_again_a_job_gives_exactly_one_version(
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    kills = 0
    for at_call, after in _killed_runs(tmp_path_factory):
        world = make_world(tmp_path_factory.mktemp("kill"))
        first = stage(world, world.add_queued_job(data(40), data(24, start=100)))
        dying = Death(at_call, after=after).awaits(world.registry)
        try:
            run(first.with_context(registry=dying))
        except Killed:
            kills += 1
        else:
            break
        if not world.job(first.job_id).status.finished:
            run(_take_over(first))
        _check_one_outcome(world, first.job_id)
        world.close()
    assert kills > 55, "the sweep never got through the whole run"


def _check_one_outcome(world: World, job_id: JobId) -> None:
    job = world.job(job_id)
    assert (job.status, job.fine_tuned_model) == (JobStatus.SUCCEEDED, "support:1")
    (version,) = versions(world)
    assert version.state is VersionState.LIVE
    assert route(world).generation == 1
    assert len(world.published()) == 1
    files = world.registry.files.list(
        SYSTEM, purpose="fine-tune-results", after=None, limit=10, newest_first=True
    )
    assert {file.id for file in files.items} == set(job.result_files)
    assert len(files.items) == len(job.result_files) == 3
    events = world.registry.jobs.events(job_id, SYSTEM, after=None, limit=500).items
    assert [event.type for event in events].count("gate_checks") == 1
    kept = world.registry.jobs.checkpoints(job_id, SYSTEM, after=None, limit=10).items
    assert [checkpoint.step for checkpoint in kept] == [STEPS, STEPS // 2]
