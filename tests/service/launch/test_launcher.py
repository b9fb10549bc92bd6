"""`wardrobe up` as a process: what it refuses, what it says, how it ends."""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
import socket
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx2
import pytest

from adapters.errors import Conflict, InvalidRequest
from adapters.registry.open import open_registry
from adapters.settings import Settings
from adapters.state_folder import StateFolder
from service.engine.listener import check_port
from service.launch.base_resolver import resolve_base
from service.launch.child_process import descendants, processes, tail
from service.launch.launcher import installed_engine, is_ready, with_base
from tests.service.test_cli import one_line, wardrobe
from tests.service.world import World, free_port, write_units

# answers as ready, makes keys on its first start, leaves a socket, and prints its own number
SERVICE = """
import http.server, json, os, pathlib
from adapters.state_folder import StateFolder
from service.engine.listener import inherited_listener
from service.engine.vital_signs import VitalSigns
state = StateFolder(pathlib.Path(os.environ["WARDROBE_STATE"]))
temporary = state.temporary
temporary.mkdir(exist_ok=True)
temporary.joinpath("socket").touch()
keys = pathlib.Path(os.environ["WARDROBE_STATE"], "keys.json")
if not keys.exists():
    keys.write_text(json.dumps({"admin": "wr-admin-1", "units": {"hr": "wr-hr-1"}}))
    keys.with_name("trainer.key").write_text("wr-trainer-1")
print(os.getpid(), os.environ["WARDROBE_BASE"], os.environ["WARDROBE_BASE_NAME"], flush=True)
class Ready(http.server.BaseHTTPRequestHandler):
    def log_message(self, *words):
        pass
    def do_GET(self):
        self.send_response(200)
        self.end_headers()
        self.wfile.write(json.dumps({"instance": os.environ.get("WARDROBE_INSTANCE")}).encode())
server = http.server.HTTPServer(("127.0.0.1", 0), Ready, bind_and_activate=False)
server.socket = inherited_listener()
signs = VitalSigns(state.vital_signs)
signs.accept()
server.serve_forever()
"""
# prints which variables with keys it was given
TRAINER = """
import os, time
times = ("_DAYS", "_SECONDS")
keys = (name for name in os.environ if "_KEY" in name and not name.endswith(times))
print(*sorted(keys), flush=True)
time.sleep(600)
"""
UP = """
import sys
from adapters.settings import Settings
from service.launch.launcher import up
programs = {"service": ["-c", sys.argv[1]], "trainer": ["-c", sys.argv[2]]}
show_keys = sys.argv[3] == "show keys"
sys.exit(up(Settings(), lambda line: print(line, flush=True), trainer=True, show_keys=show_keys,
            programs=programs))
"""


@pytest.fixture
def environment(tmp_path: Path) -> dict[str, str]:
    """A units folder, a base model's folder, a free port."""
    write_units(tmp_path / "units")
    (tmp_path / "tiny").mkdir()
    (tmp_path / "tiny" / "config.json").write_text("{}")
    return {
        "WARDROBE_STATE": str(tmp_path / "state"),
        "WARDROBE_UNITS": str(tmp_path / "units"),
        "WARDROBE_BASE": str(tmp_path / "tiny"),
        "WARDROBE_PORT": str(free_port()),
        "WARDROBE_DRAIN_SECONDS": "1",
    }


def wait_until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.05)


class Up:
    """A running `up` around a small service and trainer."""

    def __init__(
        self, environment: dict[str, str], *, service: str = SERVICE, keys: str = "show keys"
    ) -> None:
        self.out = Path(environment["WARDROBE_STATE"]).with_name(f"up-{time.monotonic_ns()}.log")
        self.logs = Path(environment["WARDROBE_STATE"]) / "logs"
        with self.out.open("wb") as file:
            self.popen = subprocess.Popen(
                [sys.executable, "-c", UP, service, TRAINER, keys],
                env={**os.environ, **environment},
                stdout=file,
                stderr=subprocess.STDOUT,
            )

    def wait_for(self, text: str, times: int = 1) -> str:
        wait_until(lambda: len(re.findall(re.escape(text), self.out.read_text())) >= times)
        return self.out.read_text()

    def service(self) -> list[str]:
        return tail(self.logs / "service.log", 1)[0].split()

    def stop(self) -> int:
        self.popen.send_signal(signal.SIGINT)
        return self.popen.wait(timeout=30)


@pytest.fixture
def up(environment: dict[str, str]) -> Iterator[Up]:
    started = Up(environment)
    yield started
    if started.popen.poll() is None:
        for pid in descendants({started.popen.pid}) | {started.popen.pid}:
            os.kill(pid, signal.SIGKILL)
        started.popen.wait(timeout=10)


def test_it_tells_when_it_is_ready_and_shows_new_keys_once(
    up: Up, environment: dict[str, str]
) -> None:
    said = up.wait_for("for its owner only")
    assert f"http://127.0.0.1:{environment['WARDROBE_PORT']}/v1" in said
    assert all(key in said for key in ("wr-admin-1", "wr-hr-1"))
    assert "wr-trainer-1" not in said, "nobody but the trainer needs it"
    everything = descendants({up.popen.pid}) - {up.popen.pid}
    assert up.stop() == 0
    assert len(everything) == 3, "the fallback server, the service and the trainer"
    assert not everything & processes().keys()

    again = Up(environment)
    said = again.wait_for("keys are in")
    assert again.stop() == 0
    assert "wr-admin-1" not in said
    assert str(Path(environment["WARDROBE_STATE"]) / "keys.json") in said


def test_where_its_output_is_kept_it_says_where_the_keys_are_and_shows_none(
    environment: dict[str, str],
) -> None:
    started = Up(environment, keys="show none")
    said = started.wait_for("keys are in")
    assert started.stop() == 0
    assert "wr-" not in said


def test_the_processes_get_the_base_as_a_folder_with_its_name(
    up: Up, environment: dict[str, str]
) -> None:
    up.wait_for("ready after")
    assert up.service()[1:] == [environment["WARDROBE_BASE"], "tiny"]


def test_the_trainer_is_given_no_key_but_its_own(environment: dict[str, str]) -> None:
    folder = Path(environment["WARDROBE_STATE"]).parent
    (folder / "admin-key").write_text("a-key-from-a-secret-1")
    brought = {
        "WARDROBE_ADMIN_KEY_FILE": str(folder / "admin-key"),
        "WARDROBE_TRAINER_KEY": "a-key-from-a-secret-2",
        "WARDROBE_KEY": "a-key-from-a-secret-3",
    }
    started = Up(environment | brought)
    started.wait_for("ready after")
    wait_until(lambda: tail(started.logs / "trainer.log", 1) != [])
    assert started.stop() == 0
    assert tail(started.logs / "trainer.log", 1) == ["WARDROBE_TRAINER_KEY"]


def test_the_temporary_files_of_an_engine_that_had_to_be_killed_are_gone_at_a_clean_end(
    environment: dict[str, str],
) -> None:
    temporary = StateFolder(Path(environment["WARDROBE_STATE"])).temporary
    started = Up(environment)
    started.wait_for("ready after")
    assert temporary.is_dir()
    assert started.stop() == 0
    assert not temporary.exists()


@pytest.mark.parametrize(
    ("brought", "complaint"),
    [
        ({"WARDROBE_ADMIN_KEY_FILE": "/nowhere/key"}, "WARDROBE_ADMIN_KEY_FILE: /nowhere/key"),
        ({"WARDROBE_TRAINER_KEY": "a key with spaces"}, "WARDROBE_TRAINER_KEY: a key is"),
        (
            {"WARDROBE_ADMIN_KEY": "one-key-for-both", "WARDROBE_TRAINER_KEY": "one-key-for-both"},
            "the trainer needs a key of its own",
        ),
        (
            {"WARDROBE_DATABASE_URL": "postgresql://nobody@127.0.0.1:1/none"},
            "bring the trainer's key",
        ),
        (
            {
                "WARDROBE_DATABASE_URL": "postgresql://nobody@127.0.0.1:1/none",
                "WARDROBE_TRAINER_KEY": "one-key-for-both",
            },
            "bring the pepper",
        ),
    ],
)
def test_a_brought_key_that_cannot_be_used_is_one_line_before_anything_starts(
    environment: dict[str, str], brought: dict[str, str], complaint: str
) -> None:
    done = wardrobe("up", **environment, **brought)
    assert done.returncode == 1
    assert one_line(done.stderr)
    assert complaint in done.stderr
    assert "one-key-for-both" not in done.stderr


def test_a_killed_service_comes_back_and_is_ready_again(up: Up) -> None:
    up.wait_for("ready after")
    first = int(up.service()[0])
    os.kill(first, signal.SIGKILL)
    up.wait_for("service was ended by SIGKILL; starting it again in 1 s")
    up.wait_for("ready after", times=2)
    assert int(up.service()[0]) != first
    assert up.stop() == 0


def is_fallback(pid: int) -> bool:
    return b"service.launch.fallback_server" in Path(f"/proc/{pid}/cmdline").read_bytes()


def test_while_the_service_is_down_callers_are_answered_and_no_stranger_takes_its_port(
    environment: dict[str, str],
) -> None:
    port = int(environment["WARDROBE_PORT"])
    started = Up(environment, service="import time\ntime.sleep(600)")
    try:
        started.wait_for("logs in")
        answer = httpx2.get(f"http://127.0.0.1:{port}/v1/models", timeout=60, trust_env=False)
        with pytest.raises(Conflict):
            check_port("127.0.0.1", port)
        (fallback,) = (pid for pid in descendants({started.popen.pid}) if is_fallback(pid))
        os.kill(fallback, signal.SIGKILL)
        later = httpx2.get(f"http://127.0.0.1:{port}/v1/models", timeout=60, trust_env=False)
        ready = is_ready(f"http://127.0.0.1:{port}")
    finally:
        ended = started.stop()
    assert ended == 0
    assert (answer.status_code, later.status_code) == (503, 503)
    assert answer.json()["error"]["code"] == "engine_unavailable"
    assert 0 < int(answer.headers["retry-after"]) <= 120
    assert not ready
    assert "ready after" not in started.out.read_text()


def test_a_service_counts_as_ready_only_under_the_name_it_was_started_by(world: World) -> None:
    assert is_ready(world.url)
    assert not is_ready(world.url, instance="ours")


def test_the_real_service_repeats_the_name_it_was_started_by(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WARDROBE_INSTANCE", "ours")
    assert is_ready(world.url, instance="ours")


def newer(path: Path) -> None:
    open_registry(f"sqlite:///{path}").close()
    with contextlib.closing(sqlite3.connect(path)) as database, database:
        database.execute("UPDATE alembic_version SET version_num = '9999'")


def damaged(path: Path) -> None:
    path.write_bytes(b"not a database" * 1000)


@pytest.mark.parametrize("spoil", [newer, damaged])
@pytest.mark.parametrize("command", ["up", "serve"])
def test_a_registry_that_cannot_be_used_is_one_line_and_starts_nothing(
    environment: dict[str, str], command: str, spoil: Callable[[Path], None]
) -> None:
    state = Path(environment["WARDROBE_STATE"])
    state.mkdir()
    spoil(state / "registry.sqlite3")
    refused = wardrobe(command, **environment)
    assert refused.returncode == 1
    assert one_line(refused.stderr), refused.stderr


def test_an_alias_with_the_base_models_name_is_refused_with_words(
    environment: dict[str, str],
) -> None:
    refused = wardrobe("up", **{**environment, "WARDROBE_BASE_NAME": "hr-screening"})
    assert refused.returncode == 1
    assert "hr: aliases: `hr-screening` is the base model's name" in refused.stderr
    assert "Traceback" not in refused.stderr


def test_a_second_up_on_one_state_folder_is_refused(up: Up, environment: dict[str, str]) -> None:
    up.wait_for("ready after")
    refused = wardrobe("up", **{**environment, "WARDROBE_PORT": str(free_port())})
    assert refused.returncode == 1
    assert one_line(refused.stderr)
    assert f"process {up.popen.pid}" in refused.stderr
    assert "choose another folder with --state" in refused.stderr


@pytest.mark.parametrize("command", ["up", "serve"])
def test_a_port_in_use_is_one_line_that_says_what_to_do(
    environment: dict[str, str], command: str
) -> None:
    with socket.create_server(("127.0.0.1", int(environment["WARDROBE_PORT"]))):
        refused = wardrobe(command, **environment)
    assert refused.returncode == 1
    assert one_line(refused.stderr)
    assert f"port {environment['WARDROBE_PORT']} is in use" in refused.stderr
    assert "--port" in refused.stderr


@pytest.mark.parametrize("command", ["up", "serve", "trainer"])
def test_a_units_folder_with_mistakes_starts_nothing(
    environment: dict[str, str], command: str
) -> None:
    folder = Path(environment["WARDROBE_UNITS"])
    (folder / "hr.yaml").write_text("unit: hr\naliases: [hr]\ngates: {promote: maybe}\n")
    (folder / "x.yaml").write_text("unit: [")
    refused = wardrobe(command, **environment)
    assert refused.returncode == 1
    assert "hr.yaml: gates.promote" in refused.stderr
    assert "x.yaml:" in refused.stderr
    assert "Traceback" not in refused.stderr


@pytest.mark.parametrize(
    ("base", "says"),
    [
        ("/nowhere/model", "neither a folder nor a hub id"),
        ("./nowhere", "neither a folder nor a hub id"),
        ("a/b/c", "neither a folder nor a hub id"),
        ("{units}", "holds no config.json"),
        ("nobody/no-such-model", "is not in"),
    ],
)
def test_a_base_that_is_not_there_is_refused_before_anything_starts(
    environment: dict[str, str], base: str, says: str
) -> None:
    given = base.format(units=environment["WARDROBE_UNITS"])
    refused = wardrobe("up", **{**environment, "WARDROBE_BASE": given, "HF_HUB_OFFLINE": "1"})
    assert refused.returncode == 1
    assert one_line(refused.stderr), refused.stderr
    assert says in refused.stderr


def test_a_state_folder_that_cannot_be_made_is_named(environment: dict[str, str]) -> None:
    refused = wardrobe("up", "--state", "/proc/nothing/here", **environment)
    assert refused.returncode == 1
    assert one_line(refused.stderr)
    assert "/proc/nothing" in refused.stderr


def test_a_name_that_is_no_address_is_refused() -> None:
    with pytest.raises(InvalidRequest, match="no address"):
        check_port("no.such.host.invalid", 8000)


def test_a_free_port_is_free_again_after_the_check() -> None:
    port = free_port()
    check_port("127.0.0.1", port)
    check_port("0.0.0.0", port)
    with socket.create_server(("127.0.0.1", port)), pytest.raises(Conflict):
        check_port("127.0.0.1", port)


def test_the_base_keeps_the_name_it_was_given(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text("{}")
    named = Settings(base=str(tmp_path), base_name="llama")
    assert resolve_base(named).name == "llama"
    assert with_base(named).environment()["WARDROBE_BASE_NAME"] == "llama"


def test_the_engine_is_the_one_that_is_installed_unless_another_is_asked_for(
    tmp_path: Path,
) -> None:
    (tmp_path / "config.json").write_text("{}")
    other = "gpu" if installed_engine() == "cpu" else "cpu"
    assert with_base(Settings(base=str(tmp_path))).engine == installed_engine()
    assert with_base(Settings(base=str(tmp_path), engine=other)).engine == other


def test_an_unfinished_lock_file_of_a_dead_process_does_not_stand_in_the_way(
    tmp_path: Path,
) -> None:
    folder = StateFolder(tmp_path / "state").create()
    (folder.root / "up.lock").write_text("4194304")
    with folder.lock("up"):
        assert json.loads((folder.root / "up.lock").read_text()) == os.getpid()
