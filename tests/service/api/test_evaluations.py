"""What gates are computed from, over HTTP."""

from __future__ import annotations

from typing import Any

import pytest

from adapters.domain.datasets import Part
from adapters.domain.evaluations import NewEvaluation, Scorer
from adapters.domain.names import Unit
from adapters.domain.versions import Version
from tests.service.world import FINGERPRINT, World

PATH = "/v1/adapters/support/evaluations"


def evaluated(world: World, version: Version | None, scores: dict[str, float]) -> None:
    new = NewEvaluation(
        unit=Unit("support"),
        adapter="support",
        subject=version.name if version else "base",
        version_id=version.id if version else None,
        base_fingerprint=FINGERPRINT,
        dataset="d" * 64,
        part=Part.TEST,
        scorer=Scorer.TOKEN_F1,
        seed=0,
        conditions={"engine": "vllm 0", "slack": 8},
        scores=scores,
    )
    world.runtime.registry.evaluations.add([new], job_id=None, fence=None)


def listed(world: World, query: str = "", owner: str = "support") -> list[dict[str, Any]]:
    answer = world.http(owner).get(PATH + query)
    assert answer.status_code == 200, answer.text
    found: list[dict[str, Any]] = answer.json()["data"]
    return found


def test_evaluations_are_listed_newest_first_with_their_scores(world: World) -> None:
    version = world.publish("support")
    evaluated(world, None, {"row-1": 0.25, "row-2": 0.75})
    evaluated(world, version, {"row-1": 1.0})
    newest, base = listed(world)
    assert (newest["subject"], newest["examples"], newest["mean"]) == ("support:1", 1, 1.0)
    assert base["object"] == "adapter.evaluation"
    assert base["scores"] == {"row-1": 0.25, "row-2": 0.75}
    assert (base["mean"], base["scorer"], base["part"]) == (0.5, "token_f1", "test")
    assert base["conditions"] == {"engine": "vllm 0", "slack": 8}


@pytest.mark.parametrize(
    ("query", "subjects"),
    [
        ("?subject=base", ["base"]),
        ("?subject=1", ["support:1"]),
        ("?subject=support:1", ["support:1"]),
        ("?subject=7", []),
        ("?limit=1", ["support:1"]),
    ],
)
def test_a_subject_is_the_base_or_a_version(world: World, query: str, subjects: list[str]) -> None:
    evaluated(world, None, {"row-1": 0.25})
    evaluated(world, world.publish("support"), {"row-1": 1.0})
    assert [each["subject"] for each in listed(world, query)] == subjects


def test_what_is_no_subject_is_refused(world: World) -> None:
    assert world.http("support").get(f"{PATH}?subject=nonsense!").status_code == 400


def test_another_unit_sees_no_evaluations(world: World) -> None:
    evaluated(world, None, {"row-1": 0.25})
    assert world.http("hr").get(PATH).status_code == 404
    assert len(listed(world, owner="admin")) == 1
