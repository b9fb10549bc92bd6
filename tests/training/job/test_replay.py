"""Rows that the base has answered itself, mixed in against forgetting."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import pytest

from adapters.domain.jobs import JobStatus
from adapters.domain.recipes import Recipe
from adapters.errors import Rejected
from tests.training.job.stage import Stage, stage
from tests.training.job.test_pipeline import error_of, run, versions
from tests.training.world import World, data, write_unit
from training.data.questions import Question
from training.data.render import Rendered
from training.evaluate.answers import Answer
from training.job.progress import Reporter
from training.job.replay import AT_ONCE, CUT, Joined, Replay, make_replay, replayed
from training.job.replay_prompts import replay_prompts
from training.stopping import Stopped

RECIPE = Recipe(replay=0.5)


@dataclass
class Base:
    """Says a few words to whatever it is asked."""

    says: str = "a few words of the base"
    cut: bool = False
    stops_at: int = 10**6
    """Prompts after which it is asked to stop."""
    asked: list[str] = field(default_factory=list)

    def ask(self, model: str, questions: Sequence[Question]) -> list[Answer]:
        assert model == "tiny"
        if len(self.asked) >= self.stops_at:
            raise Stopped
        self.asked += [question.prompt[0].content for question in questions]
        return [Answer(text=self.says, cut=self.cut) for _ in questions]


@pytest.fixture
def at(world: World) -> Stage:
    return stage(world, world.add_queued_job(data(40), data(24, start=100)))


def made(at: Stage, base: Base, rows: int = 40) -> Replay:
    context = at.with_context(answers=base).context
    reporter = Reporter(at.world.registry.jobs, at.job_id, at.fence)
    return make_replay(context, RECIPE, rows, reporter)


def test_a_share_is_of_all_rows_and_no_more_than_there_are_prompts() -> None:
    assert replayed(0.2, 80) == 20
    assert replayed(0.0, 80) == 0
    assert replayed(0.5, 10**6) == len(replay_prompts())


def test_prompts_are_many_all_different_and_mixed_from_the_beginning() -> None:
    prompts = replay_prompts()
    assert len(set(prompts)) == len(prompts) == 1024
    assert len({prompt.split()[0] for prompt in prompts[:32]}) > 6


def test_the_base_is_asked_and_its_answers_are_rows_behind_their_prompts(at: Stage) -> None:
    base = Base()
    replay = made(at, base)
    assert base.asked == list(replay_prompts()[:40])
    assert len(replay.rows) == 40
    words = len(base.asked[0].split())
    assert replay.rows[0].learn == (False,) * words + (True,) * 6


def test_of_an_answer_that_was_cut_its_end_is_not_learnt(at: Stage) -> None:
    whole, cut = made(at, Base()), None
    (at.context.workdir / "replay.jsonl").unlink()
    cut = made(at, Base(cut=True))
    assert cut.rows[0].ids == whole.rows[0].ids[:-CUT]


def test_an_answer_without_words_is_no_row(at: Stage) -> None:
    assert made(at, Base(says="  ")).rows == []


def test_an_attempt_that_goes_on_asks_for_the_rest_and_trains_on_the_same_rows(at: Stage) -> None:
    first = Base(stops_at=AT_ONCE)
    with pytest.raises(Stopped):
        made(at, first)
    with (at.context.workdir / "replay.jsonl").open("a") as file:
        file.write('["torn')
    second = Base(says="something else")
    replay = made(at, second)
    assert second.asked == list(replay_prompts()[AT_ONCE:40])
    assert [sum(row.learn) for row in replay.rows] == [6] * AT_ONCE + [2] * 8
    assert made(at, Base(stops_at=0)) == replay


def test_a_job_trains_on_both_and_its_version_says_of_what(world: World) -> None:
    write_unit(world.units, recipe={"replay": 0.2})
    at = stage(world, world.add_queued_job(data(40), data(24, start=100)))
    at.service.base = lambda _question: "no idea"
    assert run(at).status is JobStatus.SUCCEEDED
    (task,) = at.fine_tuner.fine_tuned
    assert len(task.train) == 50
    (version,) = versions(world)
    assert version.evidence is not None
    assert version.evidence["data"]["replay"]["rows"] == 10
    assert version.evidence["data"]["train_examples"] == 40


def test_a_service_that_cannot_serve_the_base_fails_the_job_before_it_trains(
    world: World,
) -> None:
    write_unit(world.units, recipe={"replay": 0.2})
    at = stage(world, world.add_queued_job(data(40), data(24, start=100)))

    class Broken(Base):
        def ask(self, model: str, questions: Sequence[Question]) -> list[Answer]:
            raise Rejected("the service cannot serve tiny: it answers 500")

    code, _ = error_of(at.with_context(answers=Broken()))
    assert code == "engine_unavailable"
    assert at.fine_tuner.fine_tuned == []


def test_rows_of_two_sequences_are_counted_through() -> None:
    one, two, three = (Rendered(ids=(at,), learn=(True,)) for at in range(3))
    both = Joined([one], [two, three])
    assert (len(both), both[0], both[2], both[-1]) == (3, one, three, three)
    assert both[1:] == [two, three]
    with pytest.raises(IndexError):
        both[3]
