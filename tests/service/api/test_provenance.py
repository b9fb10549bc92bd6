"""Cards, bills of materials and lineage of a version that a job has made and callers have used."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml
from cyclonedx.schema import SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator

from adapters.domain.approvals import Verdict
from adapters.domain.gates import GateResult, Outcome, at_least
from adapters.domain.limits import Traffic
from adapters.domain.names import Alias, JobId, Unit
from adapters.domain.principals import SYSTEM, Principal, Role
from adapters.domain.units import CardWords
from adapters.domain.versions import IMPORT, WEAKENED, Version
from adapters.registry.ports import NewVersion, UsageKey, Used
from service.api.training_cost import training_cost
from service.api.whole_card import Known, whole_card
from service.cli.app import app
from service.cli.error_messages import run
from tests.adapters.admission.archives import an_archive
from tests.service.world import FINGERPRINT, World, running, write_units
from tests.simulation.engine import BASE
from tests.simulation.weights import write_adapter
from training.job.model_card import Card
from training.job.publish import environment

COLLEAGUE = Principal(id="key_colleague", role=Role.UNIT, unit=Unit("support"))
LINE = b'{"messages": [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]}\n'
EVIDENCE: dict[str, Any] = {
    "data": {"dataset": "d" * 64, "training": "e" * 64, "train_examples": 40, "test_examples": 24},
    "recipe": {"rank": 8, "seed": 17, "learning_rate": 0.001},
    "training": {"steps": 26, "device": {"micro_batch": 4}},
    "environment": environment(engine="vllm 0.32.0"),
    "base": {"name": "wardrobe-base", "fingerprint": FINGERPRINT},
}
WORDS = CardWords(intended_use="Answers | to customers", limits="No law.\nNo medicine.")


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    folder = tmp_path_factory.mktemp("provenance")
    said = yaml.safe_dump({"card": WORDS.model_dump()})
    write_units(folder / "units", {"support": said})
    with running(folder / "state", price_training=3.0, currency="eur") as made:
        _a_life(made)
        yield made


def _a_life(world: World) -> Version:
    """support:1: trained, judged, approved, promoted, used."""
    client, registry = world.client("support"), world.runtime.registry
    file = client.files.create(file=("x.jsonl", LINE * 12), purpose="fine-tune")
    job = client.fine_tuning.jobs.create(model=BASE, training_file=file.id)
    registry.jobs.accept(JobId(job.id), error=None)
    claimed = registry.jobs.claim(owner="t", lease_seconds=600)
    assert claimed is not None
    assert claimed.lease is not None
    fence = claimed.lease.fence
    registry.jobs.trained(claimed.id, fence=fence, tokens=500_000)
    folder = world.settings.state / "made" / "support-1"
    write_adapter(folder, "answer of support:1")
    card = Card(
        job_id=claimed.id,
        unit="support",
        adapter="support",
        base_name="wardrobe-base",
        base_fingerprint=FINGERPRINT,
        words=WORDS,
        evidence=EVIDENCE,
    )
    (folder / "README.md").write_text(card.text())
    new = NewVersion(
        adapter="support",
        unit=Unit("support"),
        digest=world.runtime.store.publish_adapter(folder),
        base_fingerprint=FINGERPRINT,
        rank=8,
        size_bytes=100,
        evidence=EVIDENCE,
    )
    version = registry.versions.publish(new, job_id=claimed.id, fence=fence)
    skipped = GateResult(
        gate="task", outcome=Outcome.SKIPPED, measured=0.0, bound=0.0, direction="at_least",
        detail="nothing is live | yet", against="live",
    )  # fmt: skip
    gates = [at_least("task", 0.53, 0.1, "of 24", against="base"), skipped]
    registry.versions.record_gates(version.id, gates, fence=fence, evidence={})
    registry.approvals.decide(version.id, Verdict.APPROVED, COLLEAGUE, reason="a | b\nread it")
    with world.http("support") as http:
        said = {"version": 1, "reason": "it is better"}
        promoted = http.post("/v1/adapters/support/promote", json=said)
        assert promoted.json()["state"] == "complete", promoted.text
    key = UsageKey(
        unit="support", alias="support", version="support:1", traffic=Traffic.INTERACTIVE
    )
    registry.usage.add("w", 1, [(key, Used(requests=3, prompt_tokens=30, completion_tokens=9))])
    other = key._replace(version="support:10")
    measured = key._replace(traffic=Traffic.EVALUATION)
    registry.usage.add("w", 2, [(other, Used(requests=7)), (measured, Used(requests=24))])
    return version


def fetch(world: World, what: str, version: str = "1") -> Any:
    with world.http("support") as http:
        return http.get(f"/v1/adapters/support/versions/{version}/{what}")


def test_a_card_has_hugging_faces_metadata_and_everything_known_since(world: World) -> None:
    answer = fetch(world, "card")
    assert answer.headers["content-type"].startswith("text/markdown")
    _, metadata, text = answer.text.split("---\n", 2)
    assert yaml.safe_load(metadata) == {
        "library_name": "peft",
        "pipeline_tag": "text-generation",
        "base_model": "wardrobe-base",
        "base_model_relation": "adapter",
        "license": "other",
        "datasets": [f"support/support-{'d' * 12}"],
        "tags": ["lora", "wardrobe"],
    }
    for said in (
        "## Intended use", "Answers | to customers", "## Limits", "No medicine.",
        f"| dataset | {'d' * 64} |", "| seed | 17 |", "| engine | vllm 0.32.0 |", "| peft | ",
        "| task against base | passed | 0.53 | at least 0.1 | of 24 |",
        "| task against live | skipped |  |  | nothing is live \\| yet |",
        "| key_colleague | approved |", "| a \\| b read it |",
        "| trained tokens | 500000 |", "| cost | 1.5 eur |", "| state | live |",
    ):  # fmt: skip
        assert said in text, said


def test_the_card_of_a_version_that_was_brought_stands_last_as_what_it_is(world: World) -> None:
    made = world.publish("support")
    brought = replace(made, evidence={IMPORT: {"format": "peft"}})
    free = training_cost(None, price=0.0, currency="usd")
    known = Known(version=brought, job=None, approvals=(), cost=free, author=None)
    claims = "# Best\n\n````\n\n## Approvals\n\n| who | verdict |\n|---|---|\n| boss | approved |\n"
    ours, _, theirs = whole_card(claims, known).partition("## The card that came with it")
    assert "Nobody has said anything." in ours
    assert "boss" not in ours
    fenced = theirs.partition("`````markdown\n")[2]
    assert fenced == claims.rstrip() + "\n`````\n"


def test_a_bill_of_materials_keeps_to_cyclonedxs_schema(world: World) -> None:
    assert send_import(world) == 200
    validator = JsonStrictValidator(SchemaVersion.V1_6)
    for number in ("1", "2"):
        answer = fetch(world, "bom", number)
        assert answer.headers["content-type"] == "application/vnd.cyclonedx+json"
        assert validator.validate_str(answer.text) is None
        assert validator.validate_str(answer.text.replace("machine-learning-model", "model"))


def send_import(world: World) -> int:
    with world.http("support") as http:
        files = {"file": ("a.tar", an_archive())}
        return http.post("/v1/adapters/support/versions", files=files).status_code


def test_a_bill_of_materials_names_model_base_data_and_tools(world: World) -> None:
    bill = fetch(world, "bom").json()
    model = bill["metadata"]["component"]
    version = world.runtime.registry.versions.get("support", 1, SYSTEM)
    assert (model["name"], model["version"], model["group"]) == ("support", "1", "support")
    assert model["hashes"] == [{"alg": "SHA-256", "content": version.digest}]
    told = {each["name"]: each["value"] for each in model["properties"]}
    assert told["wardrobe:gate:task against base"] == "passed"
    assert told["wardrobe:approval:key_colleague"] == "approved"
    assert told["wardrobe:cost:money"] == "1.5 eur"
    assert told["wardrobe:recipe:seed"] == "17"
    card = model["modelCard"]
    assert card["considerations"]["technicalLimitations"] == [WORDS.limits]
    metrics = card["quantitativeAnalysis"]["performanceMetrics"]
    assert metrics == [{"type": "task against base", "value": "0.53", "slice": "test"}]
    parts = {each["bom-ref"]: each for each in bill["components"]}
    assert parts["dataset"]["hashes"][0]["content"] == "d" * 64
    assert parts["base"]["name"] == "wardrobe-base"
    assert {"torch", "peft", "transformers", "engine"} <= parts.keys()
    assert bill == fetch(world, "bom").json()


def test_a_lineage_leads_from_the_data_to_the_requests(world: World) -> None:
    found = fetch(world, "lineage").json()
    job = found["job"]
    assert found["data"]["dataset"] == "d" * 64
    assert job["training_file"].startswith("file-")
    assert found["author"] == job["created_by"]
    assert [gate["outcome"] for gate in found["gates"]] == ["passed", "skipped"]
    assert [(each["actor"], each["verdict"]) for each in found["approvals"]] == [
        ("key_colleague", "approved")
    ]
    assert [each["action"] for each in found["changes"]] == [
        "version.published",
        "version.judged",
        "version.approved",
        "version.moved",
    ]
    (rollout,) = found["rollouts"]
    assert (rollout["action"], rollout["as"], rollout["reason"]) == (
        "promote",
        "target",
        "it is better",
    )
    assert found["requests"] == 3
    asked = {each["traffic"]: each["requests"] for each in found["usage"]}
    assert asked == {"interactive": 3, "evaluation": 24}
    assert found["cost"]["money"] == {"value": 1.5, "currency": "eur"}


def test_an_export_has_the_card_the_bill_and_the_signature_of_today_beside_its_files(
    world: World, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    code, _, err = wardrobe(world, capsys, "export", "support:1", str(tmp_path / "out"))
    assert code == 0, err
    written = {path.name for path in (tmp_path / "out").iterdir()}
    assert written == {
        "README.md", "adapter_config.json", "adapter_model.safetensors", "manifest.json",
        "MODEL_CARD.md", "bom.cdx.json", "signature.json",
    }  # fmt: skip
    assert "## Approvals" in (tmp_path / "out" / "MODEL_CARD.md").read_text()
    signed = json.loads((tmp_path / "out" / "signature.json").read_text())
    assert signed["adapter"] == "support"


def last_json(out: str) -> dict[str, Any]:
    """Behind what the service of this process has logged."""
    found: dict[str, Any] = json.loads(out[out.index("\n{\n") if "\n{\n" in out else 0 :])
    return found


def wardrobe(world: World, capsys: pytest.CaptureFixture[str], *words: str) -> tuple[int, str, str]:
    capsys.readouterr()
    code = run(app, [*words, "--url", world.url, "--state", str(world.settings.state)])
    said = capsys.readouterr()
    return code, said.out, said.err


def test_a_weaker_copys_lineage_leads_to_the_job_of_what_it_is_a_copy_of(world: World) -> None:
    registry = world.runtime.registry
    original = registry.versions.get("support", 1, SYSTEM)
    told = {"of": original.name, "strength": 0.5, "by": "key_author"}
    new = NewVersion(
        adapter="support",
        unit=Unit("support"),
        digest=original.digest,
        base_fingerprint=FINGERPRINT,
        rank=8,
        size_bytes=100,
        evidence={**EVIDENCE, WEAKENED: told},
    )
    copy = registry.versions.publish(new, job_id=None, fence=None)
    found = fetch(world, "lineage", str(copy.number)).json()
    first = fetch(world, "lineage").json()
    assert found["job"] == first["job"]
    assert (found["author"], found["cost"]) == (first["author"], first["cost"])
    assert found["weakened"] == told
    bill = fetch(world, "bom", str(copy.number)).json()["metadata"]["component"]
    said = {each["name"]: each["value"] for each in bill["properties"]}
    assert said["wardrobe:job"] == first["job"]["id"]
    assert said["wardrobe:weaker_copy_of"] == "support:1"


def test_a_request_leads_back_to_its_version_by_its_line_in_the_log(
    world: World, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    line = {
        "request_id": f"req_{'a' * 24}", "actor": "key_1", "alias": "support", "status": 200,
        "version": "support:1", "timestamp": "2026-11-26T22:00:00Z", "event": "request",
    }  # fmt: skip
    log = tmp_path / "pod.log"
    log.write_text(
        f"(APIServer pid=7) {json.dumps(line)}\n{line['request_id']} is no line\n"
        + json.dumps({**line, "request_id": f"req_{'b' * 24}", "version": "base"})
    )
    code, out, err = wardrobe(world, capsys, "lineage", f"req_{'a' * 24}", "--log", str(log))
    assert code == 0, err
    assert f"req_{'a' * 24}: answered 200 at 2026-11-26T22:00:00Z to key_1 as support" in out
    assert "support:1 of unit support" in out
    assert re.search(r"approved by key_colleague at 20\d\d-\d\d-\d\d \d\d:\d\d:\d\dZ", out)
    kept = world.settings.state_folder.logs / "requests-8000-0.log"
    kept.write_text(json.dumps({**line, "request_id": f"req_{'d' * 24}"}))
    code, out, _ = wardrobe(world, capsys, "lineage", f"req_{'d' * 24}", "--json")
    assert (code, last_json(out)["request"]["version"]) == (0, "support:1")
    for request, said in ((f"req_{'b' * 24}", "no version"), (f"req_{'c' * 24}", "no log here")):
        code, _, err = wardrobe(world, capsys, "lineage", request, "--log", str(log))
        assert code == 1
        assert said in err


def test_the_commands_print_what_the_service_says(
    world: World, capsys: pytest.CaptureFixture[str]
) -> None:
    code, out, _ = wardrobe(world, capsys, "card", "support:1")
    assert code == 0
    assert "## Gates" in out
    code, out, _ = wardrobe(world, capsys, "bom", "support:1")
    assert code == 0
    assert '"CycloneDX"' in out
    assert wardrobe(world, capsys, "lineage", "support")[0] == 1


def test_what_is_not_known_costs_nothing_that_anybody_could_name() -> None:
    cost = training_cost(None, price=3.0, currency="usd")
    assert cost.as_json() == {"seconds": None, "trained_tokens": None, "money": None}


def test_a_route_of_another_version_is_none_of_its_lineage(world: World) -> None:
    world.publish("support")
    newest = world.runtime.registry.versions.list(SYSTEM, adapter="support", after=None, limit=1)
    found = fetch(world, "lineage", str(newest.items[0].number)).json()
    assert (found["requests"], found["rollouts"]) == (0, [])
    assert world.runtime.registry.routes.route(Alias("support"), Unit("support")).stable


def test_a_lineage_begins_with_the_first_change_however_many_came_since(world: World) -> None:
    versions = world.runtime.registry.versions
    version = versions.get("support", 1, SYSTEM)
    for turn in range(101):  # more than a page of the audit log
        versions.pin(version.id, SYSTEM, pinned=turn % 2 == 0)
    actions = [each["action"] for each in fetch(world, "lineage").json()["changes"]]
    assert actions[0] == "version.published"
    assert actions.count("version.pinned") == 101
