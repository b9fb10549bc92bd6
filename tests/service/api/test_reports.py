"""A version's report over HTTP."""

from __future__ import annotations

import json

import pytest

from adapters.domain.datasets import Part
from adapters.domain.evaluations import NewEvaluation, Scorer
from adapters.domain.macro_f1 import LabelScore
from adapters.domain.names import Unit
from adapters.domain.versions import Version
from adapters.registry.ports import NewVersion
from service.report.facts import collect
from tests.service.world import FINGERPRINT, World

PATH = "/v1/adapters/support/versions/1/report"
ROWS = {f"row-{at}": float(at % 2) for at in range(8)}


@pytest.fixture
def version(world: World) -> Version:
    """With scores beside the base's, and a test part that is kept."""
    plain = world.publish("support")
    folder = world.settings.state / "made" / "dataset"
    folder.mkdir(parents=True)
    (folder / "dataset.json").write_text("{}")
    with (folder / "test.jsonl").open("w") as file:
        for at, row in enumerate(ROWS):
            prompt = [{"role": "user", "content": f"secret <b>question</b> {at}"}]
            said = {"row": row, "prompt": prompt, "reference": f"secret answer {at // 4}"}
            file.write(json.dumps(said) + "\n")
    dataset = world.runtime.store.publish_dataset(folder)
    new = NewVersion(
        adapter="hr",
        unit=Unit("hr"),
        digest=plain.digest,
        base_fingerprint=FINGERPRINT,
        rank=8,
        size_bytes=1,
        evidence={"data": {"dataset": dataset}},
    )
    tested = world.runtime.registry.versions.publish(new, job_id=None, fence=None)
    for subject, scores in (("base", dict.fromkeys(ROWS, 0.0)), (tested.name, ROWS)):
        for scorer in (Scorer.EXACT_MATCH, Scorer.TOKEN_F1):
            world.runtime.registry.evaluations.add(
                [
                    NewEvaluation(
                        unit=Unit("hr"),
                        adapter="hr",
                        subject=subject,
                        version_id=None if subject == "base" else tested.id,
                        base_fingerprint=FINGERPRINT,
                        dataset=dataset,
                        part=Part.TEST,
                        scorer=scorer,
                        seed=0,
                        conditions={},
                        scores=scores,
                    )
                ],
                job_id=None,
                fence=None,
            )
    return tested


def test_the_report_is_a_page_that_may_fetch_and_run_nothing(world: World) -> None:
    world.publish("support")
    answer = world.http("support").get(PATH)
    assert answer.status_code == 200
    assert answer.headers["content-type"] == "text/html; charset=utf-8"
    assert "default-src 'none'" in answer.headers["content-security-policy"]
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert "Version support:1" in answer.text
    assert "It has not been judged yet." in answer.text


def test_another_unit_sees_no_report(world: World) -> None:
    world.publish("support")
    assert world.http("hr").get(PATH).status_code == 404
    assert world.http("admin").get(PATH).status_code == 200
    assert world.http("admin").get(PATH.replace("1/", "9/")).status_code == 404
    assert world.http(None).get(PATH).status_code == 401


def test_numbers_are_for_readers_and_texts_for_those_who_may_read_content(
    world: World, version: Version
) -> None:
    runtime = world.runtime
    full, bare = (
        collect(version, registry=runtime.registry, store=runtime.store, content=content)
        for content in (True, False)
    )
    assert full.means == {
        scorer: {"base": 0.0, "hr:1": 0.5} for scorer in ("exact_match", "token_f1")
    }
    assert [(each.name, each.examples, each.shares) for each in full.labels] == [
        (f"secret answer {at}", 4, {"base": 0.0, "hr:1": 0.5}) for at in (0, 1)
    ]
    assert full.worst is not None
    assert len(full.worst) == 4
    assert full.worst[0].prompt == "user: secret <b>question</b> 0"
    assert [each.name for each in bare.labels] == ["answer 1", "answer 2"]
    assert bare.worst is None
    assert "secret" not in repr(bare)


def test_labels_come_with_precision_recall_and_f1_where_labels_are_scored(
    world: World, version: Version
) -> None:
    """The version says the first label always: it is right four times, and four times wrong."""
    wanted = {row: float(at // 4) for at, row in enumerate(ROWS)}
    kept = (version.evidence or {})["data"]
    others = {row: 1.0 - label for row, label in wanted.items()}  # numbered otherwise
    for subject, scorer, scores, numbers in (
        ("base", Scorer.LABEL, dict.fromkeys(ROWS, -1.0), "one"),
        ("base", Scorer.WANTED, wanted, "one"),
        (version.name, Scorer.LABEL, others, "other"),
        (version.name, Scorer.WANTED, others, "other"),
        (version.name, Scorer.LABEL, dict.fromkeys(ROWS, 0.0), "one"),
        (version.name, Scorer.WANTED, wanted, "one"),
    ):
        new = NewEvaluation(
            unit=Unit("hr"),
            adapter="hr",
            subject=subject,
            version_id=None if subject == "base" else version.id,
            base_fingerprint=FINGERPRINT,
            dataset=kept["dataset"],
            part=Part.TEST,
            scorer=scorer,
            seed=0,
            conditions={"labels": numbers},
            scores=scores,
        )
        world.runtime.registry.evaluations.add([new], job_id=None, fence=None)
    runtime = world.runtime
    report = collect(version, registry=runtime.registry, store=runtime.store, content=True)
    told = {each.name: each.told for each in report.labels}
    never = LabelScore(examples=4, precision=None, recall=0.0, f1=0.0)
    always = LabelScore(examples=4, precision=0.5, recall=1.0, f1=2 / 3)
    assert told == {
        "secret answer 0": {"base": never, version.name: always},
        "secret answer 1": {"base": never, version.name: never},
    }
    page = world.http("hr").get(f"/v1/adapters/hr/versions/{version.number}/report").text
    assert "How well labels are told from each other" in page
    assert "<td>never said</td><td>0%</td><td>0.00</td>" in page.replace("\n", "")
    assert "<td>50%</td><td>100%</td><td>0.67</td>" in page.replace("\n", "")


def test_only_a_key_with_the_scope_sees_examples(world: World, version: Version) -> None:
    path = f"/v1/adapters/hr/versions/{version.number}/report"
    body = {"name": "reader", "unit": "hr", "scopes": ["read"]}
    made = world.http("admin").post("/v1/keys", json=body)
    assert made.status_code == 200, made.text
    bearer = {"Authorization": f"Bearer {made.json()['secret']}"}
    reader = world.http(None).get(path, headers=bearer)
    assert reader.status_code == 200
    assert "secret" not in reader.text
    assert "Shown to keys that may read content." in reader.text
    assert "secret &lt;b&gt;question&lt;/b&gt; 0" in world.http("hr").get(path).text
