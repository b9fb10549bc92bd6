"""Imports and exports over HTTP and on the command line, on a service with a simulated engine."""

from __future__ import annotations

import io
import json
import tarfile
import threading
import tracemalloc
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import httpx2
import pytest

from adapters.domain.names import Alias, JobId, Unit
from adapters.domain.principals import SYSTEM
from adapters.errors import Conflict
from adapters.signatures import Signer, TrustedKeys, public_pem
from adapters.signing_keys import statement_of
from service.cli.app import app
from service.cli.client import Client
from service.cli.error_messages import run
from tests.adapters.admission.archives import an_adapter, an_archive, tarred, zipped
from tests.adapters.admission.tensors import CONFIG
from tests.service.world import World, running
from tests.simulation.engine import BASE

MEBIBYTES = 64


@pytest.fixture(scope="module")
def signed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[World, Signer]]:
    """A service that has a signing key, and so requires signatures."""
    state = tmp_path_factory.mktemp("exchange") / "state"
    state.mkdir()
    signer = Signer.made()
    (state / "signing.pem").write_bytes(signer.to_pem())
    with running(state) as world:
        yield world, signer


@pytest.fixture
def world(signed: tuple[World, Signer]) -> World:
    return signed[0]


def send(
    world: World, archive: bytes, *, alias: str = "support", owner: str = "support"
) -> httpx2.Response:
    with world.http(owner) as http:
        return http.post(f"/v1/adapters/{alias}/versions", files={"file": ("a.tar", archive)})


def test_a_replica_tells_which_keys_must_have_signed(signed: tuple[World, Signer]) -> None:
    world, signer = signed
    (replica,) = world.runtime.registry.replicas.list()
    assert replica.limits["trusted_keys"] == [signer.key_id]


def names_of(world: World) -> list[str]:
    with world.http("support") as http:
        listed = http.get("/v1/adapters/support/versions", params={"limit": 100}).json()
    return [each["id"] for each in listed["data"]]


def fetch(world: World, version: str) -> dict[str, bytes]:
    alias, _, number = version.partition(":")
    with world.http("support") as http:
        answer = http.get(f"/v1/adapters/{alias}/versions/{number}/archive")
    assert (answer.status_code, answer.headers["content-type"]) == (200, "application/x-tar")
    with tarfile.open(fileobj=io.BytesIO(answer.content)) as packed:
        return {m.name: packed.extractfile(m).read() for m in packed}  # type: ignore[union-attr]


def test_an_archive_becomes_a_signed_candidate_of_its_unit(signed: tuple[World, Signer]) -> None:
    world, signer = signed
    answer = send(world, an_archive(config=CONFIG | {"lora_dtype": "bf16"}))
    made = answer.json()
    assert answer.status_code == 200, answer.text
    assert (made["state"], made["unit"], made["rank"]) == ("candidate", "support", 4)
    assert made["evidence"]["import"]["dropped_keys"] == ["lora_dtype"]
    assert made["signed_by"] == signer.key_id
    version = world.runtime.registry.versions.get("support", made["number"], SYSTEM)
    TrustedKeys([signer.public]).check(version.signature, statement_of(version))
    entries = world.http().get(
        "/v1/audit", params={"subject": f"version/{made['id']}", "action": "version.published"}
    )
    (entry,) = entries.json()["data"]
    assert entry["actor"] == made["evidence"]["import"]["by"]


def test_what_is_imported_is_promoted_only_once_it_is_proven(world: World) -> None:
    made = send(world, an_archive()).json()
    assert [(gate["gate"], gate["outcome"]) for gate in made["gates"]] == [
        ("artifact", "passed"),
        ("task", "error"),
    ]
    with world.http("support") as http:
        refused = http.post("/v1/adapters/support/promote", json={"version": made["number"]})
    assert (refused.status_code, refused.json()["error"]["code"]) == (409, "version_unproven")


def test_where_there_is_a_test_part_its_gates_wait_for_the_evaluation(world: World) -> None:
    registry, client = world.runtime.registry, world.client("hr")
    line = (
        b'{"messages": [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]}\n'
    )
    file = client.files.create(file=("x.jsonl", line * 12), purpose="fine-tune")
    job = client.fine_tuning.jobs.create(model=BASE, training_file=file.id)
    registry.jobs.accept(JobId(job.id), error=None)
    claimed = registry.jobs.claim(owner="t", lease_seconds=60)
    assert claimed is not None
    assert claimed.lease is not None
    registry.datasets.record(claimed.id, "d" * 64, fence=claimed.lease.fence)  # type: ignore[arg-type]
    made = send(world, an_archive(), alias="hr", owner="hr").json()
    assert made["gates"] == []
    version = registry.versions.get("hr", made["number"], SYSTEM)
    with pytest.raises(Conflict) as raised:
        registry.rollouts.promote(
            Alias("hr"), version.id, SYSTEM, unit=Unit("hr"), expected_generation=None
        )
    assert raised.value.reason == "version_unproven"
    assert "wardrobe adapters evaluate" in raised.value.message


def test_an_export_imported_again_is_the_same_artifact_to_the_last_byte(world: World) -> None:
    card = {"README.md": b"---\nlibrary_name: peft\n---\n# made elsewhere\n"}
    first = send(world, zipped(an_adapter() | card)).json()
    exported = fetch(world, first["id"])
    assert exported["README.md"] == card["README.md"]
    second = send(world, tarred(exported)).json()
    assert second["id"] != first["id"]
    assert second["digest"] == first["digest"]
    again = fetch(world, second["id"])
    artifact = ("README.md", "adapter_config.json", "adapter_model.safetensors", "manifest.json")
    assert {name: again[name] for name in artifact} == {name: exported[name] for name in artifact}


@pytest.mark.parametrize(
    ("archive", "code", "said"),
    [
        (b"no archive at all", "adapter_files", "send a zip"),
        (an_archive(config=CONFIG | {"use_dora": True}), "adapter_config", "use_dora"),
        (an_archive(config=CONFIG | {"r": 512}), "adapter_rank", "rank 512"),
        (tarred({"adapter_config.json": b"{}", "adapter_model.bin": b""}), "adapter_files",
         "a pickle"),
    ],
)  # fmt: skip
def test_what_cannot_be_served_is_refused_with_the_reason_and_leaves_nothing(
    world: World, archive: bytes, code: str, said: str
) -> None:
    before = names_of(world)
    answer = send(world, archive)
    error = answer.json()["error"]
    assert (answer.status_code, error["code"]) == (409, code)
    assert said in error["message"]
    assert names_of(world) == before


def test_a_form_that_says_something_else_is_refused(world: World) -> None:
    with world.http("support") as http:
        path = "/v1/adapters/support/versions"
        nothing = http.post(path, files={"another": ("a.tar", b"x")})
        words = http.post(path, data={"file": "words"}, files={})
    assert nothing.json()["error"]["code"] == "unknown_parameter"
    assert words.json()["error"]["param"] == "file"


def test_what_was_retired_is_not_exported(world: World) -> None:
    made = send(world, an_archive()).json()
    with world.http("support") as http:
        path = f"/v1/adapters/support/versions/{made['number']}"
        assert http.post(f"{path}/retire").status_code == 200
        assert http.get(f"{path}/archive").json()["error"]["code"] == "version_retired"


def test_a_process_without_the_key_imports_nothing_that_nobody_would_load(
    tmp_path: Path,
) -> None:
    trusted = tmp_path / "trusted.pem"
    trusted.write_bytes(public_pem(Signer.made().public))
    with running(tmp_path / "state", trusted_keys=trusted) as world:
        answer = send(world, an_archive())
    assert (answer.status_code, answer.json()["error"]["code"]) == (409, "signing_key_missing")


# -- the command line


def wardrobe(world: World, capsys: pytest.CaptureFixture[str], *words: str) -> tuple[int, str, str]:
    capsys.readouterr()
    code = run(app, [*words, "--url", world.url, "--state", str(world.settings.state)])
    said = capsys.readouterr()
    return code, said.out, said.err


def last_json(out: str) -> dict[str, Any]:
    """Behind what the service of this process has logged."""
    found: dict[str, Any] = json.loads(out[out.index("\n{\n") if "\n{\n" in out else 0 :])
    return found


def test_a_folder_is_imported_and_exported_by_command(
    world: World, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    source = tmp_path / "outputs"
    source.mkdir()
    for name, content in (an_adapter() | {"optimizer.pt": b"\x80"}).items():
        (source / name).write_bytes(content)
    code, out, err = wardrobe(world, capsys, "import", str(source), "--unit", "support", "--json")
    assert code == 0, err
    made = last_json(out)
    assert (made["adapter"], made["evidence"]["import"]["files_left"]) == ("support", 0)
    target = tmp_path / "exported"
    code, out, err = wardrobe(world, capsys, "export", made["id"], str(target))
    assert code == 0, err
    weights = "adapter_model.safetensors"
    assert (target / weights).read_bytes() == (source / weights).read_bytes()
    code, _, err = wardrobe(world, capsys, "export", made["id"], str(target))
    assert code == 2
    assert "is not empty" in err
    code, out, _ = wardrobe(world, capsys, "import", str(target), "--unit", "support", "--json")
    assert last_json(out)["digest"] == made["digest"]
    code, _, err = wardrobe(world, capsys, "import", str(tmp_path), "--unit", "support")
    assert code == 1
    assert "there is no adapter_config.json" in err
    code, _, err = wardrobe(world, capsys, "import", str(target), "--unit", "nobody")
    assert code == 1
    assert "no unit" in err


class Endless(BaseHTTPRequestHandler):
    """A service that sends MEBIBYTES of a version, and never has them all."""

    def do_GET(self) -> None:
        self.send_response(200)
        self.send_header("x-request-id", "req_0")
        self.send_header("Content-Length", str(MEBIBYTES << 20))
        self.end_headers()
        for _ in range(MEBIBYTES):
            self.wfile.write(bytes(1 << 20))

    def log_message(self, format: str, *args: Any) -> None:
        """Says nothing."""


def test_a_version_is_written_as_it_comes_whatever_its_size(tmp_path: Path) -> None:
    with ThreadingHTTPServer(("127.0.0.1", 0), Endless) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        with Client(f"http://127.0.0.1:{server.server_port}", "a-key") as client:
            client.openai.models  # noqa: B018 - its lazy imports are no part of what is measured
            tracemalloc.start()
            try:
                with (tmp_path / "whole").open("wb") as whole:
                    client.archive("support:8", whole)
                _, peak = tracemalloc.get_traced_memory()
            finally:
                tracemalloc.stop()
        server.shutdown()
    assert (tmp_path / "whole").stat().st_size == MEBIBYTES << 20
    assert peak < (MEBIBYTES << 20) / 4
