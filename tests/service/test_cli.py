"""The command line against a real service (with a simulated engine), over HTTP."""

from __future__ import annotations

import json
import os
import re
import ssl
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import httpx2
import pytest
from typer.main import get_command

from adapters.domain.api_keys import make_key
from adapters.domain.datasets import Part
from adapters.domain.evaluations import NewEvaluation, Scorer
from adapters.domain.gates import at_least
from adapters.domain.jobs import JobError, JobStatus
from adapters.domain.names import Digest, JobId, Unit, VersionId
from adapters.domain.principals import SYSTEM, Role, Scope
from adapters.pepper import find_pepper, fingerprint_of
from adapters.registry.open import open_registry
from adapters.registry.ports import NewVersion, Which
from adapters.settings import Settings
from adapters.state_folder import StateFolder
from service.cli.app import app
from service.cli.error_messages import run
from service.cli.output import until
from service.engine.quarantine import Quarantine
from service.engine.quarantine_record import QuarantineRecord
from tests.servers.certificates import write_pair
from tests.servers.postgres import PostgresServer
from tests.service.world import FINGERPRINT, World, free_port, offline, running
from tests.simulation.engine import BASE

Cli = Callable[..., "Ran"]

LOGGED = re.compile(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d ")
ROW = {"messages": [{"role": "user", "content": "hi"}, {"role": "assistant", "content": "hello"}]}


class Ran:
    """An ended command: exit code and what it printed."""

    def __init__(self, code: int, out: str, err: str) -> None:
        self.code = code
        self.out = out
        self.err = err

    @property
    def json(self) -> Any:
        return json.loads(self.out)


@pytest.fixture
def cli(world: World, capsys: pytest.CaptureFixture[str]) -> Cli:
    """Runs `wardrobe …` against the world as the local admin."""

    def call(*words: str, connect: bool = True) -> Ran:
        capsys.readouterr()
        where = ["--url", world.url, "--state", str(world.settings.state)] if connect else []
        code = run(app, [*words, *where])
        said = capsys.readouterr()
        # the service of these tests lives in this process and logs to the same place
        lines = said.out.splitlines(keepends=True)
        return Ran(code, "".join(each for each in lines if not LOGGED.match(each)), said.err)

    return call


@pytest.fixture
def rows(tmp_path: Path) -> Path:
    path = tmp_path / "train.jsonl"
    path.write_text("".join(f"{json.dumps(ROW)}\n" for _ in range(20)))
    return path


def one_line(text: str) -> bool:
    return text.startswith("error: ") and text.count("\n") == 1


def a_version_of_a_running_job(world: World, unit: str) -> tuple[VersionId, int]:
    """Its id, and the fence under which it may be judged."""
    client, registry = world.client(unit), world.runtime.registry
    file = client.files.create(file=("x.jsonl", json.dumps(ROW).encode()), purpose="fine-tune")
    job = client.fine_tuning.jobs.create(model=BASE, training_file=file.id)
    registry.jobs.accept(JobId(job.id), error=None)
    claimed = registry.jobs.claim(owner="t", lease_seconds=60)
    assert claimed is not None
    assert claimed.lease is not None
    new = NewVersion(
        adapter=unit,
        unit=Unit(unit),
        digest=Digest("a" * 64),
        base_fingerprint=FINGERPRINT,
        rank=8,
        size_bytes=100,
        evidence={},
    )
    made = registry.versions.publish(new, job_id=claimed.id, fence=claimed.lease.fence)
    return made.id, claimed.lease.fence


def test_promote_puts_a_version_live_and_rollback_returns(cli: Cli, world: World) -> None:
    for _ in range(2):
        world.publish("support")
    assert "support:1 is live" in cli("promote", "support", "1").out
    done = cli("promote", "support", "support:2", "--json")
    assert (done.code, done.json["state"], done.json["route"]["stable"]) == (
        0,
        "complete",
        "support:2",
    )
    assert "support:1 is live" in cli("rollback", "support").out
    listed = cli("adapters", "list", "--json").json
    assert {each["id"]: each["route"]["stable"] for each in listed} == {
        "support": "support:1",
        "sales": None,
        "hr": None,
        "hr-screening": None,
    }


def test_a_lost_race_says_to_look_again_with_exit_code_1(cli: Cli, world: World) -> None:
    world.publish("support")
    cli("promote", "support", "1")
    world.publish("support")
    lost = cli("promote", "support", "2", "--expected-generation", "0")
    assert lost.code == 1
    assert one_line(lost.err)
    assert "version_conflict" in lost.err
    assert "wardrobe adapters show" in lost.err


def test_evaluations_are_told_by_model_and_scorer(cli: Cli, world: World) -> None:
    assert "no evaluations yet" in cli("adapters", "evaluations", "support").out
    version = world.publish("support")
    new = NewEvaluation(
        unit=Unit("support"),
        adapter="support",
        subject=version.name,
        version_id=version.id,
        base_fingerprint=FINGERPRINT,
        dataset="d" * 64,
        part=Part.TEST,
        scorer=Scorer.EXACT_MATCH,
        seed=0,
        conditions={},
        scores={"row-1": 1.0, "row-2": 0.5},
    )
    world.runtime.registry.evaluations.add([new], job_id=None, fence=None)
    shown = cli("adapters", "evaluations", "support").out
    assert all(word in shown for word in ("support:1", "exact_match", "0.75", "dddddddddddd"))
    (one,) = cli("adapters", "evaluations", "support:1", "--json").json
    assert one["scores"] == {"row-1": 1.0, "row-2": 0.5}


def test_evaluating_again_needs_a_version_in_full(cli: Cli) -> None:
    refused = cli("adapters", "evaluate", "support", connect=False)
    assert refused.code == 1
    assert "a version looks like `support:8`" in refused.err


def test_show_tells_versions_gates_and_scores(cli: Cli, world: World) -> None:
    version_id, fence = a_version_of_a_running_job(world, "sales")
    world.runtime.registry.versions.record_gates(
        version_id,
        [
            at_least("effect", 0.9, 0.05, "differs"),
            at_least("task", 0.0, 0.02, "gain", against="base"),
        ],
        fence=fence,
        evidence={"test": {"base": {"exact_match": 0.0}, "adapter": {"exact_match": 0.125}}},
    )
    shown = cli("adapters", "show", "sales").out
    assert "sales:1" in shown
    assert "rejected" in shown
    assert "task against base failed" in shown
    assert "12.5%" in shown
    assert (
        "task against base FAILED: 0, at least 0.02 is needed (gain)"
        in cli("adapters", "show", "sales:1").out
    )
    refused = cli("promote", "sales", "1")
    assert refused.code == 1
    assert "version_rejected" in refused.err


@pytest.mark.parametrize(
    "words",
    [
        ("adapters", "show", "nothing"),
        ("adapters", "show", "support:9"),
        ("promote", "support", "9"),
        ("promote", "nothing", "1"),
        ("promote", "support", "../../x"),
        ("promote", "../files", "1"),
        ("rollback", "support"),
        ("jobs", "show", "ftjob-none"),
        ("jobs", "cancel", ""),
        ("logs", "ftjob-none"),
        ("logs", "ftjob-none", "--follow"),
        ("chat", "nothing", "hello"),
    ],
)
def test_what_the_service_refuses_is_one_line_with_exit_code_1(
    cli: Cli, words: tuple[str, ...]
) -> None:
    refused = cli(*words)
    assert refused.code == 1
    assert one_line(refused.err), refused.err


def test_a_job_is_created_listed_paused_resumed_and_cancelled(
    cli: Cli, world: World, rows: Path
) -> None:
    files = ("--train", str(rows), "--valid", str(rows))
    job = cli("jobs", "create", "--unit", "hr", "--adapter", "hr-screening", *files, "--json").json
    assert (job["x_unit"], job["x_adapter"], job["status"]) == (
        "hr",
        "hr-screening",
        "validating_files",
    )
    world.runtime.registry.jobs.accept(JobId(job["id"]), error=None)
    assert "paused" in cli("jobs", "pause", job["id"]).out
    assert "queued" in cli("jobs", "resume", job["id"]).out
    assert job["id"] in cli("jobs", "list").out
    assert cli("jobs", "show", job["id"], "--json").json["status"] == "queued"
    assert "cancelled" in cli("jobs", "cancel", job["id"]).out
    again = cli("jobs", "cancel", job["id"])
    assert (again.code, "cancelled" in again.out) == (0, True), "repeating it changes nothing"
    over = cli("jobs", "resume", job["id"])
    assert (over.code, one_line(over.err)) == (1, True)


def test_a_job_that_has_ended_is_tried_again_in_one_command(cli: Cli, rows: Path) -> None:
    job = cli("jobs", "create", "--unit", "hr", "--train", str(rows), "--json").json
    early = cli("jobs", "retry", job["id"], "--augment")
    assert (early.code, "job_state" in early.err, one_line(early.err)) == (1, True, True)
    cli("jobs", "cancel", job["id"])
    again = cli("jobs", "retry", job["id"], "--augment", "--replay", "0.2", "--json").json
    assert again["x_wardrobe"]["recipe"] == {"augment": True, "replay": 0.2}
    assert (again["training_file"], again["x_unit"]) == (job["training_file"], "hr")
    plain = cli("jobs", "retry", job["id"])
    assert "watch it with `wardrobe logs ftjob-" in plain.out
    assert cli("jobs", "retry", job["id"], "--replay", "0.9").code == 2


def test_data_is_checked_by_the_server_and_every_problem_printed(
    cli: Cli, world: World, rows: Path
) -> None:
    """A thread does here what the trainer does."""
    problems = [{"param": "training_file", "line": n, "what": "has no `messages`"} for n in (3, 7)]
    jobs, seen = world.runtime.registry.jobs, list[tuple[str, bool]]()
    version = world.publish("hr")
    further = ("--model", version.name)
    error = JobError(code="invalid_training_file", message="2 problems", param="training_file")
    for found, failure, more in ((problems, error, ()), ([], None, further)):
        report = {"usable": not found, "problems": found, "problem_count": len(found)}

        def end(report: Any = report, failure: JobError | None = failure) -> None:
            until = time.monotonic() + 60
            while not (waiting := jobs.in_status(JobStatus.VALIDATING_FILES)):
                assert time.monotonic() < until
                time.sleep(0.05)
            (job,) = waiting
            seen.append((job.model, job.dry_run))
            jobs.say(job.id, "expect: at most 9 steps")
            jobs.say(job.id, "checked", type="data_report", data=report)
            jobs.accept(job.id, error=failure)

        trainer = threading.Thread(target=end)
        trainer.start()
        done = cli("jobs", "check", "--unit", "hr", "--train", str(rows), *more)
        trainer.join()
        if failure:
            assert done.code == 1
            assert done.out.splitlines() == [
                "training_file: line 3: has no `messages`",
                "training_file: line 7: has no `messages`",
            ]
        else:
            assert done.code == 0
            assert "expect: at most 9 steps" in done.out
    assert seen == [(BASE, True), (version.name, True)]
    files = world.client("hr").files.list()
    assert all(file.expires_at == file.created_at + 3600 for file in files)


def test_a_job_without_a_unit_asks_an_admin_for_one(cli: Cli, rows: Path) -> None:
    refused = cli("jobs", "create", "--train", str(rows))
    assert refused.code == 1
    assert "must name the unit" in refused.err


def test_a_job_learns_by_the_method_that_is_named(cli: Cli, rows: Path) -> None:
    words = ("jobs", "create", "--unit", "hr", "--train", str(rows), "--json")
    assert cli(*words, "--method", "dpo").json["method"]["type"] == "dpo"
    assert cli(*words).json["method"]["type"] == "supervised"
    assert cli(*words, "--method", "ppo").code == 2


def test_a_unit_key_makes_jobs_of_its_own_unit(cli: Cli, world: World, rows: Path) -> None:
    made = cli("jobs", "create", "--train", str(rows), "--key", world.key("sales"), "--json")
    assert made.json["x_unit"] == "sales"


def test_a_data_file_that_is_not_there_is_named(cli: Cli) -> None:
    refused = cli("jobs", "create", "--unit", "hr", "--train", "/nowhere/x.jsonl")
    assert (refused.code, refused.err) == (
        1,
        "error: /nowhere/x.jsonl: No such file or directory\n",
    )


def test_logs_follow_a_job_until_it_fails_and_then_exit_1(
    cli: Cli, world: World, rows: Path
) -> None:
    created = cli("jobs", "create", "--unit", "hr", "--train", str(rows), "--json").json
    job_id = JobId(created["id"])
    registry = world.runtime.registry

    def trainer() -> None:
        for step in range(1, 4):
            time.sleep(0.4)
            registry.jobs.say(job_id, f"did {step}")
        error = JobError(code="invalid_training_file", message="line 3: not JSON")
        registry.jobs.accept(job_id, error=error)

    thread = threading.Thread(target=trainer)
    thread.start()
    followed = cli("logs", job_id, "--follow")
    thread.join()
    assert followed.code == 1
    told = [line.partition("  ")[2] for line in followed.out.splitlines()]
    assert told == ["Created fine-tuning job", "did 1", "did 2", "did 3"]
    lines = [json.loads(line) for line in cli("logs", job_id, "--json").out.splitlines()]
    assert [line["message"] for line in lines] == told
    assert "invalid_training_file: line 3" in cli("jobs", "show", job_id).out


def test_logs_page_through_more_events_than_a_page_holds(
    cli: Cli, world: World, rows: Path
) -> None:
    job = cli("jobs", "create", "--unit", "hr", "--train", str(rows), "--json").json
    for number in range(230):
        world.runtime.registry.jobs.say(JobId(job["id"]), f"event {number}", level="warn")
    told = cli("logs", job["id"]).out.splitlines()
    assert len(told) == 231
    assert told[1].endswith("warn: event 0")
    assert told[-1].endswith("warn: event 229")


def test_status_tells_what_is_loaded(cli: Cli, world: World) -> None:
    world.publish("support")
    cli("promote", "support", "1")
    shown = cli("status")
    assert shown.code == 0
    assert "support:1" in shown.out
    assert cli("status", "--json").json["ready"] is True


def test_an_admins_status_tells_how_slots_are_given_out_and_who_is_suspected(
    world: World, capsys: pytest.CaptureFixture[str]
) -> None:
    told = world.http("admin").get("/v1/status").json()
    slots = told["slots"]
    assert slots["slots"] == world.engine.limits["max_cpu_loras"]
    given = [slots[use] for use in ("routes", "moving", "rollback", "warm")]
    assert sum(given) == slots["slots"]
    assert told["quarantine"] == []
    assert run(app, ["status", "--url", world.url, "--state", str(world.settings.state)]) == 0
    assert f"{slots['routes']} of {slots['slots']} by routes" in capsys.readouterr().out
    assert not {"slots", "quarantine"} & world.http("hr").get("/v1/status").json().keys()


def test_status_names_live_versions_that_cannot_be_served_to_those_who_may_see_them(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    state = tmp_path / "state"
    with offline(state) as before:
        before.make_live(before.publish("support", base=Digest("c" * 64)))
    with running(state) as world:
        told = []
        for owner in ("admin", "hr"):
            capsys.readouterr()
            run(app, ["status", "--url", world.url, "--key", world.key(owner)])
            told.append(capsys.readouterr().out)
        code = run(app, ["status", "--url", world.url, "--key", world.key("admin")])
        assert (code, "train each alias anew" in capsys.readouterr().err) == (1, True)
        checks = world.http(None).get("/readyz").json()["checks"]
        assert checks["base"] == "every live version was trained on another base model"
    assert re.search(r"cannot be served +support \(support:1: base_mismatch\)", told[0])
    assert "support:1" not in told[1]


def test_retire_withdraws_a_version_and_says_why_not(cli: Cli, world: World) -> None:
    for _ in range(2):
        world.publish("support")
    cli("promote", "support", "1")
    assert "support:2 is retired" in cli("retire", "support", "2").out
    refused = cli("retire", "support", "support:1")
    assert (refused.code, "version_live" in refused.err) == (1, True)


def test_replicas_are_listed_and_one_that_is_heard_is_not_retired(cli: Cli, world: World) -> None:
    listed = cli("replicas", "list", "--json").json
    assert [(each["ready"], each["reporting"]) for each in listed] == [(True, True)]
    assert listed[0]["id"] in cli("replicas", "list").out
    refused = cli("replicas", "retire", listed[0]["id"])
    assert (refused.code, "replica_reporting" in refused.err) == (1, True)
    unit = cli("replicas", "list", "--key", world.key("hr"))
    assert (unit.code, "insufficient_permissions" in unit.err) == (1, True)


def test_chat_prints_the_answer_of_the_live_version(cli: Cli, world: World) -> None:
    world.publish("support")
    cli("promote", "support", "1")
    assert cli("chat", "support", "hello").out == "answer of support:1\n"


def test_a_wrong_key_is_told_where_to_get_one(cli: Cli) -> None:
    refused = cli("adapters", "list", "--key", "wr-wrong")
    assert refused.code == 1
    assert "--key or WARDROBE_KEY" in refused.err
    assert "wr-wrong" not in refused.err


def test_no_key_at_all_names_the_folder_that_was_looked_in(cli: Cli, tmp_path: Path) -> None:
    refused = cli("status", "--state", str(tmp_path / "empty"), connect=False)
    assert refused.code == 1
    assert one_line(refused.err)
    assert str(tmp_path / "empty" / "keys.json") in refused.err


def test_nothing_listening_says_how_to_start_it(cli: Cli) -> None:
    refused = cli(
        "status", "--url", f"http://127.0.0.1:{free_port()}", "--key", "x" * 20, connect=False
    )
    assert refused.code == 1
    assert one_line(refused.err)
    assert "wardrobe up" in refused.err


@pytest.mark.parametrize(
    "words",
    [
        ("frobnicate",),
        ("jobs",),
        ("jobs", "list", "--limit", "0"),
        ("promote", "support"),
        ("promote", "support", "8", "--wait", "nan"),
        ("promote", "support", "8", "--canary", "5,25", "--minutes", "inf"),
        ("promote", "support", "8", "--canary", "nan", "--key", "x" * 20),
        ("canary", "weight", "support", "nan"),
        ("shadow", "start", "support", "8", "--share", "nan"),
        ("keys", "rotate", "key_0123456789abcdef", "--overlap-hours", "nan"),
        ("data", "check", __file__, "--unit", "hr", "--price-per-hour", "inf"),
        ("data", "check", __file__, "--unit", "hr", "--method", "guess"),
    ],
)
def test_a_wrong_command_line_is_one_line_with_exit_code_2(
    capsys: pytest.CaptureFixture[str], words: tuple[str, ...]
) -> None:
    assert run(app, list(words)) == 2
    said = capsys.readouterr().err
    assert one_line(said)
    assert "--help`." in said


@pytest.mark.parametrize(
    "url",
    [
        "http://host:80a",
        "localhost:8000",
        "http://",
        "http://[::1",
        "http://a..b",
        "http://a:99999",
    ],
)
def test_an_address_that_is_none_is_one_line_with_exit_code_2(cli: Cli, url: str) -> None:
    refused = cli("status", "--url", url, "--key", "x" * 20, connect=False)
    assert refused.code == 2
    assert one_line(refused.err)
    assert "--url" in refused.err


def test_bytes_that_are_no_text_are_one_line_with_exit_code_2(cli: Cli) -> None:
    refused = cli("chat", BASE, os.fsdecode(b"\xff"))
    assert refused.code == 2
    assert one_line(refused.err)


@contextmanager
def answering(page: bytes, tls: ssl.SSLContext | None = None) -> Iterator[str]:
    """The address of a web server that gives everybody this page."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            self.do_GET()

        def do_GET(self) -> None:
            self.rfile.read(int(self.headers.get("content-length", 0)))
            self.send_response(200)
            kind = "application/json" if page.startswith(b"{") else "text/html"
            self.send_header("content-type", kind)
            self.send_header("content-length", str(len(page)))
            self.end_headers()
            self.wfile.write(page)

        def log_message(self, format: str, *args: object) -> None:
            """Says nothing."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        if tls is not None:
            server.socket = tls.wrap_socket(server.socket, server_side=True)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"{'http' if tls is None else 'https'}://127.0.0.1:{server.server_port}"
        server.shutdown()


@pytest.mark.parametrize(
    "page", [b"<html>hello</html>", b'{"object": "list"}'], ids=["page", "json"]
)
@pytest.mark.parametrize(
    "words",
    [
        ("status",),
        ("adapters", "list"),
        ("audit", "list"),
        ("jobs", "list"),
        ("jobs", "show", "ftjob-1"),
        ("jobs", "cancel", "ftjob-1"),
        ("jobs", "check", "--train", __file__),
        ("logs", "ftjob-1", "--follow"),
        ("chat", "support", "hi"),
    ],
)
def test_another_service_at_the_address_is_told_from_ours(
    cli: Cli, words: tuple[str, ...], page: bytes
) -> None:
    with answering(page) as url:
        refused = cli(*words, "--url", url, "--key", "x" * 20, connect=False)
    assert refused.code == 1
    assert one_line(refused.err)
    assert "not Wardrobe" in refused.err


def test_a_certificate_that_does_not_count_is_told_from_nothing_listening(
    cli: Cli, tmp_path: Path
) -> None:
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    tls.load_cert_chain(*write_pair(tmp_path, "another.example"))
    with answering(b"", tls) as url:
        refused = cli("status", "--url", url, "--key", "x" * 20, connect=False)
    assert refused.code == 1
    assert one_line(refused.err)
    assert "certificate" in refused.err
    assert "WARDROBE_SERVICE_CA" in refused.err


def test_a_certificate_counts_whose_authority_is_named(
    cli: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pair = write_pair(tmp_path, "localhost")
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    tls.load_cert_chain(*pair)
    monkeypatch.setenv("WARDROBE_SERVICE_CA", str(pair[0]))
    with answering(b"<html>hello</html>", tls) as url:
        by_name = url.replace("127.0.0.1", "localhost")
        heard = cli("status", "--url", by_name, "--key", "x" * 20, connect=False)
    assert "is not Wardrobe" in heard.err, "it was believed, and read"


def test_an_authority_that_cannot_be_read_is_one_line(
    cli: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "ca.crt").write_text("no certificate")
    monkeypatch.setenv("WARDROBE_SERVICE_CA", str(tmp_path / "ca.crt"))
    refused = cli("status", "--key", "x" * 20)
    assert refused.code == 1
    assert one_line(refused.err)
    assert "WARDROBE_SERVICE_CA" in refused.err


@pytest.mark.parametrize("key", ["schlüssel-geheim", "two\nlines-geheim"])
def test_a_key_of_other_characters_is_one_line_that_does_not_repeat_it(cli: Cli, key: str) -> None:
    refused = cli("status", "--key", key)
    assert refused.code == 2
    assert one_line(refused.err)
    assert "geheim" not in refused.err


@pytest.mark.parametrize(
    "words",
    [
        ("keys", "list"),
        ("keys", "revoke", "key_0123456789abcdef"),
        ("audit", "head"),
        ("audit", "verify"),
        ("signatures", "check"),
    ],
)
def test_a_registry_that_is_not_there_is_named_and_none_is_made(
    cli: Cli, tmp_path: Path, words: tuple[str, ...]
) -> None:
    empty = tmp_path / "empty"
    empty.mkdir()
    refused = cli(*words, "--state", str(empty), connect=False)
    assert refused.code == 1
    assert one_line(refused.err)
    assert str(empty) in refused.err
    assert list(empty.iterdir()) == []


def test_a_wrong_setting_is_named_with_exit_code_2() -> None:
    done = wardrobe("units", "list", WARDROBE_PORT="eighty")
    assert done.returncode == 2
    assert done.stderr.startswith("error: WARDROBE_PORT: ")
    assert done.stderr.count("\n") == 1


def test_units_check_prints_all_problems_at_once(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "a.yaml").write_text("unit: Bad Name\naliases: []\n")
    (tmp_path / "b.yaml").write_text("unit: ok\naliases: [ok]\nrecipe: {rank: -1}\n")
    assert run(app, ["units", "check", "--units", str(tmp_path)]) == 1
    said = capsys.readouterr().err
    assert all(
        part in said for part in ("a.yaml: unit:", "a.yaml: aliases:", "b.yaml: recipe.rank:")
    )
    assert run(app, ["units", "check", "--units", str(tmp_path), "--json"]) == 1
    found = json.loads(capsys.readouterr().out)
    assert found["ok"] is False
    assert len(found["problems"]) == 3


def test_a_key_that_is_revoked_here_is_refused_by_the_running_service(
    world: World, capsys: pytest.CaptureFixture[str]
) -> None:
    state = ("--state", str(world.settings.state))
    assert run(app, ["keys", "list", "--json", *state]) == 0
    listed = json.loads(capsys.readouterr().out)
    assert [(each["role"], each["unit"]) for each in listed] == [
        ("admin", None),
        ("trainer", None),
        *(("unit", unit) for unit in ("hr", "sales", "support")),
    ]
    (hr,) = [each["id"] for each in listed if each["unit"] == "hr"]
    client = world.http("hr")
    assert client.get("/v1/models").status_code == 200
    assert run(app, ["keys", "revoke", hr, *state]) == 0
    deadline = time.monotonic() + 5
    while client.get("/v1/models").status_code == 200 and time.monotonic() < deadline:
        time.sleep(0.05)
    assert client.get("/v1/models").status_code == 401
    assert world.http("sales").get("/v1/models").status_code == 200
    capsys.readouterr()
    assert run(app, ["keys", "list", *state]) == 0
    assert hr not in capsys.readouterr().out
    assert run(app, ["keys", "revoke", "key_unknown", *state]) == 1
    assert one_line(capsys.readouterr().err)


def test_keys_are_those_of_the_database_that_the_settings_name(
    postgres: PostgresServer, tmp_path: Path
) -> None:
    address = postgres.new_database()
    with closing(open_registry(address)) as registry:
        pepper = find_pepper(Settings(state=tmp_path))
        registry.keys.check_pepper(fingerprint_of(pepper))
        keys = [make_key(Role.UNIT, Unit(unit), pepper=pepper)[1] for unit in ("hr", "sales")]
        registry.keys.add(keys)

    def said(*words: str) -> str:
        done = wardrobe("keys", *words, WARDROBE_DATABASE_URL=address)
        assert done.returncode == 0, done.stderr
        return done.stdout

    assert [each["id"] for each in json.loads(said("list", "--json"))] == [k.id for k in keys]
    assert said("revoke", keys[0].id) == f"{keys[0].id} is revoked\n"
    assert "1 keys are revoked" in said("reset", "--yes")
    assert json.loads(said("list", "--json")) == []
    postgres.drop_database(address)


def test_a_key_is_made_rotated_and_ended_from_the_command_line(world: World) -> None:
    where = ("--state", str(world.settings.state))
    units = ("--units", str(world.settings.units))

    def said(*words: str) -> Any:
        done = wardrobe("keys", *words, *where, "--json")
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)

    def answers(key: Any) -> int:
        headers = {"Authorization": f"Bearer {key['secret']}"}
        return httpx2.get(f"{world.url}/v1/models", headers=headers).status_code

    limits = ("--limits", "requests_per_minute=60, tokens_per_day=5000")
    grant = ("--unit", "hr", "--scope", "infer", "--alias", "hr")
    first = said("create", "shop", *grant, *limits, *units)
    assert (first["unit"], first["scopes"], first["aliases"]) == ("hr", ["infer"], ["hr"])
    assert first["limits"] == {"requests_per_minute": 60, "tokens_per_day": 5000}
    second = said("rotate", first["id"], "--overlap-hours", "0")
    assert second["limits"] == first["limits"]
    deadline = time.monotonic() + 10
    while (answers(first), answers(second)) != (401, 200) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert (answers(first), answers(second)) == (401, 200)
    assert second["id"] in {key["id"] for key in said("list")}
    assert first["id"] not in {key["id"] for key in said("list")}


@pytest.mark.parametrize(
    "words",
    [
        ("create", "shop", "--unit", "nothing", "--scope", "infer"),
        ("create", "shop", "--unit", "hr", "--scope", "everything"),
        ("create", "shop", "--unit", "hr", "--scope", "infer", "--alias", "sales"),
        ("create", "shop", "--scope", "infer"),
        ("create", "The Shop", "--unit", "hr", "--scope", "infer"),
        ("create", "shop", "--unit", "hr", "--scope", "infer", "--limits", "sixty"),
        ("create", "shop", "--unit", "hr", "--scope", "train", "--limits", "tokens_per_day=1"),
    ],
)
def test_what_can_be_no_key_is_one_line_and_no_key(world: World, words: tuple[str, ...]) -> None:
    where = ["--state", str(world.settings.state), "--units", str(world.settings.units)]
    before = len(world.runtime.registry.keys.active())
    done = wardrobe("keys", *words, *where)
    assert (done.returncode, done.stdout) == (1, "")
    assert one_line(done.stderr)
    assert len(world.runtime.registry.keys.active()) == before


def test_resetting_the_keys_asks_first(world: World) -> None:
    done = wardrobe("keys", "reset", "--state", str(world.settings.state))
    assert done.returncode == 130  # nobody was there to say yes
    assert world.http("hr").get("/v1/models").status_code == 200


def test_the_admins_key_that_is_brought_is_the_one_commands_act_with(
    world: World, tmp_path: Path
) -> None:
    (tmp_path / "admin-key").write_text(world.key("admin"))
    done = wardrobe(
        *("status", "--json", "--url", world.url, "--state", str(tmp_path / "none")),
        WARDROBE_ADMIN_KEY_FILE=str(tmp_path / "admin-key"),
    )
    assert done.returncode == 0, done.stderr


def test_suspects_of_an_engines_death_are_listed_and_cleared(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    state = StateFolder(tmp_path / "state").create()
    with closing(Quarantine(state.in_flight, key=b"k", alive=lambda: True)) as life:
        life.begin(b"canary5417")
    with closing(QuarantineRecord(state.in_flight)) as record:
        record.settle()

    def call(*words: str, code: int = 0) -> str:
        assert run(app, ["engine", "quarantine", *words, "--state", str(state.root)]) == code
        said = capsys.readouterr()
        return said.err if code else said.out

    (suspect,) = json.loads(call("list", "--json"))
    assert (suspect["deaths"], suspect["refused"]) == (1, False)
    assert suspect["id"] in call("list")
    assert call("clear", suspect["id"], "--reason", "mended") == "cleared: 1\n"
    with closing(open_registry(state.database_url)) as registry:
        (entry,) = registry.audit.list(SYSTEM, Which(), after=None, limit=9).items
    assert (entry.action, entry.reason) == ("quarantine.cleared", "mended")
    assert entry.before == {"requests": 1, "first": [suspect["id"]]}
    assert "no request is suspected" in call("list")
    assert one_line(call("clear", suspect["id"], code=1))
    assert call("clear") == "cleared: 0\n"


def commands_of(group: Any, *before: str) -> Iterator[str]:
    """Every command of the tree, as it is typed."""
    for name, command in group.commands.items():
        if hasattr(command, "commands"):
            yield from commands_of(command, *before, name)
        else:
            yield " ".join((*before, name))


COMMANDS = sorted(commands_of(get_command(app)))


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_has_help_with_an_example(
    capsys: pytest.CaptureFixture[str], command: str
) -> None:
    assert run(app, [*command.split(), "--help"]) == 0
    assert f"wardrobe {command}" in capsys.readouterr().out.split("Example")[1].replace("\n", " ")


def test_the_tree_of_commands_is_walked() -> None:
    assert {"up", "promote", "data erase", "engine quarantine list", "approve"} <= set(COMMANDS)


def test_every_scope_of_a_key_is_in_its_help(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(app, ["keys", "create", "--help"]) == 0
    said = set(re.findall(r"[a-z]+", capsys.readouterr().out))
    assert {scope.value for scope in Scope} <= said


def test_what_is_left_is_told_to_the_nearest_day_hour_or_minute() -> None:
    now = time.time()
    assert [until(now + left) for left in (90 * 86_400, 7200, 300)] == [
        "in 90 d",
        "in 2 h",
        "in 5 min",
    ]


def test_help_imports_nothing_heavy() -> None:
    program = (
        "import sys\nfrom service.cli.app import app\nfrom service.cli.error_messages import run\n"
        "run(app, ['--help'])\n"
        "heavy = {'torch', 'vllm', 'openai', 'pydantic', 'sqlalchemy', 'fastapi', 'transformers'}\n"
        "sys.exit(', '.join(heavy & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.stderr.strip() == ""


def wardrobe(*words: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """The real command in a process of its own."""
    return subprocess.run(
        [sys.executable, "-m", "service.cli", *words],
        capture_output=True,
        text=True,
        env={**os.environ, **environment},
        timeout=60,
    )


def test_output_into_a_closed_pipe_is_no_error() -> None:
    command = f"{sys.executable} -m service.cli units list --json | head -1"
    done = subprocess.run(
        ["bash", "-o", "pipefail", "-c", command], capture_output=True, text=True, timeout=60
    )
    assert (done.returncode, done.stderr) == (0, "")


def test_usage_is_a_table_of_days_or_json(cli: Cli, world: World) -> None:
    assert cli("usage").out == "nothing was used\n"
    world.client().chat.completions.create(model=BASE, messages=[{"role": "user", "content": "hi"}])
    deadline = time.monotonic() + 20
    while "support" not in (told := cli("usage", "--unit", "support").out):
        assert time.monotonic() < deadline
        time.sleep(0.2)
    assert BASE in told
    assert "0.0000 usd" in told
    buckets = cli("usage", "--days", "40", "--json").json
    assert len(buckets) == 40
    assert [each["num_model_requests"] for each in buckets[-1]["results"]] == [1]
    assert cli("usage", "--unit", "hr").out == "nothing was used\n"


def test_a_report_is_written_to_a_file_or_to_the_output(
    cli: Cli, world: World, tmp_path: Path
) -> None:
    world.publish("support")
    page = tmp_path / "report.html"
    assert "is the report of support:1" in cli("report", "support:1", "--out", str(page)).out
    assert page.read_text().startswith("<!doctype html>")
    assert cli("report", "support:1").out.startswith("<!doctype html>")
