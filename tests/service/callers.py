"""A service with two units' things in it, and one caller of every kind."""

from __future__ import annotations

import json
import re
import time
from collections.abc import AsyncGenerator, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import httpx2

from adapters.domain.api_keys import make_key
from adapters.domain.names import Alias, Unit
from adapters.domain.principals import OF_A_UNIT, SYSTEM, Role, Scope
from service.gateway.access import ACCESS, Access
from tests.adapters.admission.archives import an_archive
from tests.service.world import World, running
from tests.simulation.client import LocalClient, RequestOutput
from tests.simulation.core import Core
from tests.simulation.engine import BASE, SimulatedEngine

LINE = b'{"messages": [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]}\n'
OWN, FOREIGN = "support", "sales"
MARK = "saleswords7719"
"""Stands in the names of the other unit's things."""
EVERYTHING = frozenset(Scope)


class CountedClient(LocalClient):
    """An engine's client that counts what it is asked."""

    calls = 0

    async def generate(self, *args: Any, **kwargs: Any) -> AsyncGenerator[RequestOutput, None]:
        self.calls += 1
        async for output in super().generate(*args, **kwargs):
            yield output


@dataclass(frozen=True)
class Caller:
    """Somebody with a credential, or without."""

    name: str
    secret: str | None
    unit: str | None = None
    """None of those that see every unit, or none."""
    scopes: frozenset[Scope] | None = None
    """None of those who are nobody here."""
    aliases: frozenset[str] | None = None

    @property
    def known(self) -> bool:
        return self.scopes is not None

    def sees(self, unit: str) -> bool:
        """Whether that unit's things are there for this caller."""
        return self.unit in (None, unit)


@dataclass
class Scene:
    """The service, what the two units have in it, and who calls."""

    world: World
    engine: SimulatedEngine
    things: Mapping[str, Mapping[str, str]]
    """Unit → variable of a template → its value, as `nothing` has them too."""
    callers: list[Caller]
    http: httpx2.Client
    opened: dict[str, httpx2.Client] = field(default_factory=dict)

    @property
    def engine_calls(self) -> int:
        client = self.engine.client
        assert isinstance(client, CountedClient)
        return client.calls

    def path(self, row: Access, unit: str) -> str:
        """The row's path to a thing of this unit."""
        return re.sub(r"\{(\w+)\}", lambda name: self.things[unit][name[1]], row.template)

    def ask(self, caller: Caller, row: Access, unit: str) -> httpx2.Response:
        """The row's request about a thing of this unit, with a body that is in order."""
        headers = {} if caller.secret is None else {"Authorization": f"Bearer {caller.secret}"}
        return self.http.request(
            row.method, self.path(row, unit), headers=headers, **self._body(row, unit)
        )

    def _body(self, row: Access, unit: str) -> dict[str, Any]:
        things = self.things[unit]
        if row.method != "POST":
            return {}
        if row.template == "/v1/files":
            return {
                "files": {"file": (f"{unit}.jsonl", LINE * 12)},
                "data": {"purpose": "fine-tune", "x_unit": unit},
            }
        if row.template == "/v1/uploads/{upload_id}/parts":
            return {"files": {"data": ("part", LINE * 12)}}
        if row.template == "/v1/adapters/{alias}/versions":
            return {"files": {"file": ("adapter.tar", an_archive())}}
        seen = {"expected_generation": 0}
        bodies: dict[str, Any] = {
            "/v1/chat/completions": {"model": things["model"], "messages": [_HELLO]},
            "/v1/completions": {"model": things["model"], "prompt": "hello"},
            "/v1/fine_tuning/jobs": {
                "model": BASE, "training_file": things["file_id"], "x_unit": unit,
            },
            "/v1/fine_tuning/checkpoints/{checkpoint}/permissions": {"project_ids": ["hr"]},
            "/v1/uploads": {
                "purpose": "fine-tune", "filename": f"{unit}.jsonl", "bytes": len(LINE * 12),
                "mime_type": "text/jsonl", "x_unit": unit,
            },
            "/v1/uploads/{upload_id}/complete": {"part_ids": [things["part_id"]]},
            "/v1/responses": {"model": things["model"], "input": "hello"},
            "/v1/adapters/{alias}/promote": {"version": 1},
            "/v1/adapters/{alias}/rollback": seen,
            "/v1/adapters/{alias}/abort": seen,
            "/v1/adapters/{alias}/warm": {"version": 1},
            "/v1/adapters/{alias}/canary": {"version": 1, **seen},
            "/v1/adapters/{alias}/canary/weight": {"weight": 10, **seen},
            "/v1/adapters/{alias}/canary/scores": {
                "scores": [{"id": "1", "version": f"{things['alias']}:1", "score": 1.0}]
            },
            "/v1/adapters/{alias}/shadow": {"version": 1, **seen},
            "/v1/adapters/{alias}/shadow/end": seen,
            "/v1/adapters/{alias}/versions/{number}/reject/withdraw": {"actor": "key_0"},
            "/v1/keys": {"name": "another", "unit": unit, "scopes": ["infer"]},
        }  # fmt: skip
        return {"json": bodies.get(row.template, {})}


_HELLO = {"role": "user", "content": "hello"}
NAMES_A_UNIT = ("/v1/files", "/v1/uploads", "/v1/fine_tuning/jobs", "/v1/keys")
ABOUT_THINGS = [
    row
    for row in ACCESS
    if "{" in row.template
    or (row.method == "POST" and row.engines)
    or (row.method == "POST" and row.template in NAMES_A_UNIT)
]
"""Rows whose request names something."""


@contextmanager
def scene(folder: Path) -> Iterator[Scene]:
    """Everything is made, and nothing of it changes by itself."""
    engine = SimulatedEngine(core=Core())
    engine.client = CountedClient(engine.core)
    with running(folder / "state", engine) as world:
        things = {OWN: _things_of(world, OWN), FOREIGN: _things_of(world, FOREIGN)}
        unknown = {"file_id": f"file-{'0' * 24}", "job_id": f"ftjob-{'0' * 24}"}
        unknown |= {"upload_id": f"upload_{'0' * 24}", "part_id": f"part_{'0' * 24}"}
        unknown |= {"checkpoint": "nothing:1", "permission_id": f"cp_{'0' * 24}"}
        unknown |= {"alias": "nothing", "model": "nothing", "number": "1", "replica": "nothing:1"}
        things["nothing"] = unknown | {"key_id": f"key_{'0' * 16}"}
        callers = _callers(world)
        with httpx2.Client(base_url=world.url, timeout=60) as http:
            made = Scene(world, engine, things, callers, http)
            _wait_until_known(made)
            yield made


def _things_of(world: World, unit: str) -> dict[str, str]:
    version = world.publish(unit)
    with world.http(unit) as http:
        promoted = http.post(f"/v1/adapters/{unit}/promote", json={"version": version.number})
        assert promoted.json()["state"] == "complete", promoted.text
    client = world.client(unit)
    name = f"{MARK if unit == FOREIGN else 'own'}.jsonl"
    file = client.files.create(file=(name, LINE * 12), purpose="fine-tune")
    job = client.fine_tuning.jobs.create(model=BASE, training_file=file.id)
    upload = client.uploads.create(
        purpose="fine-tune", filename=name, bytes=len(LINE * 12), mime_type="text/jsonl"
    )
    part = client.uploads.parts.create(upload.id, data=LINE * 12)
    (permission,) = world.runtime.registry.permissions.grant(version.id, [Unit("hr")], SYSTEM)
    kept = client.files.create(file=(name, LINE * 13), purpose="fine-tune")
    _, new = make_key(Role.UNIT, Unit(unit), pepper=world.runtime.pepper)
    world.runtime.registry.keys.add([new])
    assert kept.id != file.id
    return {
        "alias": unit, "model": unit, "number": "1", "file_id": file.id, "job_id": job.id,
        "replica": "nothing:1", "key_id": new.id, "upload_id": upload.id, "part_id": part.id,
        "checkpoint": version.name, "permission_id": permission.id,
    }  # fmt: skip


def _callers(world: World) -> list[Caller]:
    keys, pepper = world.runtime.registry.keys, world.runtime.pepper

    def given(name: str, unit: str | None, scopes: frozenset[Scope], **more: Any) -> Caller:
        role = Role.UNIT if unit else Role.ADMIN
        secret, new = make_key(role, Unit(unit) if unit else None, pepper=pepper)
        (made,) = keys.add([replace(new, scopes=scopes, **more)])
        return Caller(name, secret, unit, made.principal().scopes, more.get("aliases"))

    def ended(name: str, **more: Any) -> Caller:
        return replace(given(name, OWN, OF_A_UNIT, **more), scopes=None)

    revoked = ended("revoked")
    keys.revoke(keys.active()[-1].id, by=SYSTEM)
    trainer = frozenset({Scope.INFER, Scope.BASE})
    return [
        Caller("nobody", None),
        Caller("a stranger", "wr-support-nobody-has-this-key"),
        revoked,
        ended("expired", expires_in=-1.0),
        Caller("admin", world.key("admin"), None, EVERYTHING),
        Caller("trainer", world.key("trainer"), None, trainer),
        Caller("unit", world.key(OWN), OWN, OF_A_UNIT),
        *(given(f"unit, {scope}", OWN, frozenset({scope})) for scope in sorted(OF_A_UNIT)),
        given("unit, another alias", OWN, OF_A_UNIT, aliases=frozenset({Alias("triage")})),
        given("scraper", None, frozenset({Scope.METRICS})),
    ]


def _wait_until_known(made: Scene) -> None:
    row = next(row for row in ACCESS if row.template == "/v1/replicas")
    deadline = time.monotonic() + 20
    for caller in made.callers:
        while (made.ask(caller, row, OWN).status_code == 401) is caller.known:
            assert time.monotonic() < deadline, caller.name
            time.sleep(0.05)


def error_of(answer: httpx2.Response) -> dict[str, Any]:
    """The envelope's content. Fails where an error comes in another form."""
    document = json.loads(answer.content)
    assert set(document) == {"error"}
    assert set(document["error"]) == {"message", "type", "param", "code"}
    found: dict[str, Any] = document["error"]
    return found
