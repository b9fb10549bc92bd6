"""The demo's own parts: what it deletes, what it notes, what it judges."""

from __future__ import annotations

import json
import os
import time
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from openai.types.fine_tuning import FineTuningJobEvent
from rich.console import Console

from adapters.errors import Conflict
from adapters.settings import Settings
from adapters.state_folder import StateFolder
from examples.demo.callers import Callers, references
from examples.demo.data import FEW, WHOLE, Example, held_out, lines_of, portion_for
from examples.demo.house import (
    MARKER,
    DemoFailed,
    House,
    choose_port,
    environment_for,
    fresh_folder,
)
from examples.demo.lessons import BEGUN, STILL_SECONDS, Lesson, check_news, start_job, watch
from examples.demo.script import PACE_IN_TRAINING, QUESTIONS, pace_in_training
from examples.demo.verdict import Call, Flip, Reference, judge
from service.cli.client import Client
from service.launch.child_process import Process, ProcessSpec
from service.launch.supervisor import STARTING_AGAIN
from tests.service.world import World, free_port
from tests.simulation.engine import BASE

SURE = 5.0


def known(*texts: str, margin: float = SURE) -> Reference:
    return Reference(texts=frozenset(texts), margin=margin)


KNOWN = {
    "support:1": [known("one", "one."), known("same"), known("a", "both")],
    "support:2": [known("ONE", "ONE."), known("SAME"), known("b", "both")],
}


def call(**changes: Any) -> Call:
    values: dict[str, Any] = {
        "question": 0,
        "streamed": True,
        "names": frozenset({"support:1"}),
        "text": "one",
        "finish": "stop",
        "error": None,
        "started": 10.0,
        "ended": 11.0,
    }
    return Call(**{**values, **changes})


def test_right_answers_are_a_clean_verdict() -> None:
    found = judge([call(), call(names=frozenset({"support:2"}), text="ONE")], KNOWN, [])
    assert found.clean
    assert judge([call(text="one."), call()], KNOWN, []).clean, "as another batch rounds it"
    assert (found.requests, found.by_version) == (2, {"support:1": 1, "support:2": 1})


@pytest.mark.parametrize(
    ("changes", "kind"),
    [
        ({"error": "APIConnectionError", "names": frozenset()}, "failures"),
        ({"finish": None}, "truncated"),
        ({"finish": "abort"}, "truncated"),
        ({"names": frozenset({"support:1", "support:2"})}, "mixed"),
        ({"text": "onE"}, "mixed"),
        ({"text": ""}, "mixed"),
        ({"text": "ONE"}, "misnamed"),
        ({"text": "ONE."}, "misnamed"),
        ({"names": frozenset({"support:3"})}, "misnamed"),
        ({"names": frozenset({"support"})}, "misnamed"),
    ],
)
def test_each_kind_of_wrong_answer_is_counted_as_itself(changes: dict[str, Any], kind: str) -> None:
    found = judge([call(), call(**changes)], KNOWN, [])
    kinds = ("failures", "truncated", "mixed", "misnamed", "stale")
    assert {name: getattr(found, name) for name in kinds if getattr(found, name)} == {kind: 1}
    assert not found.clean


def test_a_question_that_two_versions_may_answer_alike_is_not_used() -> None:
    both = [call(question=2, text=text) for text in ("a", "both", "b", "else")]
    found = judge([call(), *both], KNOWN, [])
    assert (found.alike, found.mixed, found.misnamed, found.clean) == (4, 0, 0, True)
    assert not judge(both, KNOWN, []).clean, "nothing was judged"
    assert judge([call(question=2, finish=None)], KNOWN, []).truncated == 1


UNSURE = {
    "support:1": [known("one", margin=0.001)],
    "support:2": [known("ONE", margin=0.001)],
}


def test_a_text_beside_a_coin_edge_is_not_judged_but_counted() -> None:
    found = judge([call(text="other"), *[call()] * 9], UNSURE, [])
    assert (found.ties, found.mixed, found.clean) == (1, 0, True)


def test_another_versions_text_is_wrong_beside_a_coin_edge_too() -> None:
    found = judge([call(text="ONE"), *[call()] * 9], UNSURE, [])
    assert (found.misnamed, found.ties, found.clean) == (1, 0, False)


def test_mostly_ties_prove_nothing() -> None:
    found = judge([*[call(text="other")] * 3, *[call()] * 9], UNSURE, [])
    assert (found.ties, found.clean) == (3, False)


FLIPS = [
    Flip(version="support:1", begun=0.0, complete=1.0),
    Flip(version="support:2", begun=20.0, complete=21.0),
]


@pytest.mark.parametrize(
    ("started", "ended", "version", "stale"),
    [
        (10.0, 11.0, "support:1", 0),
        (10.0, 11.0, "support:2", 1),
        (10.0, 20.5, "support:2", 0),
        (20.5, 22.0, "support:1", 0),
        (21.5, 22.0, "support:1", 1),
        (21.5, 22.0, "support:2", 0),
        (0.5, 30.0, "support:1", 0),
    ],
)
def test_only_what_was_asked_after_a_complete_flip_can_be_stale(
    started: float, ended: float, version: str, stale: int
) -> None:
    one = call(started=started, ended=ended, names=frozenset({version}), text="same", question=1)
    assert judge([one], KNOWN, FLIPS).stale == stale


def heard(version: str, started: float) -> Call:
    names = frozenset({version})
    text = "same" if version == "support:1" else "SAME"
    return call(started=started, ended=started + 1, names=names, text=text, question=1)


def test_a_flip_that_nobody_saw_is_counted_and_no_fault() -> None:
    seen = judge([heard("support:1", 10.0), heard("support:2", 30.0)], KNOWN, FLIPS)
    assert (seen.unheard, seen.clean) == (0, True)
    for calls in (
        [heard("support:1", 10.0)],
        [heard("support:2", 30.0)],
        [heard("support:1", 19.5), heard("support:2", 20.5), heard("support:2", 30.0)],
    ):
        found = judge(calls, KNOWN, FLIPS)
        assert (found.unheard, found.stale, found.clean) == (1, 0, True)


def test_no_calls_prove_nothing() -> None:
    assert not judge([], KNOWN, []).clean


@given(st.lists(st.sampled_from(["one", "ONE", "cut", ""]), max_size=30))
def test_every_call_is_judged_once(texts: list[str]) -> None:
    found = judge([call(text=text) for text in texts], KNOWN, [])
    wrong = sum(text != "one" for text in texts)
    assert found.mixed + found.misnamed == wrong
    assert found.requests == len(texts)


def test_a_folder_of_somebody_else_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "precious").write_text("x")
    with pytest.raises(Conflict, match="--state"):
        fresh_folder(tmp_path)
    assert (tmp_path / "precious").read_text() == "x"


def test_an_earlier_demo_makes_room(tmp_path: Path) -> None:
    folder = fresh_folder(tmp_path / "demo").root
    (folder / "registry.sqlite3").write_text("old")
    assert [path.name for path in fresh_folder(folder).root.iterdir()] == [MARKER]


def test_a_demo_that_still_runs_is_not_deleted(tmp_path: Path) -> None:
    state = fresh_folder(tmp_path / "demo")
    (state.root / "registry.sqlite3").write_text("used")
    with state.lock("up"), pytest.raises(Conflict, match="another `wardrobe up`"):
        fresh_folder(state.root)
    assert (state.root / "registry.sqlite3").exists()


def test_limits_that_nobody_has_set_are_left_to_follow_from_the_base(tmp_path: Path) -> None:
    settings = Settings(max_loras=3).model_copy(update={"state": tmp_path, "port": 1234})
    environment = environment_for(settings)
    assert environment["WARDROBE_STATE"] == str(tmp_path)
    assert (environment["WARDROBE_PORT"], environment["WARDROBE_MAX_LORAS"]) == ("1234", "3")
    assert not {"WARDROBE_MAX_MODEL_LEN", "WARDROBE_KV_CACHE_GIB"} & environment.keys()


def test_a_taken_port_is_replaced_by_a_free_one(world: World) -> None:
    taken = world.settings.port
    assert choose_port(Settings(port=taken)) != taken
    free = free_port()
    assert choose_port(Settings(port=free)) == free


def test_another_services_readiness_on_our_port_is_not_ours(world: World, tmp_path: Path) -> None:
    waiting = ProcessSpec(
        name="up", command=["sleep", "30"], environment=dict(os.environ), log=tmp_path / "up.log"
    )
    house = House(folder=StateFolder(tmp_path), url=world.url, process=Process.start(waiting))
    ticks = 0

    def tick() -> None:
        nonlocal ticks
        ticks += 1
        if ticks == 3:  # what our own service does once it runs
            house.folder.keys.write_text("{}")

    try:
        house.wait_until_ready(tick)
    finally:
        house.process.kill()
    assert ticks == 3


def waiting_house(folder: Path, words: list[str], url: str) -> House:
    log = folder / "up.log"
    spec = ProcessSpec(name="up", command=words, environment=dict(os.environ), log=log)
    return House(folder=StateFolder(folder), url=url, process=Process.start(spec))


def test_a_slow_start_is_waited_for_as_long_as_its_logs_grow(world: World, tmp_path: Path) -> None:
    chatty = "for i in $(seq 14); do echo loading; sleep 0.5; done; echo {} > keys.json"
    words = ["sh", "-c", f"cd {tmp_path}; {chatty}; sleep 60"]
    house = waiting_house(tmp_path, words, world.url)
    try:
        house.wait_until_ready(lambda: None, still_seconds=6.0)
    finally:
        house.process.kill()
    assert house.folder.keys.is_file()


def test_a_start_without_a_word_is_given_up(world: World, tmp_path: Path) -> None:
    house = waiting_house(tmp_path, ["sh", "-c", "echo begun; sleep 60"], world.url)
    try:
        with pytest.raises(DemoFailed, match=r"did not start:\n  begun"):
            house.wait_until_ready(lambda: None, still_seconds=0.5)
    finally:
        house.process.kill()


def test_a_service_that_ends_again_and_again_is_given_up(world: World, tmp_path: Path) -> None:
    line = f"wardrobe: service ended with exit code 1; {STARTING_AGAIN} in 1 s"
    words = ["sh", "-c", f"while :; do echo '{line}'; sleep 0.05; done"]
    house = waiting_house(tmp_path, words, world.url)
    try:
        with pytest.raises(DemoFailed, match="did not start"):
            house.wait_until_ready(lambda: None)
    finally:
        house.process.kill()


def test_the_second_edition_changes_every_answer_and_no_question() -> None:
    for portion in (FEW, WHOLE):
        editions = [lines_of("support", "valid", portion, edition=each) for each in (1, 2)]
        for first, second in zip(*(said.splitlines() for said in editions), strict=True):
            *asked, answer = json.loads(first)["messages"]
            *asked_again, other = json.loads(second)["messages"]
            assert asked_again == asked
            assert other["content"] != answer["content"]
            assert other["content"].lower() == answer["content"].lower()


@pytest.mark.parametrize("unit", ["hr", "sales", "support"])
def test_a_base_that_speaks_learns_a_part_of_a_units_work_from_few_lines(unit: str) -> None:
    assert portion_for(2_000_000) == WHOLE
    assert portion_for(135_000_000) == FEW
    assert FEW.n_epochs is None
    taught = set()
    assert FEW.answers is not None
    for split, count in (("train", FEW.train), ("valid", FEW.valid)):
        lines = lines_of(unit, split, FEW, edition=1).splitlines()
        assert len(lines) == count
        times = Counter(json.loads(line)["messages"][-1]["content"] for line in lines)
        assert max(times.values()) - min(times.values()) <= 1, "no answer is right for most"
        taught.add(frozenset(json.loads(line)["messages"][-1]["content"] for line in lines))
    answers = taught.pop()
    assert not taught, "what is measured is what was taught"
    assert len(answers) == FEW.answers
    asked = held_out(unit, FEW)
    assert len(asked) >= QUESTIONS
    assert {each.answer for each in asked} <= answers


@pytest.mark.parametrize("unit", ["hr", "sales", "support"])
def test_a_base_that_knows_nothing_learns_all_of_a_units_lines(unit: str) -> None:
    for split in ("train", "valid"):
        whole = Path(f"examples/data/{unit}/{split}.jsonl").read_bytes()
        assert lines_of(unit, split, WHOLE, edition=1) == whole


def test_callers_leave_a_slow_machine_to_its_trainer() -> None:
    assert pace_in_training(0.01) == PACE_IN_TRAINING
    assert pace_in_training(1.5) == pytest.approx(80.0)


def test_what_a_job_will_take_is_told_before_its_first_step() -> None:
    lesson = Lesson("hr", "ftjob-1", client=None, bar=0)  # type: ignore[arg-type]
    begun = event(1).model_copy(update={"message": BEGUN})
    told = []
    for each in (event(0), begun, event(2)):
        lesson.hear(each)
        told.append(lesson.is_worth_a_line(each))
    assert told == [False, False, True]
    lesson.hear(event(3, step=1, total_steps=80, train_loss=1.5))
    assert not lesson.is_worth_a_line(event(4))
    assert lesson.is_worth_a_line(event(5).model_copy(update={"level": "warn"}))


def test_a_bar_tells_step_losses_and_keeps_the_last_validation_loss() -> None:
    lesson = Lesson("hr", "ftjob-1", client=None, bar=0)  # type: ignore[arg-type]
    assert lesson.said() == "waiting"
    lesson.status = "queued"
    assert lesson.said() == "queued: the trainer does one job at a time"
    lesson.status = "running"
    lesson.hear(event(1, step=5, total_steps=80, train_loss=1.5, full_valid_loss=1.75))
    lesson.hear(event(2, step=6, total_steps=80, train_loss=1.25))
    lesson.hear(event(3))
    assert lesson.said() == "step 6/80  loss 1.25  validation 1.75"
    assert lesson.last_event == "ftevent-3"
    lesson.hear(event(4, step=80, total_steps=80, train_loss=1.0))
    assert lesson.said() == "a message"


def started_job(world: World, client: Client) -> str:
    line = {"messages": [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]}
    file = client.openai.files.create(
        file=("x.jsonl", json.dumps(line).encode()), purpose="fine-tune"
    )
    return client.openai.fine_tuning.jobs.create(model=BASE, training_file=file.id).id


def test_a_job_that_no_trainer_begins_ends_the_wait_with_words(world: World) -> None:
    with Client(world.url, world.key("support")) as client:
        jobs = {"support": (client, started_job(world, client))}
        with pytest.raises(DemoFailed, match="no trainer has begun the jobs of support"):
            watch(Console(quiet=True), jobs, check=lambda: None, start_seconds=0.1)


def test_the_second_version_is_the_first_one_trained_further(world: World) -> None:
    first = world.publish("support")
    with Client(world.url, world.key("support")) as client:
        plain = start_job(client, "support", FEW)
        further = start_job(client, "support", FEW, edition=2, further=first.name)
        jobs = [client.openai.fine_tuning.jobs.retrieve(each) for each in (plain, further)]
    epochs = [job.hyperparameters.n_epochs for job in jobs]
    assert [job.model for job in jobs] == [BASE, "support:1"]
    assert epochs == ["auto", FEW.further_epochs]


def test_jobs_may_take_as_long_as_they_like_while_there_is_news() -> None:
    lessons = [Lesson(unit, "ftjob-1", client=None, bar=0) for unit in ("hr", "sales")]  # type: ignore[arg-type]
    lessons[0].status = "running"
    check_news(lessons, STILL_SECONDS - 1.0, 0.1)
    with pytest.raises(DemoFailed, match="nothing was heard of the jobs of hr, sales"):
        check_news(lessons, STILL_SECONDS + 1.0, 0.1)


def test_a_house_is_closed_even_where_a_shell_has_interrupts_ignored(tmp_path: Path) -> None:
    words = ["sh", "-c", "trap '' INT; trap 'exit 0' TERM; echo up; while :; do sleep 0.05; done"]
    log = tmp_path / "up.log"
    spec = ProcessSpec(name="up", command=words, environment=dict(os.environ), log=log)
    house = House(folder=StateFolder(tmp_path), url="", process=Process.start(spec))
    while "up" not in log.read_text():
        time.sleep(0.02)
    assert house.close() == frozenset()


def test_a_house_that_has_died_ends_the_wait_with_its_last_words(
    world: World, tmp_path: Path
) -> None:
    words = ["sh", "-c", "echo it broke; exit 3"]
    spec = ProcessSpec(
        name="up", command=words, environment=dict(os.environ), log=tmp_path / "up.log"
    )
    house = House(folder=StateFolder(tmp_path), url=world.url, process=Process.start(spec))
    house.process.wait(10)
    with Client(world.url, world.key("support")) as client:
        jobs = {"support": (client, started_job(world, client))}
        with pytest.raises(DemoFailed, match=r"ended with 3:\n  it broke"):
            watch(Console(quiet=True), jobs, check=house.check)


def event(number: int, **data: float) -> FineTuningJobEvent:
    return FineTuningJobEvent(
        id=f"ftevent-{number}",
        object="fine_tuning.job.event",
        created_at=0,
        level="info",
        message="a message",
        type="metrics" if data else "message",
        data=data or None,
    )


def test_eight_callers_see_clean_swaps_through_a_real_service(world: World) -> None:
    for _ in range(2):
        world.publish("support")
    examples = [Example(({"role": "user", "content": f"question {n}"},), "") for n in range(3)]
    with Client(world.url, world.key("support")) as client:
        client.promote("support", "1")
        callers = Callers(client, "support", examples, count=8, pace=0.01)
        flips = []
        with callers.calling():
            for turn in range(6):
                before = len(callers.calls)
                version = f"support:{turn % 2 + 1}"
                rollout = client.promote("support", version)
                assert rollout["state"] == "complete"
                while len(callers.calls) < before + 24:
                    pass
                flips.append(version)
        answers = {
            name: [known(f"answer of {name}") for _ in examples]
            for name in ("support:1", "support:2")
        }
        found = judge(callers.calls, answers, [])
    assert found.clean, found
    assert set(found.by_version) == {"support:1", "support:2"}
    assert {one.streamed for one in callers.calls} == {True, False}


def test_a_new_pace_is_noticed_by_who_still_thinks(world: World) -> None:
    world.publish("support")
    example = Example(({"role": "user", "content": "hello"},), "")
    with Client(world.url, world.key("support")) as client:
        client.promote("support", "1")
        callers = Callers(client, "support", [example], count=1, pace=3600.0)
        with callers.calling():
            assert not callers.calls
            callers.pace = 0.01
            while not callers.calls:
                time.sleep(0.01)


def test_calls_that_fail_are_noted_and_not_repeated(world: World) -> None:
    example = Example(({"role": "user", "content": "hello"},), "")
    with Client(world.url, world.key("support")) as client:
        callers = Callers(client, "support", [example], count=2, pace=0.01)
        with callers.calling():
            while len(callers.calls) < 10:
                pass
    found = judge(callers.calls, KNOWN, [])
    assert found.failures == found.requests >= 10


def test_references_are_asked_of_the_version_itself(world: World) -> None:
    world.publish("support")
    example = Example(({"role": "user", "content": "hello"},), "")
    with Client(world.url, world.key("support")) as client:
        (found,) = references(client, "support:1", [example], at_once=3)
    assert found.texts == {"answer of support:1"}


def test_only_answers_asked_for_after_a_moment_are_waited_for(world: World) -> None:
    world.publish("support")
    example = Example(({"role": "user", "content": "hello"},), "")
    with Client(world.url, world.key("support")) as client:
        client.promote("support", "1")
        callers = Callers(client, "support", [example], count=2, pace=0.01)
        with callers.calling():
            while callers.answered(since=0.0) < 4:
                time.sleep(0.01)
            since = time.monotonic()
            assert callers.answered(since=since) == 0
            while callers.answered(since=since) < 4:
                time.sleep(0.01)
    assert callers.answered(since=0.0) == len(callers.calls) >= 8
