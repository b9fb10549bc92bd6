"""The benchmark of swaps on the simulated engine, whose versions each give a text of their own."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

from benchmarks.stand import ALIAS
from benchmarks.swaps import Costumes, Shape, measure, put_live, told, which_tell_apart
from examples.demo.data import Example
from examples.demo.verdict import Reference
from service.cli.client import Client
from tests.simulation.cluster import ADMIN_KEY, Cluster, cluster

SHAPE = Shape(seconds=2.0, blocks=2, clients=4)
QUESTIONS = [Example(({"role": "user", "content": f"Question {number}"},), "") for number in (1, 2)]


@pytest.fixture
def house(tmp_path: Path) -> Iterator[Cluster]:
    with cluster(tmp_path, replicas=1, aliases=(ALIAS,)) as house:
        house.replicas[0].wait_ready()
        yield house


def said(text: str, *, margin: float = 5.0) -> Reference:
    return Reference(texts=frozenset({text}), margin=margin)


def swapped(house: Cluster, known: Mapping[str, str]) -> dict[str, object]:
    """What the benchmark tells of versions that should answer as `known` says."""
    costumes = Costumes(
        questions=QUESTIONS,
        known={name: [said(text)] * len(QUESTIONS) for name, text in known.items()},
    )
    with Client(house.replicas[0].url, ADMIN_KEY) as client:
        put_live(client, next(iter(known)))
        return told(measure(client, costumes, SHAPE))


@pytest.mark.slow
def test_versions_that_are_swapped_under_callers_answer_as_themselves(house: Cluster) -> None:
    one, two = house.publish_many(ALIAS, 2)
    found = swapped(house, {one: house.texts[one], two: house.texts[two]})
    assert found["clean"], found
    assert int(str(found["swaps"])) > 4
    assert set(found["verdict"]["by_version"]) == {one, two}  # type: ignore[index]


@pytest.mark.slow
def test_a_version_that_answers_with_anothers_text_is_no_clean_result(house: Cluster) -> None:
    one, two = house.publish_many(ALIAS, 2)
    found = swapped(house, {one: house.texts[two], two: house.texts[one]})
    assert not found["clean"]
    assert found["verdict"]["misnamed"] > 0  # type: ignore[index]


def test_questions_tell_versions_apart_where_no_text_is_two_versions_and_all_are_sure() -> None:
    known = {
        "support:1": [said("a"), said("b"), said("same"), said("c", margin=9.0)],
        "support:2": [said("d"), said("e", margin=0.1), said("same"), said("f", margin=8.0)],
    }
    assert which_tell_apart(known) == [3, 0]
