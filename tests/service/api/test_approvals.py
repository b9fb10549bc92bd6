"""Approvals over HTTP and on the command line, in a unit that asks for two people."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path

import pytest

from adapters.domain.api_keys import make_key
from adapters.domain.names import Unit
from adapters.domain.principals import Role, Scope
from service.cli.app import app
from service.cli.error_messages import run
from tests.service.world import World, running, write_units


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    write_units(tmp_path / "units", {"support": "gates: {approval: second_person}\n"})
    with running(tmp_path / "state") as made:
        yield made


def test_a_version_is_promoted_once_a_second_person_has_approved_it(
    world: World, capsys: pytest.CaptureFixture[str]
) -> None:
    world.publish("support")
    with world.http("support") as http:

        def asked(path: str, body: Mapping[str, object]) -> tuple[int, str]:
            answer = http.post(f"/v1/adapters/support/{path}", json=body)
            said = answer.json()
            return answer.status_code, (said.get("error") or {}).get("code") or said["object"]

        assert asked("promote", {"version": 1}) == (409, "approval_missing")
        canary = {"version": 1, "expected_generation": 0}
        assert asked("canary", canary)[0] == 409
        assert asked("versions/1/reject", {"reason": "it is rude"}) == (200, "adapter.approval")
        assert asked("promote", {"version": 1}) == (409, "version_disapproved")
        where = ("--url", world.url, "--state", str(world.settings.state))
        key = ("--key", world.key("support"))
        assert run(app, ["approve", "support:1", "--reason", "it is kind", *key, *where]) == 0
        assert "support:1 is approved by" in capsys.readouterr().out
        assert asked("versions/1/reject", {"reason": "it is rude"}) == (200, "adapter.approval")
        withdrawal = {"actor": "key_0", "reason": "it is not"}
        assert asked("versions/1/reject/withdraw", withdrawal)[0] == 403
        (rejecter,) = (
            each["actor"]
            for each in world.http().get("/v1/audit").json()["data"][:1]
            if each["action"] == "version.disapproved"
        )
        gone = ("--withdraw", rejecter, "--reason", "has left", *where)
        assert run(app, ["reject", "support:1", *gone]) == 0
        assert "support:1 is rejected by nobody" in capsys.readouterr().out
        assert run(app, ["approve", "support:1", "--reason", "it is kind", *key, *where]) == 0
        assert asked("promote", {"version": 1}) == (200, "adapter.rollout")
    entries = world.http().get("/v1/audit", params={"subject": "version/support:1"}).json()["data"]
    told = [(each["action"], each["reason"]) for each in entries if "approved" in each["action"]]
    assert told == [
        ("version.approved", "it is kind"),
        ("version.disapproved", "it is rude"),
        ("version.approved", "it is kind"),
        ("version.disapproved", "it is rude"),
    ]


def test_who_may_approve_needs_nothing_else_and_who_may_promote_may_not_approve(
    world: World,
) -> None:
    world.publish("support")
    statuses = []
    for scope in (Scope.APPROVE, Scope.PROMOTE):
        secret, new = make_key(Role.UNIT, Unit("support"), pepper=world.runtime.pepper)
        world.runtime.registry.keys.add([replace(new, scopes=frozenset({scope}))])
        with world.http(None) as http:
            headers = {"Authorization": f"Bearer {secret}"}
            while (
                answer := http.post("/v1/adapters/support/versions/1/approve", headers=headers)
            ).status_code == 401:
                time.sleep(0.05)  # until the key is known
            statuses.append(answer.status_code)
    assert statuses == [200, 403]
