"""One line for each request, found by the id that its answer carries."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx2
import pytest
from prometheus_client import CollectorRegistry

from adapters.waiting import wait_until
from service.metrics import Metrics
from service.observe.log_target import OLDER, RotatedFile
from service.observe.request_log import MOST_WAITING, ROUND, STRANGERS, RequestLog, Wanted
from service.observe.request_record import RequestRecord
from tests.service.world import World, running
from tests.simulation.engine import BASE

HELLO = [{"role": "user", "content": "hello"}]


@pytest.fixture
def logging_world(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> Iterator[World]:
    with running(tmp_path / "state", request_log="all") as world:
        yield world


def written(world: World) -> str:
    """All lines so far: in these tests standard error is a file."""
    files = world.settings.state_folder.logs.glob("requests-*.log")
    return "".join(file.read_text() for file in files)


def logged(world: World, answer: Any) -> dict[str, Any]:
    """The line of this answer's request; there is one."""
    wanted = answer.headers["x-request-id"]
    # an answer's last byte is out before its end is noted
    assert wait_until(lambda: wanted in written(world), seconds=30.0, every=0.05)
    lines = [json.loads(each) for each in written(world).splitlines() if wanted in each]
    (line,) = lines
    assert line["request_id"] == wanted
    return dict(line)


def test_an_answer_is_found_by_its_request_id(
    logging_world: World,
) -> None:
    body = {"model": BASE, "messages": HELLO, "max_tokens": 3}
    for extra in ({}, {"stream": True}):
        answer = logging_world.http("support").post("/v1/chat/completions", json={**body, **extra})
        line = logged(logging_world, answer)
        assert line["event"] == "request"
        assert (line["method"], line["endpoint"]) == ("POST", "/v1/chat/completions")
        assert (line["status"], line["outcome"], line["unit"]) == (200, "ok", "support")
        assert (line["version"], line["completion_tokens"]) == ("base", 3)
        assert 0 < line["first_byte_seconds"] <= line["seconds"]
        assert line["actor"].startswith("key_")
        assert "code" not in line


@pytest.mark.parametrize(
    ("method", "path", "body", "status", "code", "endpoint"),
    [
        ("POST", "/v1/chat/completions", {"model": BASE}, 400, "invalid", "chat"),
        ("POST", "/v1/chat/completions", {"model": "no", "messages": HELLO}, 404, "model", "chat"),
        ("GET", "/v1/files/file-x", None, 404, "not_found", "/v1/files/{file_id}"),
        ("POST", "/v1/adapters/support/promote", {}, 400, "invalid_request", "{alias}/promote"),
        ("GET", "/tokenize", None, 404, "not_found", ""),
        ("PURGE", "/v1/files/file-x", None, 405, "method_not_allowed", ""),
    ],
)
def test_a_refusal_is_found_by_its_request_id_and_says_why(
    logging_world: World,
    method: str,
    path: str,
    body: dict[str, Any] | None,
    status: int,
    code: str,
    endpoint: str,
) -> None:
    answer = logging_world.http("support").request(method, path, json=body)
    assert answer.status_code == status
    line = logged(logging_world, answer)
    assert (line["status"], line["code"]) == (status, answer.json()["error"]["code"])
    assert code in line["code"]
    assert endpoint in line.get("endpoint", "")
    assert line["method"] == (method if method != "PURGE" else "other")
    assert "file-x" not in str(line)


def test_a_key_that_is_not_known_is_logged_and_a_probe_is_not(
    logging_world: World,
) -> None:
    answer = httpx2.get(f"{logging_world.url}/v1/models")
    line = logged(logging_world, answer)
    assert (line["code"], line.get("actor")) == ("invalid_api_key", None)
    probe = httpx2.get(f"{logging_world.url}/livez")
    logged(logging_world, httpx2.get(f"{logging_world.url}/v1/models"))
    assert probe.headers["x-request-id"] not in written(logging_world)


def test_an_error_within_a_stream_is_logged_with_its_code(
    logging_world: World,
) -> None:
    logging_world.engine.token_seconds = 0.2
    client = logging_world.http("support")
    body = {"model": BASE, "messages": HELLO, "stream": True}
    with client.stream("POST", "/v1/chat/completions", json=body) as answer:
        parts = answer.iter_bytes()
        next(parts)
        logging_world.engine.alive = False
        for _ in parts:
            pass
    line = logged(logging_world, answer)
    assert (line["status"], line["outcome"]) == (200, "engine_error")
    assert line["code"] == "engine_unavailable"


# -- alone


def a_record(number: int = 0, code: str | None = None) -> RequestRecord:
    record = RequestRecord(request_id=f"req_{number}", method="GET", actor="key_1")
    record.end(200 if code is None else 404, code)
    return record


def a_stranger(number: int = 0) -> RequestRecord:
    record = a_record(number, "invalid_api_key")
    record.actor = None
    return record


def a_log(wanted: Wanted = "all") -> tuple[RequestLog, list[str], CollectorRegistry]:
    lines: list[str] = []
    prometheus = CollectorRegistry()
    return RequestLog(wanted, Metrics(prometheus), write=lines.append), lines, prometheus


@pytest.mark.parametrize(("wanted", "told"), [("all", 2), ("refused", 1), ("off", 0)])
async def test_as_much_is_logged_as_is_wanted(wanted: Wanted, told: int) -> None:
    log, written, _ = a_log(wanted)
    log.note(a_record(1))
    log.note(a_record(2, "not_found"))
    await log.step()
    assert "".join(written).count("\n") == told


async def test_lines_are_written_in_rounds_and_those_too_many_are_counted() -> None:
    log, written, prometheus = a_log()
    for number in range(MOST_WAITING + 3):
        log.note(a_record(number))
    assert prometheus.get_sample_value("wardrobe_log_lines_dropped_total") == 3.0
    assert await log.step()
    assert written[0].count("\n") == ROUND
    log.flush()
    lines = "".join(written).splitlines()
    assert [json.loads(line)["request_id"] for line in lines] == [
        f"req_{number}" for number in range(MOST_WAITING)
    ]


async def test_a_stranger_who_sends_very_many_fills_no_disk() -> None:
    log, lines, prometheus = a_log()
    for number in range(STRANGERS + 7):
        log.note(a_stranger(number))
    log.note(a_record(9))
    await log.step()
    assert "".join(lines).count("\n") == STRANGERS + 1
    assert prometheus.get_sample_value("wardrobe_log_lines_dropped_total") == 7.0
    log.note(a_stranger())
    assert len(lines) == 1
    log.flush()
    assert len(lines) == 2, "the next round has room for strangers again"


async def test_a_disk_that_is_full_loses_lines_and_nothing_else() -> None:
    prometheus = CollectorRegistry()

    def refuse(_: str) -> None:
        raise OSError(28, "no space left")

    log = RequestLog("all", Metrics(prometheus), write=refuse)
    log.note(a_record())
    assert await log.step() is False
    assert prometheus.get_sample_value("wardrobe_log_lines_dropped_total") == 1.0


def test_files_of_lines_are_bounded_and_the_oldest_goes(tmp_path: Path) -> None:
    write = RotatedFile(tmp_path / "requests.log", most_bytes=10)
    for number in range(20):
        write(f"line {number:05}\n")
    names = sorted(path.name for path in tmp_path.iterdir())
    assert names == ["requests.log", *(f"requests.log.{n}" for n in range(1, OLDER + 1))]
    kept = [(tmp_path / name).read_text() for name in names]
    assert kept == [f"line {number:05}\n" for number in (19, 18, 17, 16, 15)]


def test_lines_go_to_where_the_process_prints_unless_that_is_a_file(tmp_path: Path) -> None:
    program = (
        "from pathlib import Path; import sys\n"
        "from service.observe.log_target import log_target\n"
        "log_target(Path(sys.argv[1]))('a line\\n')"
    )
    command = [sys.executable, "-c", program, str(tmp_path / "requests.log")]
    piped = subprocess.run(command, capture_output=True, text=True)
    assert (piped.stderr, (tmp_path / "requests.log").exists()) == ("a line\n", False)
    with (tmp_path / "service.log").open("wb") as file:
        subprocess.run(command, stderr=file, check=True)
    assert (tmp_path / "service.log").read_bytes() == b""
    assert (tmp_path / "requests.log").read_text() == "a line\n"
