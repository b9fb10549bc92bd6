"""The list of models through the real openai SDK."""

from __future__ import annotations

import time

import openai
import pytest

from adapters.domain.versions import Version
from tests.service.world import BASE_CREATED, World
from tests.simulation.engine import BASE

HELLO = [{"role": "user", "content": "hello"}]
LINE = b'{"messages": [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]}\n'


def live(world: World, unit: str) -> Version:
    """A version of `unit`, promoted over HTTP: the table knows it when that is complete."""
    version = world.publish(unit)
    answer = world.http(unit).post(f"/v1/adapters/{unit}/promote", json={"version": version.number})
    assert answer.json()["state"] == "complete", answer.text
    return version


def test_a_unit_sees_the_base_its_versions_and_its_live_aliases(world: World) -> None:
    candidate, served = world.publish("support"), live(world, "support")
    live(world, "hr")
    found = {model.id: model for model in world.client("support").models.list()}
    assert set(found) == {BASE, "support", candidate.name, served.name}
    for name in ("support", served.name):
        assert found[name].created == int(served.created_at) > 0
        assert found[name].model_extra == {"root": served.name, "parent": BASE}
        assert found[name].owned_by == "support"


def test_the_base_says_since_when_it_is_there_and_that_nothing_is_under_it(world: World) -> None:
    (base,) = world.client("support").models.list()
    assert (base.id, base.created, base.owned_by) == (BASE, int(BASE_CREATED), "wardrobe")
    assert base.model_extra == {"root": BASE, "parent": None, "max_model_len": 512}


def test_a_model_is_retrieved_by_alias_version_or_as_the_base(world: World) -> None:
    version = live(world, "support")
    client = world.client("support")
    for name in ("support", version.name, BASE):
        assert client.models.retrieve(name).id == name
    for owner, name in (("support", "nothing"), ("hr", "support"), ("hr", version.name)):
        with pytest.raises(openai.NotFoundError) as refused:
            world.client(owner).models.retrieve(name)
        assert refused.value.code == "model_not_found"


def test_a_long_list_of_models_costs_no_look_at_the_registry(world: World) -> None:
    for _ in range(30):
        world.publish("support")
    newest = live(world, "support")
    world.runtime.registry.close()
    names = {model.id for model in world.client("support").models.list()}
    assert newest.name in names
    assert len(names) == 33


def deleted(world: World, name: str, owner: str = "support") -> bool:
    answer: bool = world.client(owner).models.delete(name).deleted
    return answer


def refused(world: World, name: str, owner: str = "support") -> openai.APIStatusError:
    with pytest.raises(openai.APIStatusError) as raised:
        world.client(owner).models.delete(name)
    return raised.value


def test_a_deleted_model_is_gone_at_once_and_for_good(world: World) -> None:
    version = world.publish("support")
    client = world.client("support")
    wait_for(world, version.name)
    gone = client.models.delete(version.name)
    assert (gone.id, gone.object, gone.deleted) == (version.name, "model", True)
    with pytest.raises(openai.NotFoundError):
        client.models.retrieve(version.name)
    with pytest.raises(openai.NotFoundError):
        client.chat.completions.create(model=version.name, messages=HELLO)
    assert version.name not in {model.id for model in client.models.list()}
    assert deleted(world, version.name), "twice is once"


def test_who_deleted_a_model_and_why_is_in_the_audit_log(world: World) -> None:
    version = world.publish("support")
    client = world.client("support")
    client.models.delete(version.name, extra_body={"reason": "it was rude"})
    client.models.delete(version.name)
    audit = world.http("support").get("/v1/audit", params={"subject": f"version/{version.name}"})
    retired = [e for e in audit.json()["data"] if e["action"] == "version.retired"]
    assert [entry["reason"] for entry in retired] == ["it was rude"]


def test_what_serves_and_what_a_rollback_returns_to_is_not_deleted(world: World) -> None:
    before, served = live(world, "support"), live(world, "support")
    for version in (before, served):
        error = refused(world, version.name)
        assert (error.status_code, error.code) == (409, "version_in_use")
    assert world.client("support").models.retrieve("support").root == served.name


def test_what_an_unfinished_job_begins_with_is_not_deleted(world: World) -> None:
    version = world.publish("support")
    client = world.client("support")
    job = client.fine_tuning.jobs.create(model=version.name, training_file=a_file(world))
    assert refused(world, version.name).code == "version_in_use"
    client.fine_tuning.jobs.cancel(job.id)
    assert deleted(world, version.name)


@pytest.mark.parametrize("name", ["support", BASE])
def test_an_alias_and_the_base_are_no_fine_tuned_models(world: World, name: str) -> None:
    live(world, "support")
    error = refused(world, name)
    assert (error.status_code, error.code) == (409, "not_a_fine_tuned_model")
    assert world.client("support").models.retrieve(name).id == name


def test_another_units_model_is_not_there_to_be_deleted(world: World) -> None:
    version = world.publish("hr")
    live(world, "hr")
    messages = set()
    for name in (version.name, "hr", "hr:77", "nothing", "nothing:1"):
        error = refused(world, name)
        assert (error.status_code, error.code) == (404, "model_not_found")
        messages.add(error.message)
    assert len(messages) == 1
    assert world.client("hr").models.retrieve(version.name).id == version.name


# -- training a version further


def test_a_job_goes_on_from_a_version_and_builds_its_adapter(world: World) -> None:
    version = world.publish("hr-screening", "hr")
    job = world.client("hr").fine_tuning.jobs.create(
        model=version.name, training_file=a_file(world, "hr")
    )
    assert (job.model, job.model_extra["x_adapter"]) == (version.name, "hr-screening")


@pytest.mark.parametrize("name", ["hr:1", "support:7", "nothing:1", "nothing"])
def test_a_version_that_is_not_there_for_the_unit_is_an_unknown_model(
    world: World, name: str
) -> None:
    world.publish("hr")
    client = world.client("support")
    with pytest.raises(openai.NotFoundError) as raised:
        client.fine_tuning.jobs.create(model=name, training_file=a_file(world))
    assert (raised.value.code, raised.value.param) == ("model_not_found", "model")
    assert f"must be the base model, `{BASE}`, or a version" in raised.value.message
    assert not list(client.fine_tuning.jobs.list())


def test_an_admin_goes_on_from_a_version_of_the_named_unit_only(world: World) -> None:
    version = world.publish("hr")
    admin, file = world.client("admin"), a_file(world)
    with pytest.raises(openai.NotFoundError) as raised:
        admin.fine_tuning.jobs.create(
            model=version.name, training_file=file, extra_body={"x_unit": "support"}
        )
    assert raised.value.code == "model_not_found"


def test_what_cannot_be_gone_on_from_is_refused_with_the_reason(world: World) -> None:
    client, file = world.client("hr"), a_file(world, "hr")
    version = world.publish("hr")
    live(world, "hr")

    def error(**asked: str) -> tuple[str | None, str | None, int]:
        with pytest.raises(openai.APIStatusError) as raised:
            client.fine_tuning.jobs.create(**{"model": version.name, "training_file": file} | asked)
        return raised.value.code, raised.value.param, raised.value.status_code

    assert error(suffix="hr-screening") == ("invalid_request", "suffix", 400)
    assert error(model="hr") == ("invalid_request", "model", 400)
    client.models.delete(version.name)
    assert error() == ("version_retired", "model", 409)


def test_a_repeated_job_is_found_although_the_version_it_began_with_is_gone(world: World) -> None:
    version, client = world.publish("support"), world.client("support")
    once = {"extra_headers": {"Idempotency-Key": "monday"}}
    asked = {"model": version.name, "training_file": a_file(world), **once}
    job = client.fine_tuning.jobs.create(**asked)
    client.fine_tuning.jobs.cancel(job.id)
    client.models.delete(version.name)
    assert client.fine_tuning.jobs.create(**asked).id == job.id


def a_file(world: World, unit: str = "support") -> str:
    file = world.client(unit).files.create(file=("train.jsonl", LINE * 12), purpose="fine-tune")
    name: str = file.id
    return name


def wait_for(world: World, name: str) -> None:
    """Until this replica knows the version."""
    deadline = time.monotonic() + 20
    while not world.runtime.table.knows(name):
        assert time.monotonic() < deadline
        time.sleep(0.02)
