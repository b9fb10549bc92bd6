"""The list of models through the real openai SDK."""

from __future__ import annotations

import openai
import pytest

from adapters.domain.versions import Version
from tests.service.world import BASE_CREATED, World
from tests.simulation.engine import BASE


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
