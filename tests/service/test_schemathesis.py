"""Our own OpenAPI document against the service itself, by Schemathesis with all of its checks."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from adapters.domain.principals import Scope
from service.api.openapi import document
from service.gateway.access import ACCESS
from tests.service.callers import OWN, Scene, scene

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]

SECONDS = int(os.environ.get("SCHEMATHESIS_SECONDS", "0"))
"""A longer run's; by default each operation gets a few dozen requests."""


def test_the_document_has_every_route_of_ours_and_no_other() -> None:
    told = {
        (method.upper(), path)
        for path, operations in document()["paths"].items()
        for method in operations
    }
    ours = {(row.method, row.template) for row in ACCESS if not row.engines}
    heads = {(method, path) for method, path in ours if method == "HEAD"}
    # HEAD is GET without the body (RFC 9110, 9.3.2): what is told of the one holds for the other
    assert {("GET", path) for _, path in heads} <= told
    assert told == ours - heads


OF_THE_HOUSE = {
    (row.method, row.template)
    for row in ACCESS
    if row.scope in (Scope.ADMIN, Scope.READ, Scope.PROMOTE)
    or row.template.startswith("/v1/adapters/")  # an alias says whose it is
    or row.template == "/v1/models/{model}"  # as does a model's name
}
"""What an admin asks; of files and jobs it must say whose they are, which no schema can ask for."""


@pytest.mark.parametrize("owner", ["admin", OWN])
def test_the_service_does_what_its_document_says(tmp_path: Path, owner: str) -> None:
    whole = document()
    if owner == "admin":
        whole["paths"] = {
            path: {m: op for m, op in operations.items() if (m.upper(), path) in OF_THE_HOUSE}
            for path, operations in whole["paths"].items()
        }
        without_dangling_links(whole["paths"])
    told = tmp_path / "openapi.json"
    told.write_text(json.dumps(whole))
    with scene(tmp_path) as everybody:
        done = schemathesis(everybody, told, owner)
    assert done.returncode == 0, done.stdout[-8000:] + done.stderr[-2000:]
    tested = sum(len(operations) for operations in whole["paths"].values())
    assert f"Tested: {tested}" in done.stdout, done.stdout[-4000:]


def without_dangling_links(paths: dict[str, Any]) -> None:
    """Leads to no operation that was left out."""
    operations = [op for of_path in paths.values() for op in of_path.values()]
    there = {op["operationId"] for op in operations}
    for op in operations:
        links = op["responses"]["200"].get("links", {})
        for name in links.keys() - there:
            del links[name]


def schemathesis(everybody: Scene, told: Path, owner: str) -> subprocess.CompletedProcess[str]:
    """All checks and phases, the same requests each time."""
    bound = ["--max-time", str(SECONDS)] if SECONDS else ["--max-examples", "25"]
    command = [
        *(sys.executable, "-m", "schemathesis.cli", "run", str(told), "--checks", "all"),
        *("--url", everybody.world.url, "--seed", "17", "--workers", "1", "--no-shrink"),
        *("--header", f"Authorization: Bearer {everybody.world.key(owner)}"),
        *("--continue-on-failure", "--request-timeout", "60", "--no-color", *bound),
    ]
    hooks = {"SCHEMATHESIS_HOOKS": "tests.service.schemathesis_hooks"}
    return subprocess.run(
        command, capture_output=True, text=True, env={**os.environ, **hooks}, timeout=840
    )
