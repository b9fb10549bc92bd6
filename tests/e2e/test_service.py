"""The running product, from a job to its kills. The order of the file is the order of the story."""

from __future__ import annotations

import concurrent.futures
import os
import shutil
import subprocess
import threading
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import httpx2
import openai
import pytest

from adapters.domain.gates import Outcome, all_passed
from adapters.domain.versions import Version
from examples.demo.callers import references
from examples.demo.data import Example
from examples.demo.verdict import TIE, Reference
from service.cli.client import Client
from service.gateway.access import methods_at
from tests.e2e.deaths import kill_under_a_stream, seconds_until_back
from tests.e2e.jobs import follow, jsonl, lessons, lines, mixed_up, start_job
from tests.e2e.stack import GREEDY, ROOT, Stack, command, environment, wait_for
from tests.e2e.swaps import Witness, moves
from tests.steady_callers import calling, check_nobody_was_refused

CALLERS = 8
SWAPS = int(os.environ.get("SOAK_SWAPS", "20"))
"""`make soak` takes 1,000."""

pytestmark = pytest.mark.timeout(3600 + 60 * SWAPS)


def questions(count: int) -> list[list[dict[str, str]]]:
    """Prompts of support's test split."""
    return [row["messages"][:-1] for row in lessons("support", "test", count)]


def answers_of(stack: Stack, model: str, prompts: list[Any]) -> list[str]:
    """Greedy answers of one model."""
    client = stack.client()
    return [
        client.chat.completions.create(model=model, messages=prompt, **GREEDY)
        .choices[0]
        .message.content
        for prompt in prompts
    ]


def told_apart(
    stack: Stack, versions: tuple[str, str], count: int
) -> tuple[list[Example], dict[str, list[frozenset[str]]]]:
    """Questions that each version answers in its own way, and all that it alone answers to them.

    In batches of every size that the callers may make: a batch is other rounding. No text is two
    versions', and no word was nearly another.
    """
    asked = [Example(tuple(prompt), "") for prompt in questions(40)]
    with Client(stack.url, stack.key("support")) as client:
        first_look = those_apart(client, versions, asked, at_once=0)
        asked = [example for example, _ in first_look[: 2 * count]]
        sure = those_apart(client, versions, asked, at_once=CALLERS)[:count]
    assert len(sure) == count, (len(first_look), len(sure))
    texts = {name: [found[name].texts for _, found in sure] for name in versions}
    return [example for example, _ in sure], texts


def those_apart(
    client: Client, versions: tuple[str, str], asked: list[Example], *, at_once: int
) -> list[tuple[Example, dict[str, Reference]]]:
    """Questions of `asked` that the versions answer in ways of their own, with what they answer."""
    known = {name: references(client, name, asked, at_once=at_once) for name in versions}
    found = [{name: known[name][at] for name in versions} for at in range(len(asked))]
    return [pair for pair in zip(asked, found, strict=True) if are_apart([*pair[1].values()])]


def are_apart(found: Sequence[Reference]) -> bool:
    """Whether no text is two versions', and none of their words was nearly another."""
    whose = Counter(text for one in found for text in one.texts)
    return max(whose.values()) == 1 and all(one.margin > 2 * TIE for one in found)


def test_a_job_ends_with_a_proven_version_that_is_live(stack: Stack, first: Version) -> None:
    client = stack.client()
    assert first.state == "live"
    assert {gate.gate for gate in first.gates} == {
        "artifact", "effect", "fidelity", "task", "skill", "overfitting", "ends",
        "data: overlap", "data: personal", "data: left out",
    }  # fmt: skip
    assert all_passed(first.gates)
    skipped = {gate.name: gate.outcome for gate in first.gates if not gate.passed}
    assert skipped == {"task against live": Outcome.SKIPPED}
    assert first.evidence is not None
    assert first.evidence["training"]["precision"] == "float32"
    answer = client.chat.completions.create(model="support", messages=questions(1)[0], **GREEDY)
    assert answer.model == "support:1"
    job = client.fine_tuning.jobs.list().data[0]
    assert job.fine_tuned_model == "support:1"
    assert job.trained_tokens > 0
    assert job.hyperparameters.n_epochs == 10


def test_a_script_written_for_openai_runs_with_another_address_and_key(
    stack: Stack, told: Mapping[str, Any]
) -> None:
    assert told["model"] == "support:1"
    assert told["metrics"].startswith("step,train_loss")
    assert told["checkpoints"] > 0
    assert told["trained_tokens"] > 0
    assert told["listed"][0] == told["job"]
    assert told["answer"].startswith("to ")
    (found,) = stack.client().fine_tuning.jobs.list(metadata={"project": "ticket-router"}).data
    assert found.id == told["job"]


def test_a_dry_run_tells_what_to_expect_and_trains_nothing(stack: Stack, first: Version) -> None:
    client = stack.client()
    train, valid = (
        client.files.create(
            file=(f"{split}.jsonl", lines("support", split, count)), purpose="fine-tune"
        )
        for split, count in (("train", 400), ("valid", 80))
    )
    job = client.fine_tuning.jobs.create(
        model="wardrobe-base",
        training_file=train.id,
        validation_file=valid.id,  # what `first` was taught measures no later version
        extra_body={"x_wardrobe": {"dry_run": True, "recipe": {"n_epochs": 2}}},
    )
    job = follow(stack, job)
    assert (job.status, job.fine_tuned_model) == ("succeeded", None)
    events = client.fine_tuning.jobs.list_events(job.id).data
    (report,) = [event.data for event in events if event.type == "data_report"]
    assert report["usable"]
    assert report["expected"]["tokens"] > 0
    assert report["expected"]["seconds"] > 0, "a job has run here"


def test_a_jobs_events_checkpoints_and_result_file_are_openais(
    stack: Stack, first: Version
) -> None:
    client = stack.client()
    job = client.fine_tuning.jobs.retrieve(str(first.job_id))
    events = list(client.fine_tuning.jobs.list_events(job.id, limit=100))
    messages = [event.message for event in events][::-1]
    assert messages[0] == "Created fine-tuning job"
    created = messages.index("New fine-tuned model created: support:1")
    assert messages[created + 1] == "Fine tuning job successfully completed"
    metrics = [event.data for event in events if event.type == "metrics"]
    assert metrics
    assert {"step", "total_steps", "train_loss"} <= set(metrics[0])
    points = list(client.fine_tuning.jobs.checkpoints.list(job.id))
    assert points
    assert points[0].metrics.step == points[0].step_number
    (kept,) = [p.fine_tuned_model_checkpoint for p in points if p.fine_tuned_model_checkpoint]
    answer = client.chat.completions.create(model=kept, messages=questions(1)[0], **GREEDY)
    assert answer.model == kept == job.fine_tuned_model
    table = client.files.content(job.result_files[0]).text
    assert table.splitlines()[0].startswith("step,train_loss")
    assert len(table.splitlines()) > 2


def test_the_adapter_knows_what_the_base_does_not(stack: Stack, first: Version) -> None:
    rows = lessons("support", "test", 40)
    prompts = [row["messages"][:-1] for row in rows]
    wanted = [row["messages"][-1]["content"] for row in rows]
    base = answers_of(stack, "wardrobe-base", prompts)
    tuned = answers_of(stack, "support", prompts)
    right = sum(a == b for a, b in zip(tuned, wanted, strict=True))
    assert right >= 20 + sum(a == b for a, b in zip(base, wanted, strict=True))


def test_streams_and_whole_answers_say_the_same(stack: Stack, first: Version) -> None:
    client = stack.client()
    for prompt in questions(5):
        whole = client.chat.completions.create(model="support", messages=prompt, **GREEDY)
        chunks = list(
            client.chat.completions.create(
                model="support", messages=prompt, stream=True,
                stream_options={"include_usage": True}, **GREEDY,
            )
        )  # fmt: skip
        text = "".join(c.choices[0].delta.content or "" for c in chunks if c.choices)
        assert text == whole.choices[0].message.content
        assert chunks[-1].usage.completion_tokens == whole.usage.completion_tokens


def command_of(stack: Stack, version: Version, *, back: bool) -> tuple[str, dict[str, Any]]:
    """A promotion of `version`, or a rollback; either names the generation it saw."""
    route = stack.http("support").get("/v1/adapters/support").json()["route"]
    seen = {"expected_generation": route["generation"]}
    return ("rollback", seen) if back else ("promote", {"version": version.number, **seen})


def test_swaps_and_canaries_under_eight_clients_mix_nothing(stack: Stack, second: Version) -> None:
    witness = Witness(*told_apart(stack, ("support:1", second.name), 6))
    stop, made, http, looking = threading.Event(), 0, stack.http("support"), stack.client()
    with concurrent.futures.ThreadPoolExecutor(CALLERS) as pool:
        callers = [pool.submit(witness.call, stack.client(), stop, n) for n in range(CALLERS)]
        try:
            while made < SWAPS:
                for move in moves("support:1", second.name):
                    route = http.get("/v1/adapters/support").json()["route"]
                    said = {"expected_generation": route["generation"], **move.body}
                    answer = http.post(f"/v1/adapters/support/{move.verb}", json=said)
                    assert answer.status_code == 200, (move, answer.text)
                    assert answer.json()["state"] == "complete"
                    witness.hear_from(looking, move.answered_by)
                    made += 1
        finally:
            stop.set()
        for caller in callers:
            caller.result()
    served, wrong = witness.served, witness.wrong
    print(f"{made} swaps, {len(served)} answers of {dict(Counter(served))}, wrong: {len(wrong)}")
    assert wrong == []
    assert set(served) == {"support:1", second.name}


@pytest.mark.parametrize(
    "spoilt",
    [{"strength": 1.0, "rank": 4096}, {"strength": 0.0}],
    ids=["of a wrong rank", "without effect"],
)
def test_a_version_the_engine_refuses_fails_its_own_rollout_and_nothing_else(
    stack: Stack, second: Version, spoilt: dict[str, Any]
) -> None:
    refused = stack.variant(second, **spoilt)
    http = stack.http("support")
    answer = http.post("/v1/adapters/support/promote", json={"version": refused.number})
    assert answer.status_code == 409, answer.text
    assert answer.json()["error"]["code"] == "rollout_failed"
    assert stack.ready()
    for back in (False, True):
        verb, body = command_of(stack, second, back=back)
        moved = http.post(f"/v1/adapters/support/{verb}", json=body)
        assert moved.status_code == 200, moved.text
        assert moved.json()["state"] == "complete"


def test_a_scrape_needs_the_scope_for_it_and_may_do_nothing_else(stack: Stack) -> None:
    asked = {"name": "scraper", "scopes": ["metrics"], "expires_in": 3600}
    made = stack.http("admin").post("/v1/keys", json=asked)
    assert made.status_code == 200, made.text
    headers = {"Authorization": f"Bearer {made.json()['secret']}"}

    def status(path: str) -> int:
        return httpx2.get(stack.url + path, headers=headers).status_code

    wait_for(lambda: status("/metrics") == 200, seconds=10, what="the key is known")
    assert {status("/v1/models"), status("/v1/keys"), status("/v1/status")} == {403}
    assert stack.http("support").get("/metrics").status_code == 403


def test_no_route_of_the_engine_is_open_but_the_listed(stack: Stack, facts: dict[str, Any]) -> None:
    routes = facts["routes"]
    assert len(routes) > 30
    http, closed = stack.http("admin"), {route for route in routes if not methods_at(route)}
    assert {"/tokenize", "/invocations", "/version", "/inference/v1/generate"} & closed
    for route in closed:
        for method in ("GET", "POST"):
            assert http.request(method, route).status_code == 404, route


@pytest.mark.parametrize(
    ("field", "value"),
    [("prompt_logprobs", 1), ("cache_salt", "x"), ("chat_template", "{{ 1 }}"), ("priority", 1)],
)
def test_dangerous_fields_never_reach_the_engine(stack: Stack, field: str, value: Any) -> None:
    with pytest.raises(openai.BadRequestError) as refused:
        stack.client().chat.completions.create(
            model="wardrobe-base", messages=questions(1)[0], extra_body={field: value}
        )
    assert refused.value.param == field


@pytest.mark.parametrize(
    "extra",
    [
        {"max_tokens": -1}, {"temperature": -3}, {"messages": []}, {"messages": "x"},
        {"max_tokens": 10**40}, {"stop": [""] * 5}, {"top_p": 7}, {"n": 0},
        {"response_format": {"type": "json_schema", "json_schema": {"name": "x", "schema": 7}}},
        {"messages": [{"role": "nobody", "content": "x"}]},
    ],
)  # fmt: skip
def test_what_the_engine_refuses_is_a_400_in_the_envelope_and_the_engine_lives(
    stack: Stack, extra: dict[str, Any]
) -> None:
    body = {"model": "wardrobe-base", "messages": questions(1)[0], "max_tokens": 4} | extra
    answer = stack.http("support").post("/v1/chat/completions", json=body)
    assert answer.status_code == 400, answer.text
    error = answer.json()["error"]
    assert set(error) == {"message", "type", "param", "code"}
    assert isinstance(error["code"], str)
    assert answers_of(stack, "wardrobe-base", questions(1))


def test_a_unit_hits_its_own_prefix_cache_and_nobody_elses(stack: Stack) -> None:
    prompt = [{"role": "user", "content": "the same long words again and again " * 20}]
    http = stack.http()

    def hits_of_a_call_by(owner: str) -> float:
        before = cache_hits(http.get("/metrics").text)
        stack.client(owner).chat.completions.create(
            model="wardrobe-base", messages=prompt, max_tokens=1
        )
        return cache_hits(http.get("/metrics").text) - before

    assert hits_of_a_call_by("support") == 0
    assert hits_of_a_call_by("sales") == 0
    assert hits_of_a_call_by("support") > 0


def cache_hits(metrics: str) -> float:
    """vLLM's count of prompt tokens found in its prefix cache."""
    found = [
        float(line.rsplit(" ", 1)[1])
        for line in metrics.splitlines()
        if line.startswith("vllm:prefix_cache_hits_total")
    ]
    assert found
    return sum(found)


def test_prometheus_accepts_the_metrics_and_finds_the_requests(
    stack: Stack, first: Version
) -> None:
    text = stack.http().get("/metrics").text
    assert (
        'wardrobe_requests_total{alias="support",outcome="ok",unit="support",version="support:1"}'
        in text
    )
    assert 'kind="completion"' in text
    assert "vllm:num_requests_running" in text
    promtool = shutil.which("promtool")
    if promtool is None:
        pytest.skip("promtool is not installed (Debian package prometheus)")
    ours = "\n".join(line for line in text.splitlines() if "wardrobe_" in line) + "\n"
    # 3 says that it was read and its names could be better: vLLM's are not ours to choose
    for page, accepted in ((ours, {0}), (text, {0, 3})):
        run = subprocess.run(
            [promtool, "check", "metrics"], input=page, text=True, capture_output=True
        )
        assert run.returncode in accepted, run.stderr + run.stdout


def test_the_engine_is_asked_nothing_in_a_way_that_it_gives_up(stack: Stack) -> None:
    assert "Passing raw prompts" not in stack.logs(), "vLLM's words for prompts that it made not"


def test_nothing_of_a_request_is_in_the_logs(stack: Stack) -> None:
    canary = "canary5417"
    client = stack.client()
    client.chat.completions.create(
        model="support", messages=[{"role": "user", "content": canary}], max_tokens=4
    )
    with pytest.raises(openai.BadRequestError):
        client.chat.completions.create(
            model="support", messages=[{"role": "user", "content": canary}], temperature=-9
        )
    with pytest.raises(openai.NotFoundError):
        client.chat.completions.create(model=canary, messages=[{"role": "user", "content": "x"}])
    logs = stack.logs()
    assert canary not in logs
    for owner in ("admin", "support", "trainer"):
        assert stack.key(owner) not in logs


def test_bad_training_files_fail_their_job_with_the_line(stack: Stack) -> None:
    client = stack.client("sales")
    bad = (
        lines("sales", "train", 20) + b'{"messages": [{"role": "user", "content": "no answer"}]}\n'
    )
    file = client.files.create(file=("bad.jsonl", bad), purpose="fine-tune")
    job = follow(
        stack,
        client.fine_tuning.jobs.create(model="wardrobe-base", training_file=file.id),
        seconds=600,
    )
    assert job.status == "failed"
    assert job.error.code == "invalid_training_file"
    assert "21" in job.error.message


def test_a_second_up_on_the_same_state_folder_says_who_has_it(stack: Stack) -> None:
    run = subprocess.run(
        command("up"), cwd=ROOT, env=stack.environment,
        capture_output=True, text=True, timeout=60,
    )  # fmt: skip
    assert run.returncode == 1
    assert "state" in run.stderr
    assert str(stack.process.pid) in run.stderr
    assert len(run.stderr.strip().splitlines()) == 1


def test_a_port_in_use_is_one_line(stack: Stack, tmp_path: Any) -> None:
    shutil.copytree(stack.folder / "units", tmp_path / "units")
    run = subprocess.run(
        command("up"), cwd=ROOT, env=environment(tmp_path, stack.port),
        capture_output=True, text=True, timeout=60,
    )  # fmt: skip
    assert run.returncode == 1
    assert str(stack.port) in run.stderr
    assert "in use" in run.stderr


def versions_of(stack: Stack, alias: str) -> set[str]:
    listed = stack.http().get(f"/v1/adapters/{alias}/versions").json()["data"]
    return {version["id"] for version in listed}


def test_a_trainer_killed_in_the_middle_of_a_job_leaves_one_version(stack: Stack) -> None:
    before = versions_of(stack, "sales")
    job = start_job(stack, "sales", examples=600)
    client = stack.client("sales")

    def can_go_on() -> bool:
        return bool(client.fine_tuning.jobs.checkpoints.list(job.id).data)

    wait_for(can_go_on, seconds=900, what="the job has a checkpoint")
    trainer, child = stack.running("training.worker.main"), stack.running("training.job")
    assert trainer is not None
    assert child is not None
    trainer.kill()
    wait_for(lambda: not child.is_running() or child.status() == "zombie", seconds=300,
             what="the job's process dies with its trainer")  # fmt: skip
    ended = follow(stack, job)
    assert ended.status == "succeeded", ended.error
    assert ended.x_attempts >= 2
    assert versions_of(stack, "sales") - before == {ended.fine_tuned_model}


def test_a_killed_service_comes_back_with_every_live_version_and_leaves_no_file_behind(
    stack: Stack, first: Version
) -> None:
    prompts = questions(3)
    http = stack.http("support")
    live = http.get("/v1/adapters/support").json()["route"]["stable"]
    beside = stack.http("sales").get("/v1/adapters/sales").json()["route"]["stable"]
    before = answers_of(stack, "support", prompts)
    (folder,) = Path(stack.environment["TMPDIR"]).iterdir()
    files, shared = set(folder.iterdir()), stack.shared_memory()
    assert [path for path in files if path.is_socket()], "deep as its state folder is"
    with calling(stack.asking("support")) as met:
        wait_for(lambda: met["200"], seconds=1200, what="callers are answered")
        stack.service().kill()
        seconds_until_back(stack)
    check_nobody_was_refused(met)
    assert not files & set(folder.iterdir())
    assert [path for path in shared if path.exists()] == []
    status = stack.http().get("/v1/status").json()
    assert status["missing"] == []
    assert {live, beside} <= set(status["resident"])
    assert answers_of(stack, "support", prompts) == before
    assert http.get("/v1/adapters/support").json()["route"]["stable"] == live


def test_an_engine_core_killed_under_a_stream_raises_in_the_client_and_comes_back(
    stack: Stack, first: Version
) -> None:
    prompts = questions(2)
    before = answers_of(stack, "support", prompts)
    with calling(stack.asking("support")) as met:
        wait_for(lambda: met["200"], seconds=1200, what="callers are answered")
        kill_under_a_stream(stack, stack.engine_core(), "Where is my parcel?")
        seconds_until_back(stack)
    check_nobody_was_refused(met)
    assert stack.http().get("/v1/status").json()["missing"] == []
    assert answers_of(stack, "support", prompts) == before


def test_a_cancelled_job_stops_and_leaves_no_version(stack: Stack) -> None:
    before = versions_of(stack, "sales")
    job = start_job(stack, "sales", examples=600)
    client = stack.client("sales")
    wait_for(
        lambda: client.fine_tuning.jobs.retrieve(job.id).status == "running",
        seconds=600, what="the job runs",
    )  # fmt: skip
    time.sleep(2)
    client.fine_tuning.jobs.cancel(job.id)
    assert follow(stack, job, seconds=600).status == "cancelled"
    scratch = stack.state.job(job.id)
    wait_for(lambda: not scratch.exists(), seconds=300, what="its process and scratch are gone")
    assert versions_of(stack, "sales") == before


def test_a_version_taught_half_wrong_does_not_replace_a_good_one(stack: Stack) -> None:
    adapter = stack.http("sales")

    def live() -> str | None:
        stable: str | None = adapter.get("/v1/adapters/sales").json()["route"]["stable"]
        return stable

    if live() is None:
        follow(stack, start_job(stack, "sales"))
    good = live()
    assert good is not None
    rows = mixed_up(lessons("sales", "train", 400))
    job = follow(stack, start_job(stack, "sales", train=jsonl(rows)))
    assert job.status == "failed"
    assert job.error.code == "gate_failed"
    worse = adapter.get("/v1/adapters/sales/versions").json()["data"][0]
    assert worse["state"] == "rejected"
    against = {
        gate["against"]: gate["outcome"] for gate in worse["gates"] if gate["gate"] == "task"
    }
    assert against[good] == "failed"
    assert live() == good
