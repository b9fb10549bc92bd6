"""The settings."""

from __future__ import annotations

import re
from pathlib import Path

from adapters.settings import Settings

ROOT = Path(__file__).parents[2]
URL = "postgresql://wardrobe:secret-word@db/wardrobe"


def test_the_registry_is_in_the_state_folder_unless_a_database_is_named(tmp_path: Path) -> None:
    settings = Settings(state=tmp_path)
    assert settings.registry_url == settings.state_folder.database_url
    assert Settings(state=tmp_path, database_url=URL).registry_url == URL


def test_a_databases_password_reaches_child_processes_and_no_text(tmp_path: Path) -> None:
    settings = Settings(state=tmp_path, database_url=URL)
    assert settings.environment()["WARDROBE_DATABASE_URL"] == URL
    for text in (repr(settings), str(settings), settings.model_dump_json()):
        assert "secret-word" not in text
    assert Settings(state=tmp_path).environment()["WARDROBE_DATABASE_URL"] == ""


def test_nothing_that_runs_opens_another_registry_than_the_one_the_settings_name() -> None:
    opened = {
        (path.relative_to(ROOT).as_posix(), address)
        for package in ("adapters", "service", "training", "examples")
        for path in (ROOT / package).rglob("*.py")
        for address in re.findall(r"(?<!def )open_(?:registry|hints)\((.+?)[,)]", path.read_text())
    }
    assert {address for _, address in opened} == {"settings.registry_url"}
    assert len(opened) > 4
