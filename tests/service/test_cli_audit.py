"""`wardrobe audit`: listing over HTTP, verifying on the registry itself."""

from __future__ import annotations

import json
from contextlib import closing
from pathlib import Path

import pytest
from sqlalchemy import text

from adapters.domain.principals import SYSTEM
from adapters.registry.open import open_registry
from adapters.registry.sql.database import Database
from adapters.settings import Settings
from service.cli.app import app
from service.cli.error_messages import run
from tests.adapters.registry.values import a_key
from tests.service.world import World

Said = pytest.CaptureFixture[str]


@pytest.fixture
def state(tmp_path: Path) -> Path:
    """A state folder whose log has three entries."""
    settings = Settings(state=tmp_path / "state")
    settings.state_folder.create()
    with closing(open_registry(settings.registry_url)) as registry:
        registry.keys.add([a_key("key_1"), a_key("key_2")])
        registry.keys.revoke("key_1", by=SYSTEM)
    return settings.state


def audit(capsys: Said, *words: str) -> tuple[int, str, str]:
    capsys.readouterr()
    code = run(app, ["audit", *words])
    said = capsys.readouterr()
    return code, said.out, said.err


def test_the_log_is_listed_newest_first(world: World, capsys: Said) -> None:
    where = ("--url", world.url, "--state", str(world.settings.state))
    code, out, _ = audit(
        capsys, "list", "--action", "key.created", "--limit", "2", "--json", *where
    )
    found = json.loads(out[out.index("[") :])
    assert (code, [entry["action"] for entry in found]) == (0, ["key.created"] * 2)
    assert int(found[0]["id"]) > int(found[1]["id"])
    code, out, _ = audit(capsys, "list", "--unit", "support", *where)
    assert code == 0
    assert "key.created" in out
    assert "sales" not in out


def test_an_intact_log_is_said_to_be_and_its_head_is_an_anchor(state: Path, capsys: Said) -> None:
    code, anchor, _ = audit(capsys, "head", "--state", str(state))
    assert (code, anchor.partition(":")[0]) == (0, "3")
    code, out, _ = audit(capsys, "verify", "--anchor", anchor, "--state", str(state))
    assert (code, out) == (0, f"the log is intact: 3 entries, anchor {anchor}")
    code, out, _ = audit(capsys, "head", "--json", "--state", str(state))
    assert json.loads(out)["anchor"] == anchor.strip()


def test_a_cut_tail_is_found_by_the_anchor_that_was_kept(state: Path, capsys: Said) -> None:
    _, anchor, _ = audit(capsys, "head", "--state", str(state))
    database = Database(Settings(state=state).registry_url)
    with closing(database), database.write() as connection:
        connection.execute(text("DROP TRIGGER audit_refuses_delete"))
        connection.execute(text("DELETE FROM audit WHERE seq = 3"))
        connection.execute(
            text("UPDATE audit_head SET seq = 2, hash = (SELECT hash FROM audit WHERE seq = 2)")
        )
    assert audit(capsys, "verify", "--state", str(state))[0] == 0
    code, out, _ = audit(capsys, "verify", "--anchor", anchor, "--state", str(state))
    assert code == 1
    assert out == "the log is damaged at entry 3: the log ends before it; 2 fit before it\n"
    code, out, _ = audit(capsys, "verify", "--anchor", anchor, "--state", str(state), "--json")
    assert (code, json.loads(out)["damage"]) == (1, "cut")


def test_an_anchor_that_is_none_ends_with_one_line(state: Path, capsys: Said) -> None:
    code, _, err = audit(capsys, "verify", "--anchor", "3", "--state", str(state))
    assert code == 1
    assert err.startswith("error: an anchor looks like")
    assert err.count("\n") == 1
