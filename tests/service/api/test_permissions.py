"""Which other unit may use a version: OpenAI's checkpoint permissions, through the real SDK."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import openai
import pytest

from adapters.domain.names import Unit
from adapters.domain.versions import Version
from tests.service.world import World

HELLO = [{"role": "user", "content": "hello"}]


def permissions(world: World, owner: str = "admin") -> Any:
    return world.client(owner).fine_tuning.checkpoints.permissions


def ask(world: World, model: str, owner: str) -> Any:
    return world.client(owner).chat.completions.create(model=model, messages=HELLO)


def soon(true: Callable[[], bool]) -> None:
    """The route table hears of it with its next look."""
    deadline = time.monotonic() + 20
    while not true():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def may_use(world: World, model: str, owner: str) -> bool:
    try:
        return bool(ask(world, model, owner).model == model)
    except openai.NotFoundError:
        return False


def shared(world: World, unit: str = "sales") -> tuple[Version, Any]:
    """A version of support's that the unit may use, and the permission."""
    version = world.publish("support")
    (permission,) = permissions(world).create(version.name, project_ids=[unit])
    soon(lambda: may_use(world, version.name, unit))
    return version, permission


def test_a_version_answers_the_unit_that_it_is_shared_with_until_that_ends(world: World) -> None:
    version = world.publish("support")
    soon(lambda: world.runtime.table.knows(version.name))
    assert not may_use(world, version.name, "sales")
    (permission,) = permissions(world).create(version.name, project_ids=["sales"])
    assert (permission.object, permission.project_id) == ("checkpoint.permission", "sales")
    soon(lambda: may_use(world, version.name, "sales"))
    assert not may_use(world, version.name, "hr")
    assert may_use(world, version.name, "support")
    card = world.client("sales").models.retrieve(version.name)
    assert card.owned_by == "support"
    assert version.name in {model.id for model in world.client("sales").models.list()}
    gone = permissions(world).delete(permission.id, fine_tuned_model_checkpoint=version.name)
    assert (gone.id, gone.deleted) == (permission.id, True)
    soon(lambda: not may_use(world, version.name, "sales"))
    assert version.name not in {model.id for model in world.client("sales").models.list()}


def test_a_shared_version_is_used_and_nothing_else_of_it_is_seen(world: World) -> None:
    version, _ = shared(world)
    sales = world.client("sales")
    with pytest.raises(openai.NotFoundError):
        sales.models.delete(version.name)
    with pytest.raises(openai.NotFoundError):
        sales.chat.completions.create(model="support", messages=HELLO)
    rows = b'{"prompt": "a", "completion": "b"}\n' * 12
    file = sales.files.create(file=("a.jsonl", rows), purpose="fine-tune")
    with pytest.raises(openai.NotFoundError):
        sales.fine_tuning.jobs.create(model=version.name, training_file=file.id)
    http = world.http("sales")
    for path in ("", "/versions", "/versions/1", "/versions/1/report", "/versions/1/lineage"):
        assert http.get(f"/v1/adapters/support{path}").status_code == 404, path


def test_a_unit_has_a_cache_of_its_own_under_a_shared_version(world: World) -> None:
    version, _ = shared(world)
    table = world.runtime.table
    mine, theirs = (
        table.resolve(version.name, principal_of(world, owner)) for owner in ("support", "sales")
    )
    assert mine.version == theirs.version
    assert mine.salt != theirs.salt
    assert (mine.unit, theirs.unit) == ("support", "sales")


def principal_of(world: World, unit: str) -> Any:
    (found,) = [each for each in world.runtime.table.principals if each.unit == unit]
    return found


def test_a_key_that_names_aliases_is_about_those_alone(world: World) -> None:
    version, _ = shared(world)
    asked = {"name": "shop", "unit": "sales", "scopes": ["infer"], "aliases": ["sales"]}
    secret = world.http().post("/v1/keys", json=asked).json()["secret"]
    client = world.client(api_key=secret)
    soon(lambda: knows(client))
    with pytest.raises(openai.NotFoundError):
        client.chat.completions.create(model=version.name, messages=HELLO)


def knows(client: Any) -> bool:
    try:
        return client.models.list() is not None
    except openai.AuthenticationError:
        return False


def test_only_an_admin_shares_a_version_with_units_that_there_are(world: World) -> None:
    version = world.publish("support")
    with pytest.raises(openai.PermissionDeniedError):
        permissions(world, "support").create(version.name, project_ids=["sales"])
    for project, code in (("nobody", "unit_not_found"), ("support", "invalid_request")):
        with pytest.raises(openai.APIStatusError) as refused:
            permissions(world).create(version.name, project_ids=[project])
        assert (refused.value.code, refused.value.param) == (code, "project_ids")
    for name in ("support:9", "support", "ft:base:org:hr:abc"):
        with pytest.raises(openai.NotFoundError) as unknown:
            permissions(world).create(name, project_ids=["sales"])
        assert unknown.value.code == "model_not_found"


def test_permissions_are_listed_as_openais_are(world: World) -> None:
    version = world.publish("support")
    made = permissions(world).create(version.name, project_ids=["sales", "hr"])
    assert [each.project_id for each in made] == ["sales", "hr"]
    api = permissions(world)
    assert [each.project_id for each in api.list(version.name, limit=1)] == ["hr", "sales"]
    assert [each.project_id for each in api.list(version.name, order="ascending")] == [
        "sales",
        "hr",
    ]
    assert [each.project_id for each in api.list(version.name, project_id="hr")] == ["hr"]
    answer = world.http().get(
        f"/v1/fine_tuning/checkpoints/{version.name}/permissions", params={"order": "asc"}
    )
    assert (answer.status_code, answer.json()["error"]["param"]) == (400, "order")


def test_a_permission_of_another_version_is_not_ended_by_mistake(world: World) -> None:
    (version, permission), other = shared(world), world.publish("support")
    with pytest.raises(openai.NotFoundError):
        permissions(world).delete(permission.id, fine_tuned_model_checkpoint=other.name)
    assert may_use(world, version.name, "sales")
    assert world.runtime.registry.permissions.list(
        version.id, _admin(world), unit=Unit("sales"), after=None, limit=9, newest_first=True
    ).items


def _admin(world: World) -> Any:
    (admin,) = [each for each in world.runtime.table.principals if each.role == "admin"]
    return admin
