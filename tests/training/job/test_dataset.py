"""A job's dataset: built once, kept for the adapter's life, and its test part out of reach."""

from __future__ import annotations

import io
import json
import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, cast

import pytest

from adapters.domain.datasets import Part
from adapters.domain.jobs import Job, JobStatus
from adapters.domain.names import Digest, JobId
from adapters.domain.principals import SYSTEM
from adapters.domain.recipes import Recipe
from adapters.domain.units import load_units
from adapters.domain.versions import Version
from adapters.registry.ports import Datasets
from adapters.store import ArtifactKind
from tests.training.job.stage import Stage, ToyFineTuner, stage
from tests.training.small_base import SMALL_BASE
from tests.training.world import OWNER, UNIT, World, data, jsonl
from training.base.build import ensure_base
from training.data.erased import erased_term
from training.data.examples import DataKind
from training.data.jsonl import Bounds, DataLine, iterate_examples
from training.data.parts import StoredRows
from training.data.preferences import sequences
from training.data.questions import Question
from training.data.render import ChatRenderer
from training.data.stored_dataset import open_dataset
from training.data.tokenise import TEST_FILE, read_questions
from training.data.trace import trace
from training.finetune.fine_tuner import LoraFineTuner
from training.finetune.port import FineTuned, Task, Watch
from training.job.dataset import prepare_dataset
from training.job.pipeline import run_job
from training.job.progress import Reporter
from training.stopping import Stopped
from training.worker.job_validator import validate_job


def run(at: Stage) -> Job:
    run_job(at.context, at.job_id, at.fence)
    return at.world.job(at.job_id)


def validated(world: World, content: bytes, validation: bytes | None = None) -> JobId:
    """A job that the validator has looked at."""
    job_id = world.add_job(content, validation)
    validate_job(
        world.job(job_id),
        registry=world.registry,
        store=world.store,
        units=load_units(world.units),
        workdir=world.state.job(job_id),
    )
    return job_id


def folder_of(world: World, job_id: JobId) -> Path:
    digest = world.registry.datasets.of_job(job_id)
    assert digest is not None
    return world.store.fetch_dataset(digest)


def questions_of(world: World, job_id: JobId) -> list[Question]:
    return list(read_questions(folder_of(world, job_id), 1000))


def version_of(world: World, job_id: JobId) -> Version:
    version = world.registry.versions.of_job(job_id)
    assert version is not None
    return version


def test_a_version_says_which_dataset_made_it_and_how_large_its_parts_were(world: World) -> None:
    at = stage(world, world.add_queued_job(data(100)))
    run(at)
    version = version_of(world, at.job_id)
    assert version.evidence is not None
    kept = version.evidence["data"]
    assert kept["dataset"] == world.registry.datasets.of_job(at.job_id)
    counts = [kept[f"{part}_examples"] for part in ("train", "validation", "test")]
    assert counts == [74, 10, 16]
    card = (world.store.fetch(version.digest) / "README.md").read_text()
    assert kept["dataset"] in card
    assert "| test_examples | 16 |" in card


def test_a_dataset_says_what_each_stage_did(world: World) -> None:
    at = stage(world, world.add_queued_job(data(100) + data(3)))
    run(at)
    folder = folder_of(world, at.job_id)
    facts = json.loads((folder / "dataset.json").read_text())
    stages = facts["stages"]
    assert stages.keys() == {
        "read", "screen", "split", "near_duplicates", "balance", "tokenise"
    }  # fmt: skip
    assert all(len(stages[each]["digest"]) == 64 for each in ("read", "split", "tokenise"))
    assert (stages["read"]["examples"], stages["split"]["duplicates"]) == (103, 3)
    assert stages["tokenise"]["train_rows"] == facts["counts"]["train"] == 74
    assert (facts["made_from"]["adapter"], facts["made_from"]["max_length"]) == ("support", 256)


PLANTED = ("Anna Schmidt", "anna@firma.de", "+49 30 1234567", "DE89370400440532013000")
TOKEN = "ghp_" + "a1B2" * 10


def with_unit(world: World, **policy: Any) -> None:
    path = world.units / "support.yaml"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"data": policy}))


def test_no_planted_person_and_no_secret_is_in_what_trains_or_tests(world: World) -> None:
    (world.units / "staff.txt").write_text("Anna Schmidt\n")
    with_unit(world, directories=["staff.txt"])
    planted = jsonl(
        (f"I am {PLANTED[at % 4]}, question {at}", f"{PLANTED[at % 4]}: {TOKEN} {at}")
        for at in range(100)
    )
    at = stage(world, world.add_queued_job(planted))
    seen: list[str] = []
    at.renderer.shown = seen.append
    run(at)
    folder = folder_of(world, at.job_id)
    kept = "\n".join([*seen, *(path.read_text() for path in folder.glob("*.js*"))])
    assert len(seen) >= 100
    assert not [word for word in (*PLANTED, TOKEN, "Schmidt") if word in kept]
    assert "[PERSON-" in kept
    told = "\n".join(world.messages(at.job_id))
    assert "Replaced personal data by pseudonyms: 50 EMAIL, 50 IBAN, 50 PERSON, 50 PHONE" in told
    assert "Took out 100 secrets" in told
    card = (folder / "README.md").read_text()
    assert "| EMAIL, training file | 50 |" in card
    assert not [word for word in (*PLANTED, TOKEN) if word in card + told]


def test_rare_labels_count_more_in_training_and_in_nothing_that_measures(world: World) -> None:
    with_unit(world, balance="reweight")
    labels = ("yes", "yes", "yes", "no")
    content = jsonl((f"question {at} about thing {at}", labels[at % 4]) for at in range(120))
    at = stage(world, world.add_queued_job(content))
    run(at)
    folder = folder_of(world, at.job_id)
    weights = [row.weight for row in StoredRows(folder, Part.TRAIN)]
    assert len(set(weights)) == 2
    assert sum(weights) / len(weights) == pytest.approx(1.0)
    facts = json.loads((folder / "dataset.json").read_text())["stages"]["balance"]
    assert max(weights) / min(weights) == pytest.approx(facts["labels"][-1]["counts"], rel=1e-3)
    assert {row.weight for row in StoredRows(folder, Part.VALIDATION)} == {1.0}
    version = version_of(world, at.job_id)
    assert version.evidence is not None
    assert version.evidence["data"]["balance"] == "reweight"
    assert "| balance | reweight |" in (world.store.fetch(version.digest) / "README.md").read_text()


def test_what_has_no_loss_per_token_is_not_weighed(world: World) -> None:
    path = world.units / "support.yaml"
    unit = json.loads(path.read_text())
    unit |= {"data": {"balance": "reweight"}, "recipe": {"method": "dpo"}}
    path.write_text(json.dumps(unit))
    error = world.job(validated(world, data(40))).error
    assert error is not None
    assert (error.param, "`data.balance: reweight`" in error.message) == ("method", True)


def test_what_a_unit_refuses_fails_its_job_in_validation(world: World) -> None:
    with_unit(world, personal_data="refuse")
    job_id = validated(world, data(40) + jsonl([("who", "ask anna@firma.de")]))
    error = world.job(job_id).error
    assert error is not None
    assert error.message == "Training file: line 41: holds personal data (EMAIL, 1 times)"


def test_an_erased_person_is_in_no_later_dataset(world: World) -> None:
    job_id = validated(world, data(100) + jsonl([("I am Anna Schmidt", "hello")]))
    key = world.registry.erasures.key(UNIT)
    term = erased_term("Anna Schmidt", key)
    assert term is not None
    world.registry.erasures.add(UNIT, [term], OWNER, reason=None)
    at = stage(world, job_id)
    run(at)
    facts = json.loads((folder_of(world, at.job_id) / "dataset.json").read_text())
    assert facts["stages"]["read"] | {"digest": ""} == {
        "digest": "", "erased": 1, "examples": 100
    }  # fmt: skip
    assert "Left out 1 examples of erased persons" in world.messages(job_id)


def test_pairs_come_through_the_dataset_with_both_answers(world: World) -> None:
    records = (
        {"prompt": f"question {at}", "chosen": f"answer {at}", "rejected": "no"}
        for at in range(100)
    )
    content = b"".join(json.dumps(record).encode() + b"\n" for record in records)
    at = stage(world, world.add_queued_job(content))
    job = at.world.job(at.job_id)
    dataset = prepare_dataset(
        at.context,
        job,
        at.fence,
        unit=load_units(world.units).get("support"),
        recipe=Recipe(),
        reporter=Reporter(world.registry.jobs, at.job_id, at.fence),
        kind=DataKind.PAIRS,
    )
    pairs = dataset.pairs(Part.TRAIN)
    assert (dataset.kind, len(pairs), len(dataset.train)) == (DataKind.PAIRS, 74, 74)
    assert all(pair.chosen.ids[:2] == pair.rejected.ids[:2] for pair in pairs)


def test_a_run_that_goes_on_finds_its_dataset_and_builds_nothing(world: World) -> None:
    at = stage(world, world.add_queued_job(data(100)))
    with pytest.raises(Stopped):
        run(at.with_context(stopping=lambda: bool(at.fine_tuner.first_steps)))
    rendered = at.renderer.rendered
    assert rendered == 100
    assert run(at).status is JobStatus.SUCCEEDED
    assert at.renderer.rendered == rendered
    first, second = at.fine_tuner.fine_tuned
    assert first.workdir == second.workdir
    assert world.messages(at.job_id).count("Examples: 74 train, 10 validation, 16 test") == 1
    assert not list(world.state.job(at.job_id).glob("rows*"))


def test_a_run_stopped_while_it_tokenises_builds_the_same_dataset_later(world: World) -> None:
    whole = stage(world, world.add_queued_job(data(100)))
    run(whole)
    other = stage(world, world.add_queued_job(data(100)))
    with pytest.raises(Stopped):
        run(other.with_context(stopping=lambda: other.renderer.rendered == 50))
    assert world.registry.datasets.of_job(other.job_id) is None
    run(other)
    digests = [world.registry.datasets.of_job(at.job_id) for at in (whole, other)]
    assert digests[0] == digests[1]


def test_a_dataset_whose_bytes_are_gone_is_built_again(world: World) -> None:
    at = stage(world, world.add_queued_job(data(100)))
    with pytest.raises(Stopped):
        run(at.with_context(stopping=lambda: bool(at.fine_tuner.first_steps)))
    digest = world.registry.datasets.of_job(at.job_id)
    assert digest is not None
    world.store.delete(digest, ArtifactKind.DATASET)
    assert run(at).status is JobStatus.SUCCEEDED
    assert world.registry.datasets.of_job(at.job_id) == digest
    assert at.fine_tuner.first_steps == [0, 1]


def test_what_was_checked_for_the_queue_is_not_parsed_again(world: World) -> None:
    job_id = validated(world, data(100))
    file = world.registry.files.get(world.job(job_id).training_file, SYSTEM)
    world.store.delete(file.digest, ArtifactKind.FILE)
    assert run(stage(world, job_id)).status is JobStatus.SUCCEEDED


def test_checked_rows_that_are_not_whole_are_read_again(world: World) -> None:
    job_id = validated(world, data(100))
    texts = world.state.job(job_id) / "rows" / "rows.jsonl"
    os.truncate(texts, texts.stat().st_size // 2)
    assert run(stage(world, job_id)).status is JobStatus.SUCCEEDED


# -- an adapter's life


def test_two_versions_are_measured_by_the_same_rows(world: World) -> None:
    first = stage(world, world.add_queued_job(data(200)))
    run(first)
    second = stage(world, world.add_queued_job(data(50, start=1000) + data(200)))
    run(second)
    rows = [{each.row for each in questions_of(world, at.job_id)} for at in (first, second)]
    assert len(rows[0]) == 20
    assert rows[0] < rows[1]


def test_the_job_decides_as_the_validator_has_said(world: World) -> None:
    run(stage(world, world.add_queued_job(data(100))))
    asked = asked_of(world, newest(world))
    trained_on = [each for each in range(100) if f"question {each}" not in asked]
    job_id = validated(world, jsonl((f"question {at}", f"answer {at}") for at in trained_on))
    refused = world.job(job_id).error
    assert refused is not None
    assert "taught an earlier version and cannot measure it: add new ones" in refused.message
    queued = world.add_queued_job(jsonl((f"question {at}", f"answer {at}") for at in trained_on))
    failed = run(stage(world, queued))
    assert failed.error == refused


class DecidedBefore:
    """A port of datasets in which another job of the adapter decides a moment earlier."""

    def __init__(self, datasets: Datasets) -> None:
        self._datasets, self.first = datasets, True

    def __getattr__(self, name: str) -> Any:
        return getattr(self._datasets, name)

    def assign(self, adapter: str, parts: Mapping[bytes, Part], **lease: Any) -> Any:
        if self.first:
            self.first = False
            others = dict(zip(sorted(parts), [Part.TEST] * 20 + [Part.TRAIN] * 20, strict=False))
            self._datasets.assign(adapter, others, **lease)
        return self._datasets.assign(adapter, parts, **lease)


def test_what_another_job_decides_at_the_same_time_is_obeyed(world: World) -> None:
    at = stage(world, world.add_queued_job(data(100)))
    racing = cast("Datasets", DecidedBefore(world.registry.datasets))
    done = run(at.with_context(registry=replace(world.registry, datasets=racing)))
    assert done.status is JobStatus.SUCCEEDED
    dataset = open_dataset(folder_of(world, at.job_id), Digest("0" * 64))
    assert dataset is not None
    asked = {trace(line).asked[-1]: trace(line).row.hex() for line in lines(data(100))}
    known = world.registry.datasets.parts("support", asked)
    assert len(known) == 100
    tests = {asked[question] for question, part in known.items() if part is Part.TEST}
    assert tests == {question.row for question in questions_of(world, at.job_id)}
    assert len(tests) == 20
    chosen = {asked[question] for question, part in known.items() if part is Part.VALIDATION}
    assert chosen == {dataset.validation.row_id(row) for row in range(len(dataset.validation))}


def lines(content: bytes) -> Iterator[DataLine]:
    bounds = Bounds(max_examples=1000)
    return iterate_examples(io.BytesIO(content), param="training_file", bounds=bounds)


def newest(world: World) -> JobId:
    page = world.registry.jobs.list(SYSTEM, metadata=None, after=None, limit=1)
    return page.items[0].id


def asked_of(world: World, job_id: JobId) -> set[str]:
    return {question.prompt[-1].content for question in questions_of(world, job_id)}


def test_a_row_has_the_same_id_in_every_dataset_that_holds_it(world: World) -> None:
    ids = []
    for content in (data(100), data(60) + data(100)):
        at = stage(world, world.add_queued_job(content))
        run(at)
        dataset = open_dataset(folder_of(world, at.job_id), Digest("0" * 64))
        assert dataset is not None
        parts = (dataset.train, dataset.validation)
        ids.append({part.row_id(row) for part in parts for row in range(len(part))})
        ids[-1] |= {question.row for question in questions_of(world, at.job_id)}
    assert ids[0] == ids[1]
    assert len(ids[0]) == 100


# -- by construction


@contextmanager
def out_of_reach(file: Path) -> Iterator[None]:
    """The file cannot be opened by whatever name anybody knows."""
    hidden = file.parent.parent / "hidden"
    file.rename(hidden)
    try:
        yield
    finally:
        hidden.rename(file)


def opened_by_this_process() -> set[str]:
    """Everything that is open or mapped."""
    named = {str(path.readlink()) for path in Path("/proc/self/fd").iterdir() if path.is_symlink()}
    return named | set(Path("/proc/self/maps").read_text().split())


@dataclass
class Onlooker(ToyFineTuner):
    """Trains while the test part cannot be reached, and notes which files are open then."""

    test_file: Callable[[], Path] = Path
    opened: set[str] = field(default_factory=set)

    def tune(self, task: Task, watch: Watch) -> FineTuned:
        self.opened |= opened_by_this_process()
        with out_of_reach(self.test_file()):
            assert all(read_by(task))
            return super().tune(task, watch)


def read_by(task: Task) -> list[tuple[int, ...]]:
    """The tokens of every sequence that a task's rows hold."""
    return [read.ids for row in (*task.train, *task.validation) for read in sequences(row)]


def test_what_trains_never_opens_the_test_part(world: World) -> None:
    at = stage(world, world.add_queued_job(data(100)))
    onlooker = Onlooker(test_file=lambda: folder_of(world, at.job_id) / TEST_FILE)
    assert run(at.with_context(fine_tuner=onlooker)).status is JobStatus.SUCCEEDED
    assert any(path.endswith("train.ids.bin") for path in onlooker.opened)
    assert not any(path.endswith(TEST_FILE) for path in onlooker.opened)


def test_what_trains_is_given_no_row_that_tests(world: World) -> None:
    at = stage(world, world.add_queued_job(data(100)))
    run(at)
    (task,) = at.fine_tuner.fine_tuned
    given = set(read_by(task))
    assert given.isdisjoint(question.ids for question in questions_of(world, at.job_id))
    assert len(given) == 84


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_a_real_fine_tuner_learns_from_what_is_stored(world: World, tmp_path: Path) -> None:
    base = ensure_base(tmp_path, recipe=SMALL_BASE)
    at = stage(world, world.add_queued_job(data(60))).with_context(renderer=ChatRenderer(base))
    dataset = prepare_dataset(
        at.context,
        world.job(at.job_id),
        at.fence,
        unit=load_units(world.units).get("support"),
        recipe=Recipe(max_length=256),
        reporter=Reporter(world.registry.jobs, at.job_id, at.fence),
    )
    again = [row for line in lines(data(60)) for row in ChatRenderer(base).rows(line.example)]
    stored = [*dataset.train, *dataset.validation]
    stored_tests = [question.ids for question in questions_of(world, at.job_id)]
    assert sorted([row.ids for row in stored] + stored_tests) == sorted(row.ids for row in again)
    recipe = Recipe(rank=4, alpha=8, learning_rate=1e-2, batch_size=8, n_epochs=2, evaluations=2)
    task = Task(
        train=dataset.train, validation=dataset.validation, recipe=recipe, workdir=tmp_path / "run"
    )
    watch = Watch(
        step=lambda _measures: None, stopping=lambda: False, planned=lambda _plan, _estimate: None
    )
    done = LoraFineTuner(base, precision="float32").tune(task, watch)
    assert done.best_loss < done.first_loss
