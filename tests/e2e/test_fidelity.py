"""Log-probabilities through the real engine beside the trainer's own forward pass."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from math import exp, fsum
from pathlib import Path

import openai
import pytest

from adapters.domain.gates import Outcome
from adapters.domain.principals import SYSTEM
from adapters.domain.proof import drift_allowed
from adapters.domain.versions import Version
from adapters.settings import Settings
from adapters.store import FolderStore
from service.launch.base_resolver import resolve_base
from tests.e2e.jobs import follow, start_job
from tests.e2e.stack import ROOT, Stack, command, up
from training.data.examples import Example, Message
from training.data.questions import Question
from training.data.render import ChatRenderer
from training.evaluate.through_service import ServiceAnswers, service_client
from training.finetune.fine_tuner import LoraFineTuner

LAYERS = 4


def base_folder() -> Path:
    return resolve_base(Settings(base="tiny")).path


def questions(base: Path, number: int = 24) -> list[Question]:
    renderer = ChatRenderer(base)
    found = []
    for at in range(number):
        asked = Message(role="user", content=f"my card {at} has not come, what do i do")
        answer = Message(role="assistant", content="card arrival" if at % 2 else "lost card")
        row = renderer.rows(Example(messages=(asked, answer)))[-1]
        found.append(
            Question(
                row=str(at),
                prompt=(asked,),
                reference=answer.content,
                max_tokens=8,
                ids=row.ids,
                answer_start=len(renderer.prompt((asked,))),
            )
        )
    return found


@contextmanager
def service_of(stack: Stack) -> Iterator[ServiceAnswers]:
    client = service_client(stack.url, stack.key("trainer"))
    try:
        yield ServiceAnswers(client)
    finally:
        client.close()


def drift(served: list[list[float]], own: list[list[float]]) -> float:
    apart = [
        abs(one - other)
        for row, mine in zip(served, own, strict=True)
        for one, other in zip(row, mine, strict=True)
    ]
    return fsum(apart) / len(apart)


def own_log_probs(stack: Stack, version: Version, asked: list[Question]) -> list[list[float]]:
    published = FolderStore(stack.state.artifacts).fetch(version.digest)
    return LoraFineTuner(base_folder(), precision="float32").log_probs(published, asked)


def test_the_engine_gives_a_version_the_log_probabilities_that_the_trainer_gives_it(
    stack: Stack, first: Version
) -> None:
    asked = questions(base_folder())
    with service_of(stack) as service:
        served = service.log_probs(first.name, asked)
        base = service.log_probs("wardrobe-base", asked)
    own = own_log_probs(stack, first, asked)
    allowed = drift_allowed("float32", LAYERS)
    assert [len(row) for row in served] == [len(q.ids) - q.answer_start for q in asked]
    assert drift(served, own) < allowed / 4
    # as if the engine had taken none of the adapter's tensors
    assert drift(base, own) > 10 * allowed


def test_a_callers_key_gets_no_log_probabilities_of_a_prompt(stack: Stack, first: Version) -> None:
    for owner in ("support", "admin"):
        with pytest.raises(openai.BadRequestError, match="prompt_logprobs"):
            stack.client(owner).completions.create(
                model=first.name, prompt=[1, 2], max_tokens=1, extra_body={"prompt_logprobs": 0}
            )


def test_a_version_is_evaluated_again_by_a_command_and_not_trained(
    stack: Stack, first: Version
) -> None:
    ran = subprocess.run(
        command("adapters", "evaluate", first.name),
        env=stack.environment,
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )
    assert ran.returncode == 0, ran.stderr
    assert f"{first.name}: live" in ran.stdout
    assert "fidelity passed: measured" in ran.stdout
    found = stack.http("support").get(f"/v1/adapters/support/evaluations?subject={first.name}")
    measured_by = [each["job_id"] for each in found.json()["data"] if each["scorer"] == "drift"]
    assert measured_by == [None, first.job_id]


@pytest.mark.timeout(1800)
def test_an_honest_version_passes_fidelity_on_an_engine_that_rounds_to_bfloat16(
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    """And is still told from the base, by the same bound."""
    with up(tmp_path_factory.mktemp("bfloat16"), WARDROBE_DTYPE="bfloat16") as stack:
        job = follow(stack, start_job(stack, "support"))
        assert job.status == "succeeded", job.error
        with stack.registry() as registry:
            version = registry.versions.get("support", 1, SYSTEM)
        asked = questions(base_folder())
        with service_of(stack) as service:
            served = service.log_probs(version.name, asked)
            base = service.log_probs("wardrobe-base", asked)
        own = own_log_probs(stack, version, asked)
    (fidelity,) = (gate for gate in version.gates if gate.gate == "fidelity")
    allowed = drift_allowed("bfloat16", LAYERS)
    assert (fidelity.outcome, fidelity.bound) == (Outcome.PASSED, allowed)
    assert 0.0 < fidelity.measured < allowed / 2
    assert 1e-3 < drift(served, own) < allowed
    assert drift(base, own) > 2 * allowed


def test_the_engine_names_the_likeliest_tokens_beside_each_of_a_references_own(
    stack: Stack, first: Version
) -> None:
    asked = questions(base_folder(), 4)
    with service_of(stack) as service:
        likely = service.top_log_probs(first.name, asked, 20)
        own = service.log_probs(first.name, asked)
    for question, places, nats in zip(asked, likely, own, strict=True):
        reference = question.ids[question.answer_start :]
        assert [place[token] for token, place in zip(reference, places, strict=True)] == (
            pytest.approx(nats, abs=1e-4)
        )
        for place in places:
            assert len(place) in (20, 21)
            assert 0.0 < fsum(exp(log_prob) for log_prob in place.values()) <= 1.0 + 1e-5


ASKED_FOR = {
    "forgetting": {"prompts": 4, "answer_tokens": 8, "max_kl": 99.0, "max_general_drop": 1.0},
    "leakage": {"rows": 4, "min_tokens": 4, "max_extraction": 1.0},
    "conduct": {"safety": 0.0, "obedience": 0.0, "answer_tokens": 8},
}
"""Every number is measured; no bound here holds up a base of two million parameters."""


def test_what_a_unit_asks_for_beyond_its_task_is_measured_through_the_real_engine(
    stack: Stack, first: Version, tmp_path: Path
) -> None:
    unit = {"unit": "support", "aliases": ["support"], "gates": ASKED_FOR}
    (tmp_path / "support.yaml").write_text(json.dumps(unit))
    ran = subprocess.run(
        command("adapters", "evaluate", first.name),
        env={**stack.environment, "WARDROBE_UNITS": str(tmp_path)},
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )
    assert ran.returncode == 0, ran.stderr + ran.stdout
    for measured in (
        "forgetting on neutral prompts against base passed: measured",
        "forgetting on general questions against base passed: measured",
        "leakage of planted canaries skipped: no canary was planted",
        "safety",
        "obedience",
        "ends passed: measured",
        "data: overlap passed: measured 0",
    ):
        assert measured in ran.stdout
    page = stack.http("support").get(f"/v1/adapters/support/versions/{first.number}/report")
    assert "forgetting on neutral prompts" in page.text
    assert "<polyline" in page.text
