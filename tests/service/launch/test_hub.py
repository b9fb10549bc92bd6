"""A base of the hub stays at the commit of its first use."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from adapters.errors import InvalidRequest, Unavailable
from adapters.settings import Settings
from service.launch.hub import PINS, fetch_from_hub, pinned_revision, split_hub_id

OLD, NEW = "a" * 40, "b" * 40


class Hub:
    """Hands out folders named by commit; its newest one moves."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.newest, self.up = folder, OLD, True

    def __call__(self, settings: Settings, hub_id: str, commit: str | None) -> Path:
        if not self.up:
            raise Unavailable("the hub cannot be reached")
        return self.folder / hub_id / (commit or self.newest)


@pytest.fixture
def hub(tmp_path: Path) -> Hub:
    return Hub(tmp_path)


def settings(tmp_path: Path, base: str = "org/model") -> Settings:
    return Settings(state=tmp_path / "state", base=base)


def test_the_first_use_pins_a_commit_and_later_ones_keep_to_it(tmp_path: Path, hub: Hub) -> None:
    assert fetch_from_hub(settings(tmp_path), snapshot=hub).name == OLD
    hub.newest = NEW
    assert fetch_from_hub(settings(tmp_path), snapshot=hub).name == OLD
    assert pinned_revision(settings(tmp_path)) == OLD


def test_another_commit_is_taken_where_it_is_named_or_asked_for(tmp_path: Path, hub: Hub) -> None:
    fetch_from_hub(settings(tmp_path), snapshot=hub)
    hub.newest = NEW
    assert fetch_from_hub(settings(tmp_path), newest=True, snapshot=hub).name == NEW
    named = settings(tmp_path, f"org/model@{OLD}")
    assert fetch_from_hub(named, snapshot=hub).name == OLD
    assert json.loads((tmp_path / "state" / PINS).read_text()) == {"org/model": OLD}


def test_a_hub_out_of_reach_leaves_the_pin_as_it_was(tmp_path: Path, hub: Hub) -> None:
    fetch_from_hub(settings(tmp_path), snapshot=hub)
    hub.up = False
    with pytest.raises(Unavailable):
        fetch_from_hub(settings(tmp_path), newest=True, snapshot=hub)
    assert pinned_revision(settings(tmp_path)) == OLD


def test_pins_that_cannot_be_read_are_told_and_not_replaced(tmp_path: Path, hub: Hub) -> None:
    (tmp_path / "state").mkdir()
    (tmp_path / "state" / PINS).write_text("{")
    with pytest.raises(InvalidRequest, match=PINS):
        fetch_from_hub(settings(tmp_path), snapshot=hub)


@pytest.mark.parametrize("base", ["/models/none", "./none", "org/model@main", "a/b/c", "org/m@abc"])
def test_what_is_neither_a_folder_nor_a_hub_id_is_refused(base: str) -> None:
    with pytest.raises(InvalidRequest, match="neither a folder nor a hub id"):
        split_hub_id(base)
