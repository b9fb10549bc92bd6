"""What is asked, what is kept, and what is not asked twice."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import pytest

from adapters.domain.evaluations import Evaluation, Scorer
from adapters.domain.names import Digest, VersionId
from adapters.domain.principals import SYSTEM
from adapters.registry.ports import NewVersion
from tests.training.job.toy_replica import FINGERPRINT
from tests.training.world import UNIT, World
from training.data.examples import Message
from training.data.questions import Question
from training.evaluate.answers import Answer
from training.evaluate.exam import Exam, Subject
from training.evaluate.measure import MOST, Ends, Measurer, Writer

BASE = Subject(model="tiny", version_id=None)


def question(at: int) -> Question:
    return Question(
        row=f"row-{at}",
        prompt=(Message(role="user", content=f"secret question {at}"),),
        reference=f"secret answer {at}",
        max_tokens=9,
        ids=(1, 2, 3, 4),
        answer_start=2,
    )


def exam(rows: int, **changes: Any) -> Exam:
    values: dict[str, Any] = {
        "unit": UNIT,
        "adapter": "support",
        "base_fingerprint": FINGERPRINT,
        "dataset": "d" * 64,
        "questions": tuple(question(at) for at in range(rows)),
        "conditions": {"engine": "toy 1"},
        "context": 256,
    }
    return Exam(**(values | changes))


@dataclass
class Service:
    """Knows every answer and notes what it was asked."""

    asked: list[tuple[str, list[str]]] = field(default_factory=list)
    log_prob: float = -0.5

    def ask(self, model: str, questions: Sequence[Question]) -> list[Answer]:
        self.asked.append((model, [each.row for each in questions]))
        return [Answer(text=each.reference) for each in questions]

    def log_probs(self, model: str, questions: Sequence[Question]) -> list[list[float]]:
        self.asked.append((model, [each.row for each in questions]))
        return [[self.log_prob] * 2 for _ in questions]

    def top_log_probs(
        self, model: str, questions: Sequence[Question], top: int
    ) -> list[list[Mapping[int, float]]]:
        raise AssertionError("nobody asks for others than the reference's tokens here")


@pytest.fixture
def service() -> Service:
    return Service()


def measurer(world: World, service: Service, of: Exam) -> Measurer:
    return Measurer(of, answers=service, evaluations=world.registry.evaluations, writer=Writer())


def kept(world: World, scorer: Scorer) -> list[Evaluation]:
    page = world.registry.evaluations.list(
        SYSTEM, adapter="support", subject=None, after=None, limit=100
    )
    return [each for each in reversed(page.items) if each.scorer is scorer]


def a_version(world: World) -> Subject:
    new = NewVersion(
        adapter="support",
        unit=UNIT,
        digest=Digest("1" * 64),
        base_fingerprint=FINGERPRINT,
        rank=4,
        size_bytes=1,
        evidence={},
    )
    version = world.registry.versions.publish(new, job_id=None, fence=None)
    return Subject(model=version.name, version_id=VersionId(version.id))


def test_answers_become_scores_by_row_and_no_text_is_kept(world: World, service: Service) -> None:
    measurer(world, service, exam(3)).answers_of(BASE)
    (f1,) = kept(world, Scorer.TOKEN_F1)
    assert f1.scores == {"row-0": 1.0, "row-1": 1.0, "row-2": 1.0}
    assert (f1.subject, f1.version_id) == ("base", None)
    assert len(kept(world, Scorer.EXACT_MATCH)) == 1
    assert "secret" not in repr(f1)


def test_what_is_known_of_the_base_is_not_asked_again(world: World, service: Service) -> None:
    for _ in range(2):
        measured = measurer(world, service, exam(3))
        measured.answers_of(BASE)
        measured.log_probs_of(BASE)
    assert len(service.asked) == 2
    measurer(world, service, exam(5, dataset="e" * 64)).answers_of(BASE)
    assert service.asked[2:] == [("tiny", ["row-3", "row-4"])]
    assert [sorted(each.scores) for each in kept(world, Scorer.TOKEN_F1)] == [
        ["row-0", "row-1", "row-2"],
        ["row-3", "row-4"],
    ]


@pytest.mark.parametrize(
    "change",
    [{"conditions": {"engine": "toy 2"}}, {"base_fingerprint": Digest("c" * 64)}],
)
def test_what_was_measured_under_other_conditions_is_asked_anew(
    world: World, service: Service, change: dict[str, Any]
) -> None:
    measurer(world, service, exam(3)).answers_of(BASE)
    measurer(world, service, replace(exam(3), **change)).answers_of(BASE)
    assert len(service.asked) == 2


def test_a_version_that_is_evaluated_again_is_asked_although_its_answers_are_known(
    world: World, service: Service
) -> None:
    subject = a_version(world)
    for anew in (False, False, True):
        measured = measurer(world, service, exam(3))
        measured.answers_of(subject, anew=anew)
        measured.fidelity_of(subject, lambda asked: [[-0.5] * 2 for _ in asked], anew=anew)
    assert len(service.asked) == 4
    assert [each.subject for each in kept(world, Scorer.DRIFT)] == ["support:1"] * 2


def test_drift_is_the_mean_distance_a_token(world: World, service: Service) -> None:
    subject = a_version(world)
    measurer(world, service, exam(2)).fidelity_of(
        subject, lambda _asked: [[-0.25, -0.75], [-0.5, -0.5]]
    )
    (drift,), (nats,), (tokens,) = (
        kept(world, scorer) for scorer in (Scorer.DRIFT, Scorer.NATS, Scorer.TOKENS)
    )
    assert drift.scores == {"row-0": 0.25, "row-1": 0.0}
    assert nats.scores == {"row-0": 1.0, "row-1": 1.0}
    assert tokens.scores == {"row-0": 2.0, "row-1": 2.0}


@pytest.mark.parametrize("log_prob", [float("nan"), float("-inf")])
def test_what_is_no_number_is_kept_as_the_worst(
    world: World, service: Service, log_prob: float
) -> None:
    service.log_prob = log_prob
    measurer(world, service, exam(1)).fidelity_of(a_version(world), lambda _: [[-0.5] * 2])
    assert kept(world, Scorer.DRIFT)[0].scores == {"row-0": MOST}
    assert kept(world, Scorer.NATS)[0].scores == {"row-0": MOST}


def test_where_no_reference_can_be_scored_that_is_kept(world: World, service: Service) -> None:
    subject = a_version(world)
    measurer(world, service, exam(2, context=4)).fidelity_of(subject, lambda _asked: [])
    assert service.asked == []
    assert kept(world, Scorer.DRIFT)[0].scores == {}


@dataclass
class CutShort(Service):
    """Never ends within what it is allowed, and notes how much that is."""

    allowed: list[int] = field(default_factory=list)

    def ask(self, model: str, questions: Sequence[Question]) -> list[Answer]:
        self.allowed += [each.max_tokens for each in questions]
        return [Answer(text="on and on", cut=True) for _ in questions]


@pytest.mark.parametrize(("needs", "again"), [(9, 32), (300, 600)])
def test_a_cut_answer_is_asked_again_longer_than_its_reference_is(
    world: World, needs: int, again: int
) -> None:
    """Else an honest long answer that was cut once would be cut shorter still."""
    service = CutShort()
    asked = exam(1, context=4096)
    asked = replace(asked, questions=(replace(asked.questions[0], max_tokens=needs),))
    measurer(world, service, asked).answers_of(a_version(world), ends=Ends(tokens=32, examples=4))
    assert service.allowed == [needs, again]
    assert kept(world, Scorer.ENDED)[0].scores == {"row-0": 0.0}
