"""Keys that an operator brings."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from pydantic import SecretStr

from adapters.brought_keys import (
    brought_key,
    brought_keys,
    brought_metrics_key,
    brought_trainer_key,
    brought_unit_keys,
    trainer_environment,
)
from adapters.domain.names import Unit
from adapters.domain.principals import Role
from adapters.errors import InvalidRequest
from adapters.settings import Settings

PEPPER = "a pepper that is long enough for all"
SUPPORT, SALES = Unit("support"), Unit("sales")
ADMIN, TRAINER = "a-key-from-a-secret-1", "a-key-from-a-secret-2"


def test_what_is_not_brought_is_none() -> None:
    assert brought_keys(Settings()) == {}
    assert {brought_key(Settings(), role) for role in Role} == {None}


def test_a_key_comes_from_its_variable_or_from_its_file(tmp_path: Path) -> None:
    (tmp_path / "key").write_text(f"{TRAINER}\n")
    settings = Settings(admin_key=SecretStr(ADMIN), trainer_key_file=tmp_path / "key")
    assert brought_keys(settings) == {Role.ADMIN: ADMIN, Role.TRAINER: TRAINER}


@pytest.mark.parametrize(
    ("content", "complaint"),
    [
        (b"short", "a key is 16 to 256"),
        (b"", "a key is 16 to 256"),
        (b"a key with some spaces", "none of them a space"),
        (b"two lines are no key\nat all", "none of them a space"),
        (b"x" * 257, "a key is 16 to 256"),
        ("schlüssel-aus-dem-tresor".encode(), "printable ASCII"),
        (b"\xff" * 20, "cannot be read: it is not text"),
    ],
)
def test_a_file_with_what_can_be_no_key_is_refused_without_being_shown(
    tmp_path: Path, content: bytes, complaint: str
) -> None:
    (tmp_path / "key").write_bytes(content)
    with pytest.raises(InvalidRequest, match=complaint) as refused:
        brought_key(Settings(admin_key_file=tmp_path / "key"), Role.ADMIN)
    assert "WARDROBE_ADMIN_KEY" in refused.value.message
    assert not content or content.decode("utf-8", "replace") not in refused.value.message


def test_the_metrics_have_a_key_of_their_own(tmp_path: Path) -> None:
    (tmp_path / "key").write_text(f"{TRAINER}\n")
    settings = Settings(admin_key=SecretStr(ADMIN), metrics_key_file=tmp_path / "key")
    assert brought_metrics_key(settings) == TRAINER
    assert brought_keys(settings) == {Role.ADMIN: ADMIN}
    assert brought_metrics_key(Settings()) is None
    with pytest.raises(InvalidRequest, match="a key of their own"):
        brought_keys(Settings(admin_key=SecretStr(ADMIN), metrics_key=SecretStr(ADMIN)))


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(InvalidRequest, match=r"WARDROBE_TRAINER_KEY_FILE: .*/key cannot be read"):
        brought_key(Settings(trainer_key_file=tmp_path / "key"), Role.TRAINER)


def test_a_key_is_brought_once(tmp_path: Path) -> None:
    settings = Settings(admin_key=SecretStr(ADMIN), admin_key_file=tmp_path / "key")
    with pytest.raises(InvalidRequest, match="not both"):
        brought_key(settings, Role.ADMIN)


def test_the_trainers_environment_holds_no_key_but_its_own(tmp_path: Path) -> None:
    given: dict[str, Any] = {"admin_key": SecretStr(ADMIN), "trainer_key": SecretStr(TRAINER)}
    inherited = {
        "PATH": "/bin",
        "WARDROBE_KEY": ADMIN,
        "WARDROBE_ADMIN_KEY": ADMIN,
        "WARDROBE_ADMIN_KEY_FILE": "/etc/key",
        "WARDROBE_PEPPER_FILE": "/etc/pepper",
        "WARDROBE_METRICS_KEY": ADMIN,
    }
    given |= {"pepper": SecretStr(PEPPER), "unit_keys": tmp_path}
    environment = trainer_environment(Settings(**given, port=8123), inherited)
    assert environment["WARDROBE_TRAINER_KEY"] == TRAINER
    assert (environment["PATH"], environment["WARDROBE_PORT"]) == ("/bin", "8123")
    assert ADMIN not in environment.values()
    assert PEPPER not in environment.values()
    assert not {"WARDROBE_ADMIN_KEY_FILE", "WARDROBE_PEPPER_FILE", "WARDROBE_UNIT_KEYS"} & set(
        environment
    )


def test_a_units_key_is_the_file_of_its_name_and_what_else_lies_there_is_nobodys(
    tmp_path: Path,
) -> None:
    (tmp_path / "..data").mkdir()  # as the kubelet mounts a Secret
    (tmp_path / "..data" / "support").write_text(f"{ADMIN}\n")
    (tmp_path / "support").symlink_to("..data/support")
    (tmp_path / "legal").write_text("no key of a unit that is there")
    settings = Settings(unit_keys=tmp_path)
    assert brought_unit_keys(settings, [SALES, SUPPORT]) == {SUPPORT: ADMIN}
    assert brought_unit_keys(Settings(), [SALES, SUPPORT]) == {}


def test_a_units_key_that_can_be_none_is_refused_with_the_units_name(tmp_path: Path) -> None:
    (tmp_path / "sales").write_text("short")
    with pytest.raises(InvalidRequest, match="WARDROBE_UNIT_KEYS, sales: a key is 16 to 256"):
        brought_unit_keys(Settings(unit_keys=tmp_path), [SALES])
    with pytest.raises(InvalidRequest, match=r"WARDROBE_UNIT_KEYS: .*/none is no folder"):
        brought_unit_keys(Settings(unit_keys=tmp_path / "none"), [SALES])


def test_a_trainer_beside_no_service_must_be_brought_its_key() -> None:
    assert brought_trainer_key(Settings()) is None
    shared = Settings(database_url="postgresql://wardrobe@db/wardrobe")
    with pytest.raises(InvalidRequest, match="bring the trainer's key"):
        brought_trainer_key(shared)
    brought = shared.model_copy(update={"trainer_key": SecretStr(TRAINER)})
    assert brought_trainer_key(brought) == TRAINER
