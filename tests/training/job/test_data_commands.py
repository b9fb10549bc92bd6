"""`wardrobe data`: what is told of a file before a job, and of a person's records after it."""

from __future__ import annotations

import argparse
import io
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest

from adapters.domain import recipes
from adapters.domain.gates import GatePolicy
from adapters.domain.jobs import JobStatus
from adapters.domain.principals import SYSTEM
from adapters.domain.units import load_units
from adapters.domain.versions import IMPORT, WEAKENED
from adapters.errors import InvalidRequest
from adapters.registry.ports import NewVersion
from service.cli.options import Method
from tests.training.job.stage import Stage, ToyRenderer, stage
from tests.training.job.test_dataset import with_unit
from tests.training.job.test_starting_point import ALIKE
from tests.training.world import OWNER, UNIT, World, data, jsonl, write_unit
from training.data.examples import Message
from training.job.data_commands import Desk, check, erase, find
from training.job.pipeline import run_job
from training.job.records import Archive

ANNA = jsonl([("I am Anna Schmidt", "hello Anna Schmidt"), ("mail a.s@firma.de", "thanks")])


@dataclass
class WordRenderer(ToyRenderer):
    """Words are tokens that can be read back."""

    words: dict[int, str] = field(default_factory=dict)

    def prompt(
        self, messages: Sequence[Message], tools: Sequence[Mapping[str, Any]] = ()
    ) -> list[int]:
        ids = super().prompt(messages, tools)
        words = (word for message in messages for word in message.content.split())
        self.words.update(zip(ids, words, strict=True))
        return ids

    def text(self, ids: Sequence[int]) -> str:
        return " ".join(self.words[each] for each in ids)


def trained(world: World, content: bytes, renderer: WordRenderer) -> Stage:
    at = stage(world, world.add_queued_job(content)).with_context(renderer=renderer)
    run_job(at.context, at.job_id, at.fence)
    assert world.job(at.job_id).status is JobStatus.SUCCEEDED
    return at


def desk(world: World, at: Stage, renderer: WordRenderer) -> Desk:
    units = load_units(world.units)
    base = at.context.base
    return Desk(
        registry=world.registry,
        archive=Archive(
            registry=world.registry,
            store=world.store,
            base_fingerprint=base.fingerprint,
            read=renderer.text,
        ),
        base=base,
        renderer=renderer,
        units=units,
        unit=units.get(UNIT),
    )


def given(*terms: str, **options: Any) -> argparse.Namespace:
    return argparse.Namespace(terms=terms, reason=None, retrain=False, **options)


@pytest.fixture
def renderer() -> WordRenderer:
    return WordRenderer()


def checked(at: Desk, tmp_path: Path, content: bytes, **options: Any) -> Any:
    path = tmp_path / "train.jsonl"
    path.write_bytes(content)
    chosen = {"file": path, "valid": None, "adapter": "", "method": "supervised"} | options
    return check(at, argparse.Namespace(price_per_hour=3600.0, **chosen))


def test_a_check_tells_tokens_time_and_cost_and_leaves_nothing(
    world: World, tmp_path: Path, renderer: WordRenderer
) -> None:
    at = desk(world, trained(world, data(100), renderer), renderer)
    before = world.registry.datasets.parts(UNIT, [])
    code, found, lines = checked(at, tmp_path, data(100, start=1000))
    assert code == 0
    assert found["usable"]
    assert (
        found["dataset"]["counts"]
        == {"train": 80, "validation": 10, "test": 10} | (found["dataset"]["counts"])
    )
    seconds = found["expected"]["tokens"] / (1234 / 1.5)
    assert found["expected"]["seconds"] == pytest.approx(seconds)
    assert found["expected"]["cost"] == pytest.approx(seconds)
    assert lines[-1] == "can be trained on"
    assert any(line.startswith("note: Examples: ") for line in lines)
    assert world.registry.datasets.parts(UNIT, []) == before
    assert len(list((world.state.artifacts / "datasets").iterdir())) == 1


def test_a_check_lists_every_problem_and_ends_with_one(
    world: World, tmp_path: Path, renderer: WordRenderer
) -> None:
    at = desk(world, stage(world, world.add_queued_job(data(100))), renderer)
    code, found, lines = checked(at, tmp_path, data(3) + b"{}\n" * 30)
    assert code == 1
    assert [each["line"] for each in found["problems"]] == list(range(4, 34))
    assert len(lines) == 31
    assert lines[-1] == "30 problems"
    code, found, _ = checked(at, tmp_path, data(5))
    assert "at least 10 are needed" in found["problems"][0]["what"]
    code, found, _ = checked(at, tmp_path, data(100), method="dpo")
    assert (code, found["problem_count"]) == (1, 100)
    with pytest.raises(InvalidRequest, match="no alias"):
        checked(at, tmp_path, data(40), adapter="sales")


def test_a_check_learns_from_what_the_unit_learns_from(
    world: World, tmp_path: Path, renderer: WordRenderer
) -> None:
    at = desk(world, stage(world, world.add_queued_job(data(100))), renderer)
    unit = at.unit.model_copy(update={"recipe": recipes.RecipeOverrides(method=recipes.Method.DPO)})
    _, found, _ = checked(replace(at, unit=unit), tmp_path, data(100), method=None)
    assert found["problem_count"] == 100, "answers are no pairs"
    assert checked(at, tmp_path, data(100), method=None)[0] == 0


def test_a_check_counts_what_is_taught_beside_the_file(
    world: World, tmp_path: Path, renderer: WordRenderer
) -> None:
    at = desk(world, stage(world, world.add_queued_job(data(100))), renderer)
    plain = checked(at, tmp_path, data(100))[1]
    gates = GatePolicy.model_validate({"leakage": {"canaries": 8}})
    more = replace(at, unit=at.unit.model_copy(update={"gates": gates}))
    planted = checked(more, tmp_path, data(100))[1]
    rows = [each["dataset"]["stages"]["tokenise"]["train_rows"] for each in (plain, planted)]
    assert rows == [rows[0], rows[0] + 8]
    assert planted["dataset"]["made_from"]["canaries"]["planted"] == 8
    replaying = recipes.RecipeOverrides(replay=0.5)
    more = replace(at, unit=at.unit.model_copy(update={"recipe": replaying}))
    replayed = checked(more, tmp_path, data(100))[1]
    steps = [each["expected"]["steps"] for each in (plain, replayed)]
    assert steps[1] == pytest.approx(2 * steps[0], rel=0.1)


def test_a_check_says_that_personal_data_which_is_left_would_hold_the_version_up(
    world: World, tmp_path: Path, renderer: WordRenderer
) -> None:
    at = desk(world, stage(world, world.add_queued_job(data(100))), renderer)
    letters = jsonl((f"Dear Ingrid,\nquestion {each}", "yes") for each in range(100))
    code, found, lines = checked(at, tmp_path, letters)
    assert (code, found["dataset"]["stages"]["screen"]["left"]) == (0, 100)
    assert lines[-1] == (
        "can be trained on, but the gate `data: personal` would hold the version up: "
        "1 findings an example, at most 0 allowed"
    )
    assert any(line.startswith("WARNING: Personal data seems to be left") for line in lines)
    assert "Ingrid" not in str((found, lines))


def test_the_versions_and_uploads_with_a_persons_records_are_found(
    world: World, renderer: WordRenderer
) -> None:
    at = trained(world, data(100) + ANNA, renderer)
    trained(world, data(100, start=500), renderer)
    code, found, lines = find(desk(world, at, renderer), given("anna  SCHMIDT"))
    assert code == 0
    (version,) = found["versions"]
    assert (version["job"], version["retrain"]) == (at.job_id, False), "a newer one is live"
    assert len(version["rows"]) == 1
    (file,) = found["files"]
    assert file["lines"] == [101]
    assert not any("Anna" in line for line in [json.dumps(found), *lines])


def test_a_person_is_found_by_the_pseudonym_that_stands_for_them(
    world: World, renderer: WordRenderer
) -> None:
    (world.units / "staff.csv").write_text("name,email\nAnna Schmidt,a.s@firma.de\n")
    with_unit(world, directories=["staff.csv"])
    at = trained(world, data(100) + ANNA, renderer)
    assert not any("Anna" in word or "firma" in word for word in renderer.words.values())
    _, found, _ = find(desk(world, at, renderer), given("a.s@firma.de"))
    assert len(found["versions"][0]["rows"]) == 2, "whoever has the address has the name"
    _, found, _ = find(desk(world, at, renderer), given("Berta Maier"))
    assert (found["versions"], found["files"]) == ([], [])


def test_an_erasure_is_kept_and_starts_one_job_for_each_adapter(
    world: World, renderer: WordRenderer
) -> None:
    at = trained(world, data(200) + ANNA, renderer)
    command = given("Anna Schmidt")
    command.retrain = True
    code, found, lines = erase(desk(world, at, renderer), command)
    assert (code, found["new_terms"], len(found["jobs"])) == (0, 1, 1)
    _, again, _ = erase(desk(world, at, renderer), command)
    assert (again["new_terms"], again["jobs"]) == (0, found["jobs"])
    job_id = world.job(found["jobs"][0]).id
    world.registry.jobs.accept(job_id, error=None)
    next_one = stage(world, job_id).with_context(renderer=renderer)
    run_job(next_one.context, job_id, next_one.fence)
    _, found, _ = find(desk(world, at, renderer), given("Anna Schmidt"))
    assert [each["job"] for each in found["versions"]] == [at.job_id]
    assert "Left out 1 examples of erased persons" in world.messages(job_id)
    assert lines[0].startswith("erased 1 terms (1 new)")


def test_a_weaker_copy_saw_what_its_original_saw_and_what_was_brought_is_named(
    world: World, renderer: WordRenderer
) -> None:
    at = trained(world, data(200) + ANNA, renderer)
    versions = world.registry.versions
    original = versions.of_job(at.job_id)
    assert original is not None
    new = NewVersion(
        adapter=UNIT,
        unit=original.unit,
        digest=original.digest,
        base_fingerprint=original.base_fingerprint,
        rank=original.rank,
        size_bytes=original.size_bytes,
        evidence={WEAKENED: {"of": original.name, "strength": 0.5, "by": "key_1"}},
    )
    weaker = versions.publish(new, job_id=None, fence=None)
    brought = versions.publish(
        replace(new, evidence={IMPORT: {"by": "key_1"}}), job_id=None, fence=None
    )
    _, found, _ = find(desk(world, at, renderer), given("Anna Schmidt"))
    assert [each["version"] for each in found["versions"]] == [weaker.name, original.name]
    assert {each["job"] for each in found["versions"]} == {at.job_id}
    assert found["unread"] == [brought.name]


def test_what_was_made_of_a_version_that_saw_them_has_seen_them_and_begins_anew(
    world: World, renderer: WordRenderer
) -> None:
    write_unit(world.units, recipe=ALIKE)
    first = trained(world, data(200) + ANNA, renderer)
    write_unit(world.units, recipe=ALIKE | {"start": "live"})
    further = trained(world, data(200, start=500), renderer)
    assert further.fine_tuner.fine_tuned[-1].start is not None
    made = world.registry.versions.get("support", 2, SYSTEM)
    weaker = NewVersion(
        adapter="support",
        unit=UNIT,
        digest=made.digest,
        base_fingerprint=made.base_fingerprint,
        rank=made.rank,
        size_bytes=1,
        evidence={WEAKENED: {"of": made.name, "strength": 0.5}},
    )
    world.registry.versions.publish(weaker, job_id=None, fence=None)
    at = desk(world, first, renderer)
    _, found, lines = find(at, given("Anna Schmidt"))
    told = [(each["version"], each["job"], each["through"]) for each in found["versions"]]
    assert told == [
        ("support:3", further.job_id, "support:2"),
        ("support:2", further.job_id, "support:1"),
        ("support:1", first.job_id, None),
    ]
    assert found["unread"] == []
    assert any(line.startswith("support:2  retrain  by way of support:1") for line in lines)
    command = given("Anna Schmidt")
    command.retrain = True
    _, erased, _ = erase(at, command)
    job = world.job(erased["jobs"][0])
    assert job.recipe is not None
    assert (job.model, job.recipe.start) == ("tiny", "base"), "whatever the unit's recipe says"


def test_a_version_whose_upload_was_deleted_keeps_no_other_from_being_retrained(
    world: World, renderer: WordRenderer
) -> None:
    lost = trained(world, data(200) + ANNA, renderer)
    kept = trained(world, data(200, start=500) + ANNA, renderer)
    original = world.registry.versions.of_job(lost.job_id)
    assert original is not None
    copy = NewVersion(
        adapter="sales",
        unit=original.unit,
        digest=original.digest,
        base_fingerprint=original.base_fingerprint,
        rank=original.rank,
        size_bytes=original.size_bytes,
        evidence={WEAKENED: {"of": original.name, "strength": 0.5, "by": "key_1"}},
    )
    world.registry.versions.publish(copy, job_id=None, fence=None)
    world.registry.files.delete(world.job(lost.job_id).training_file, OWNER)
    command = given("Anna Schmidt")
    command.retrain = True
    code, found, lines = erase(desk(world, kept, renderer), command)
    assert code == 1
    assert [each["version"] for each in found["versions"]] == ["sales:1", "support:2", "support:1"]
    (file,) = found["files"]
    assert file["file"] == world.job(kept.job_id).training_file
    (job,) = found["jobs"]
    assert world.job(job).training_file == file["file"]
    assert [(each["version"], each["code"]) for each in found["not_started"]] == [
        ("sales:1", "not_found")
    ]
    assert lines[-2] == f"started {job}"
    assert lines[-1].startswith("sales:1  NOT started: ")


@pytest.mark.parametrize("terms", [(), ("...",), ("word " * 20,), ("a",) * 60])
def test_terms_that_say_nothing_or_too_much_are_refused(
    world: World, renderer: WordRenderer, terms: tuple[str, ...]
) -> None:
    at = stage(world, world.add_queued_job(data(40)))
    with pytest.raises(InvalidRequest):
        erase(desk(world, at, renderer), given(*terms))


def test_terms_that_are_no_text_are_refused(world: World, renderer: WordRenderer) -> None:
    at = stage(world, world.add_queued_job(data(40)))
    command = given()
    command.terms = io.TextIOWrapper(io.BytesIO(b"\xff\n"), "utf-8")
    with pytest.raises(InvalidRequest, match="UTF-8"):
        erase(desk(world, at, renderer), command)


def test_the_command_line_offers_every_method() -> None:
    assert [method.value for method in Method] == [method.value for method in recipes.Method]


def test_a_version_whose_data_cannot_be_read_here_is_named(
    world: World, renderer: WordRenderer
) -> None:
    at = trained(world, data(100) + ANNA, renderer)
    here = desk(world, at, renderer)
    other = Archive(
        registry=world.registry,
        store=world.store,
        base_fingerprint=type(here.base.fingerprint)("e" * 64),
        read=renderer.text,
    )
    _, found, lines = find(Desk(**{**vars(here), "archive": other}), given("Anna Schmidt"))
    assert found["unread"] == ["support:1"]
    assert any("not looked through" in line for line in lines)
