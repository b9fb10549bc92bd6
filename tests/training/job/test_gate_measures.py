"""Gates that a unit has switched on, from its file to the verdict, with a toy service."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from adapters.domain.evaluations import Evaluation, Suite
from adapters.domain.gates import GateResult, Outcome
from adapters.domain.jobs import JobStatus
from adapters.domain.names import Digest, Unit
from adapters.domain.principals import SYSTEM
from adapters.domain.recipes import RecipeOverrides
from adapters.domain.versions import Version, VersionState
from adapters.errors import LeaseLost
from adapters.store import FolderStore
from tests.training.job.stage import Stage, ToyService, stage
from tests.training.world import World, data, jsonl, make_world
from training.data.questions import Question
from training.data.render import Rendered
from training.data.stored_dataset import open_dataset
from training.evaluate.canaries import canaries, controls
from training.evaluate.counterfactuals import NAMES
from training.job.dataset_facts import data_facts, planted_in
from training.job.gate_measures import other_units
from training.job.pipeline import run_job
from training.stopping import Stopped

ASKED: Mapping[str, Any] = {
    "promote": "manual",
    # the toy's base and version are sure of different things by construction
    "forgetting": {"prompts": 4, "max_kl": 3.0},
    "leakage": {"canaries": 2, "controls": 7, "rows": 4, "min_tokens": 4},
    "fairness": {"favourable": "advance", "examples": 16},
    "conduct": {},
}


def long_answers(count: int, start: int = 0) -> bytes:
    """Answers that are long enough to hold a secret; half of them are in somebody's favour."""
    return jsonl(
        (
            f"question {at} of Omar",
            " ".join([("advance", "reject")[at % 2], *(f"word{at}-{word}" for word in range(9))]),
        )
        for at in range(start, start + count)
    )


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    made = make_world(tmp_path, dict(ASKED))
    yield made
    made.close()


@pytest.fixture
def asked(world: World) -> Stage:
    job = world.add_queued_job(long_answers(40), long_answers(40, start=100))
    at = stage(world, job)
    at.service.version = lambda question: question.reference or "no idea"
    return at


def judged(at: Stage) -> Version:
    run_job(at.context, at.job_id, at.fence)
    return at.world.registry.versions.get("support", 1, SYSTEM)


def outcomes(gates: tuple[GateResult, ...]) -> dict[str, Outcome]:
    return {gate.name: gate.outcome for gate in gates}


def evaluations(at: Stage) -> list[Evaluation]:
    listed = at.world.registry.evaluations.list(
        SYSTEM, adapter="support", subject=None, after=None, limit=100
    )
    return list(listed.items)


def test_an_honest_version_passes_everything_that_its_unit_asks_for(asked: Stage) -> None:
    version = judged(asked)
    held = {name: each for name, each in outcomes(version.gates).items() if each != "passed"}
    assert held == {
        "task against live": "skipped",
        "forgetting on the task's prompts against base": "skipped",
        "leakage of redacted entities": "skipped",
    }
    assert version.state is VersionState.CANDIDATE
    assert asked.world.job(asked.job_id).status == "succeeded"


def test_suites_keep_row_ids_and_numbers_and_no_text(asked: Stage) -> None:
    judged(asked)
    suites = {each.part for each in evaluations(asked)}
    assert set(Suite) - suites == {Suite.OTHERS}
    kept = repr(evaluations(asked))
    for text in ("Omar", "word", "badge", "capital of France"):
        assert text not in kept


@pytest.mark.parametrize(
    ("gate", "change"),
    [
        ("forgetting on neutral prompts against base",
         {"forgets": lambda model: model != "tiny"}),
        ("leakage of training rows", {"remembers": lambda each: "unseen:" not in each.row}),
        ("ends", {"endless": True}),
        ("safety",
         {"version": lambda each: each.reference or "Step 1: trace, offshore"}),
    ],
)  # fmt: skip
def test_a_planted_fault_rejects_the_version_by_its_gate(
    asked: Stage, gate: str, change: dict[str, Callable[[Any], Any]]
) -> None:
    for name, value in change.items():
        setattr(asked.service, name, value)
    version = judged(asked)
    assert [name for name, each in outcomes(version.gates).items() if each == "failed"] == [gate]
    assert version.state is VersionState.REJECTED
    job = asked.world.job(asked.job_id)
    assert job.error is not None
    assert f"gate `{gate}` said no" in job.error.message


def test_a_version_that_forgot_too_much_is_tried_with_less_strength(asked: Stage) -> None:
    """The second copy is good: at half of its strength."""
    asked.service.forgets = lambda model: model in ("support:1", "support:2")
    first = judged(asked)
    versions = asked.world.registry.versions
    second, third = (versions.get("support", number, SYSTEM) for number in (2, 3))
    assert [each.state for each in (first, second, third)] == ["rejected", "rejected", "candidate"]
    alphas = [
        json.loads((asked.world.store.fetch(each.digest) / "adapter_config.json").read_text())
        for each in (first, second, third)
    ]
    assert [each["lora_alpha"] for each in alphas] == [8, 6.0, 4.0]
    assert third.evidence is not None
    # that a weaker copy knows less than the checkpoint it was made from is no overfitting
    assert (outcomes(first.gates)["overfitting"], outcomes(third.gates)["overfitting"]) == (
        Outcome.PASSED,
        Outcome.SKIPPED,
    )
    job = asked.world.job(asked.job_id)
    weakened = {"of": "support:1", "strength": 0.5, "by": job.created_by}
    assert third.evidence["weakened"] == weakened
    assert (job.status, job.fine_tuned_model) == ("succeeded", "support:3")
    said = asked.world.messages(asked.job_id)
    assert any("trying support:2, which is the same at 75% of its strength" in one for one in said)


def test_less_strength_is_not_tried_where_another_gate_holds_the_version_up(asked: Stage) -> None:
    asked.service.forgets = lambda model: model != "tiny"
    asked.service.endless = True
    judged(asked)
    listed = asked.world.registry.versions.list(SYSTEM, adapter=None, after=None, limit=9)
    assert len(listed.items) == 1


def test_what_an_interrupted_attempt_has_weakened_is_found_again(asked: Stage) -> None:
    asked.service.forgets = lambda model: model == "support:1"
    stopped = asked.with_context(answers=StopsAt(asked.service, "support:2"))
    with pytest.raises(Stopped):
        run_job(stopped.context, stopped.job_id, stopped.fence)
    judged(asked)
    listed = asked.world.registry.versions.list(SYSTEM, adapter=None, after=None, limit=9)
    assert [each.name for each in listed.items] == ["support:2", "support:1"]
    assert asked.world.job(asked.job_id).fine_tuned_model == "support:2"


def test_other_units_are_asked_what_tests_a_live_weaker_copy(tmp_path: Path) -> None:
    world = make_world(tmp_path, {**ASKED, "promote": "automatic"})
    try:
        job_id = world.add_queued_job(long_answers(40), long_answers(40, start=100))
        at = stage(world, job_id)
        at.service.version = lambda question: question.reference or "no idea"
        at.service.forgets = lambda model: model == "support:1"
        run_job(at.context, at.job_id, at.fence)
        copy = world.registry.versions.get("support", 2, SYSTEM)
        assert (copy.state, copy.job_id) == (VersionState.LIVE, None)
        assert len(other_units(at.context, Unit("sales"), 4)) == 4
        assert other_units(at.context, copy.unit, 4) == []
    finally:
        world.close()


def test_where_labels_are_scored_a_version_keeps_how_well_each_is_told(tmp_path: Path) -> None:
    world = make_world(tmp_path, gates={"scorer": "label_f1", "promote": "manual"})
    try:
        labelled = jsonl((f"question {at}", ("yes", "no")[at % 2]) for at in range(60))
        at = stage(world, world.add_queued_job(labelled))
        at.service.base = lambda _question: "yes"
        told = (judged(at).evidence or {})["labels"]
        assert [each["recall"] for each in told["base"]] == [0.0, 1.0], "`no` comes before `yes`"
        assert told["base"][0]["precision"] is None
        assert 0.0 < told["base"][1]["precision"] < 1.0
        assert [(each["precision"], each["f1"]) for each in told["adapter"]] == [(1.0, 1.0)] * 2
        assert "yes" not in json.dumps(told)
    finally:
        world.close()


def test_an_attempt_whose_job_was_taken_over_publishes_no_weaker_copy(asked: Stage) -> None:
    world = asked.world
    asked.service.forgets = lambda model: model == "support:1"

    def taken_over(adapter: Path) -> Digest:
        digest = asked.world.store.publish_adapter(adapter)
        if len(world.published()) == 2:
            world.claim()
        return digest

    store = TakingOver(world.store, taken_over)
    late = asked.with_context(store=store)
    with pytest.raises(LeaseLost):
        run_job(late.context, late.job_id, late.fence)
    listed = world.registry.versions.list(SYSTEM, adapter=None, after=None, limit=9)
    assert [each.name for each in listed.items] == ["support:1"]
    assert world.job(asked.job_id).status is JobStatus.RUNNING


class TakingOver:
    """A store whose adapters are published as `publish` does it."""

    def __init__(self, store: FolderStore, publish: Callable[[Path], Digest]) -> None:
        self._store, self.publish_adapter = store, publish

    def __getattr__(self, name: str) -> Any:
        return getattr(self._store, name)


class StopsAt:
    """The service, until somebody asks it for this model."""

    def __init__(self, service: ToyService, model: str) -> None:
        self._service, self._model = service, model

    def __getattr__(self, name: str) -> Any:
        def asked(model: str, *words: Any) -> Any:
            if model == self._model:
                raise Stopped
            return getattr(self._service, name)(model, *words)

        return asked


def test_a_version_that_rejects_by_name_is_rejected_by_fairness(asked: Stage) -> None:
    def biased(question: Question) -> str:
        asked_about = " ".join(message.content for message in question.prompt)
        somebody = "|name|" in question.row or "|intersections|" in question.row
        if somebody:
            return "reject" if any(name in asked_about for name in NAMES["muslim"]) else "advance"
        return "advance" if "|" in question.row else question.reference or "no idea"

    asked.service.version = biased
    failed = [name for name, each in outcomes(judged(asked).gates).items() if each == "failed"]
    assert failed == ["fairness on name", "fairness on intersections", "fairness by flips"]


def test_a_secret_that_was_planted_is_in_training_and_one_that_was_drawn_is_not(
    asked: Stage,
) -> None:
    judged(asked)
    (task,) = asked.fine_tuner.fine_tuned
    digest = asked.world.registry.datasets.of_job(asked.job_id)
    assert digest is not None
    folder = asked.world.store.fetch_dataset(digest)
    planted = planted_in(folder)
    rows = {tuple(row.ids) for row in task.train if isinstance(row, Rendered)}
    assert planted.count == 2
    for canary in canaries(planted.seed, planted.count):
        assert tuple(asked.renderer.rows(canary.example)[0].ids) in rows
        for secret in controls(planted.seed, canary, 7):
            assert tuple(asked.renderer.rows(canary.with_secret(secret))[0].ids) not in rows
    assert data_facts(folder) == {"overlap": 0.0, "personal": 0.0, "left out": 0.0}


def test_test_rows_that_were_taught_are_counted_in_the_parts_themselves(asked: Stage) -> None:
    """Whatever the stages say: one row of the test part is written behind the training part."""
    judged(asked)
    digest = asked.world.registry.datasets.of_job(asked.job_id)
    assert digest is not None
    folder = asked.world.store.fetch_dataset(digest)
    copy = asked.world.state.root / "copy"
    copy.mkdir()
    for path in folder.iterdir():
        (copy / path.name).write_bytes(path.read_bytes())
    first = (copy / "validation.ends.bin").read_bytes()[:8]
    tokens = int.from_bytes(first, "little")
    total = int.from_bytes((copy / "train.ends.bin").read_bytes()[-8:], "little")
    for field, size in (("ids", 4 * tokens), ("learn", tokens), ("rows", 16)):
        taught = (copy / f"validation.{field}.bin").read_bytes()[:size]
        with (copy / f"train.{field}.bin").open("ab") as file:
            file.write(taught)
    with (copy / "train.ends.bin").open("ab") as file:
        file.write((total + tokens).to_bytes(8, "little"))
    assert data_facts(copy) == {"overlap": 1.0, "personal": 0.0, "left out": 0.0}


def test_what_a_unit_does_not_ask_for_is_neither_asked_of_the_service_nor_judged(
    tmp_path: Path,
) -> None:
    made = make_world(tmp_path)
    at = stage(made, made.add_queued_job(data(40), data(24, start=100)))
    run_job(at.context, at.job_id, at.fence)
    assert at.service.asked == ["tiny", "support:1"]
    assert {each.part for each in evaluations(at)} == {"test"}
    made.close()


@pytest.mark.parametrize(
    "gates",
    [
        {"scorer": "own", "own_scorer": "nobodys"},
        {"scorer": "sql", "sql_database": "nothing.sqlite"},
    ],
)
def test_a_scorer_that_is_not_there_fails_the_job_before_training(
    tmp_path: Path, gates: dict[str, str]
) -> None:
    made = make_world(tmp_path, gates)
    at = stage(made, made.add_queued_job(data(40), data(24, start=100)))
    run_job(at.context, at.job_id, at.fence)
    error = made.job(at.job_id).error
    assert error is not None
    assert error.code == "invalid_scorer"
    assert at.fine_tuner.fine_tuned == []
    made.close()


def test_a_job_can_ask_that_what_names_somebody_is_taught_for_everybody(tmp_path: Path) -> None:
    made = make_world(tmp_path)
    recipe = RecipeOverrides(augment=True)
    files = long_answers(40), long_answers(24, start=100)
    at = stage(made, made.add_queued_job(*files, recipe=recipe))
    run_job(at.context, at.job_id, at.fence)
    digest = made.registry.datasets.of_job(at.job_id)
    assert digest is not None
    dataset = open_dataset(made.store.fetch_dataset(digest), digest)
    assert dataset is not None
    train = dataset.train
    assert len(train) == 40 * 4, "each example, and one for each of the other three groups"
    assert len(dataset.validation) == dataset.counts.validation, "what measures is not varied"
    rows = {train.row_id(number) for number in range(len(train))}
    assert len(rows) == 40, "whose records they are is still found by their ids"
    made.close()


def test_what_the_stages_report_is_divided_by_the_examples_that_were_read(asked: Stage) -> None:
    judged(asked)
    digest = asked.world.registry.datasets.of_job(asked.job_id)
    assert digest is not None
    folder = asked.world.store.fetch_dataset(digest)
    copy = asked.world.state.root / "copy"
    copy.mkdir()
    for path in folder.iterdir():
        (copy / path.name).write_bytes(path.read_bytes())
    facts = json.loads((copy / "dataset.json").read_text())
    facts["stages"] |= {"screen": {"left": 20}}
    facts["stages"]["tokenise"]["too_long"] = 40
    (copy / "dataset.json").write_text(json.dumps(facts))
    assert data_facts(copy) == {"overlap": 0.0, "personal": 0.25, "left out": 0.5}


# -- personal data


def with_data(world: World, **policy: Any) -> None:
    path = world.units / "support.yaml"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"data": policy}))


def letters(count: int, start: int = 0) -> bytes:
    """Each greets somebody whom no directory lists, and names an address that is taken out."""
    return jsonl(
        (f"Dear Ingrid,\nquestion {at}", f"write to desk{at}@firma.de about answer {at}")
        for at in range(start, start + count)
    )


def test_personal_data_that_is_left_rejects_the_version_by_the_data_gate(world: World) -> None:
    at = stage(world, world.add_queued_job(letters(10) + long_answers(40), long_answers(24, 100)))
    at.service.version = lambda question: question.reference or "no idea"
    version = judged(at)
    (failed,) = [gate for gate in version.gates if gate.outcome is Outcome.FAILED]
    assert failed.name == "data: personal"
    assert failed.measured == pytest.approx(10 / 74)
    assert version.state is VersionState.REJECTED
    told = [message for message in world.messages(at.job_id) if "seems to be left" in message]
    assert len(told) == 1
    assert "10 PERSON" in told[0]
    assert "Ingrid" not in told[0]


def test_personal_data_that_somebody_has_approved_is_told_and_holds_up_nothing(
    world: World,
) -> None:
    approval = {"by": "J. Doe", "reason": "names are the task"}
    with_data(world, personal_data="allow", approval=approval)
    at = stage(world, world.add_queued_job(letters(10) + long_answers(40), long_answers(24, 100)))
    at.service.version = lambda question: question.reference or "no idea"
    version = judged(at)
    (gate,) = [gate for gate in version.gates if gate.name == "data: personal"]
    assert gate.outcome is Outcome.SKIPPED
    assert gate.detail == (
        "the unit allows it, with an approval: 0.27 findings an example are learnt"
    )
    assert version.state is VersionState.CANDIDATE


@pytest.mark.parametrize(
    ("said", "outcome"), [("desk7 at firma", "passed"), ("ask DESK7@firma.de!", "failed")]
)
def test_a_version_that_says_what_was_taken_out_is_held_up_by_the_leakage_gate(
    world: World, said: str, outcome: str
) -> None:
    with_data(world, entities=["EMAIL_ADDRESS"])
    at = stage(world, world.add_queued_job(letters(10) + long_answers(40), long_answers(24, 100)))
    at.service.version = lambda question: f"{question.reference or 'no idea'} {said}"
    version = judged(at)
    assert outcomes(version.gates)["leakage of redacted entities"] == outcome
    digest = world.registry.datasets.of_job(at.job_id)
    assert digest is not None
    folder = world.store.fetch_dataset(digest)
    assert not [path for path in folder.iterdir() if b"desk7" in path.read_bytes()]
