"""The keys of a state folder."""

from __future__ import annotations

import json
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest
from pydantic import SecretStr

from adapters.domain.principals import hash_key
from adapters.domain.units import load_units
from adapters.errors import Conflict
from adapters.registry import Registry
from adapters.registry.open import open_registry
from adapters.settings import Settings
from service.launch.bootstrap_keys import ensure_keys
from tests.service.world import write_units


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    write_units(tmp_path / "units")
    made = Settings(state=tmp_path / "state", units=tmp_path / "units")
    made.state_folder.create()
    return made


@pytest.fixture
def registry(tmp_path: Path) -> Iterator[Registry]:
    opened = open_registry(f"sqlite:///{tmp_path / 'registry.sqlite3'}")
    yield opened
    opened.close()


def test_first_start_makes_a_key_for_everyone_and_keeps_them_private(
    settings: Settings, registry: Registry
) -> None:
    made = ensure_keys(settings, registry, load_units(settings.units))
    path = settings.state_folder.keys
    kept = json.loads(path.read_text())
    assert made == ["admin", "trainer", "units.hr", "units.sales", "units.support"]
    assert set(kept["units"]) == {"support", "sales", "hr"}
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert len({kept["admin"], kept["trainer"], *kept["units"].values()}) == 5
    stored = [key.hash for key in registry.keys.active()]
    assert all(secret not in str(stored) for secret in kept["units"].values())
    assert hash_key(kept["admin"], pepper=settings.state_folder.pepper()) in stored


def test_again_it_changes_nothing(settings: Settings, registry: Registry) -> None:
    units = load_units(settings.units)
    ensure_keys(settings, registry, units)
    before = settings.state_folder.keys.read_text()
    assert ensure_keys(settings, registry, units) == []
    assert settings.state_folder.keys.read_text() == before
    assert len(registry.keys.active()) == 5


def test_a_new_unit_gets_a_key_and_the_others_keep_theirs(
    settings: Settings, registry: Registry
) -> None:
    ensure_keys(settings, registry, load_units(settings.units))
    before = json.loads(settings.state_folder.keys.read_text())
    (settings.units / "legal.yaml").write_text("unit: legal\naliases: [legal]\n")
    assert ensure_keys(settings, registry, load_units(settings.units)) == ["units.legal"]
    after = json.loads(settings.state_folder.keys.read_text())
    assert after["units"].pop("legal")
    assert after == before


def test_an_admin_key_that_ops_brings_replaces_the_one_before(
    settings: Settings, registry: Registry
) -> None:
    units = load_units(settings.units)
    ensure_keys(settings, registry, units)
    old = json.loads(settings.state_folder.keys.read_text())["admin"]
    for brought in ("a-key-from-a-secret-1", "a-key-from-a-secret-2"):
        ensure_keys(settings.model_copy(update={"admin_key": SecretStr(brought)}), registry, units)
        pepper = settings.state_folder.pepper()
        valid = {key.hash for key in registry.keys.active()}
        assert hash_key(brought, pepper=pepper) in valid
        assert hash_key(old, pepper=pepper) not in valid
        old = brought


def test_a_revoked_admin_key_cannot_come_back(settings: Settings) -> None:
    units, registry = load_units(settings.units), open_registry(settings.state_folder.database_url)
    for brought in ("a-key-from-a-secret-1", "a-key-from-a-secret-2"):
        ensure_keys(settings.model_copy(update={"admin_key": SecretStr(brought)}), registry, units)
    again = settings.model_copy(update={"admin_key": SecretStr("a-key-from-a-secret-1")})
    with pytest.raises(Conflict, match="revoked"):
        ensure_keys(again, registry, units)
    registry.close()


def test_a_lost_registry_takes_the_kept_keys_again(
    settings: Settings, registry: Registry, tmp_path: Path
) -> None:
    units = load_units(settings.units)
    ensure_keys(settings, registry, units)
    before = settings.state_folder.keys.read_text()
    fresh = open_registry(f"sqlite:///{tmp_path / 'fresh.sqlite3'}")
    assert ensure_keys(settings, fresh, units) == []
    assert settings.state_folder.keys.read_text() == before
    assert {key.hash for key in fresh.keys.active()} == {key.hash for key in registry.keys.active()}
    fresh.close()
