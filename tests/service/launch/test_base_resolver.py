"""A base model that replicas share through the artifact store."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from adapters.admission.manifest import verify
from adapters.domain.names import Digest
from adapters.errors import InvalidRequest
from adapters.settings import DEFAULT_BASE, Settings
from service.cli.app import app
from service.cli.error_messages import run
from service.launch.base_resolver import (
    BROUGHT,
    EMBEDDED_NAME,
    FALLBACK,
    names_of,
    publish_base,
    remember_default,
    resolve_base,
)
from service.launch.launcher import with_base
from tests.adapters.store.sources import a_base


@pytest.fixture
def shared(tmp_path: Path) -> Path:
    return tmp_path / "shared"


def settings(tmp_path: Path, machine: str, shared: Path, base: str) -> Settings:
    return Settings(
        state=tmp_path / machine, cache=tmp_path / machine, artifacts=str(shared), base=base
    )


def test_every_machine_gets_the_base_that_one_has_published(tmp_path: Path, shared: Path) -> None:
    base = a_base(tmp_path / "base")
    named = publish_base(settings(tmp_path, "one", shared, str(base)))
    assert named.startswith("store:")
    found = resolve_base(settings(tmp_path, "two", shared, named))
    verify(found.path, Digest(named.removeprefix("store:")))
    assert found.name == EMBEDDED_NAME
    assert (found.path / "model.safetensors").read_bytes() == (
        base / "model.safetensors"
    ).read_bytes()
    # The processes that are started get a folder, and need not ask again.
    passed_on = with_base(settings(tmp_path, "two", shared, named)).environment()
    assert passed_on["WARDROBE_BASE"] == str(found.path)
    # Publishing what came from there changes nothing.
    assert publish_base(settings(tmp_path, "two", shared, named)) == named


@pytest.mark.parametrize("base", [f"store:{'0' * 64}", "store:", "store:../base", "store:latest"])
def test_a_base_that_was_never_published_is_said(tmp_path: Path, shared: Path, base: str) -> None:
    with pytest.raises(InvalidRequest, match="wardrobe base publish"):
        resolve_base(settings(tmp_path, "one", shared, base))


def test_a_published_base_that_was_damaged_is_not_used(tmp_path: Path, shared: Path) -> None:
    named = publish_base(settings(tmp_path, "one", shared, str(a_base(tmp_path / "base"))))
    weights = resolve_base(settings(tmp_path, "one", shared, named)).path / "model.safetensors"
    weights.chmod(0o600)
    weights.write_bytes(b"other weights")
    with pytest.raises(InvalidRequest, match="damaged"):
        resolve_base(settings(tmp_path, "two", shared, named))


def test_the_command_says_how_the_base_is_named_now(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WARDROBE_ARTIFACTS", str(tmp_path / "shared"))
    given = ["--base", str(a_base(tmp_path / "base")), "--state", str(tmp_path / "state")]
    assert run(app, ["base", "publish", *given]) == 0
    named = capsys.readouterr().out.strip()
    assert run(app, ["base", "publish", *given, "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == {"base": named}
    assert named.startswith("store:")


def test_a_folder_that_is_called_as_a_brought_base_is_meant_by_its_path(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = a_base(tmp_path / "tiny")
    monkeypatch.chdir(tmp_path)
    assert resolve_base(Settings(base="./tiny")).path == folder.absolute()


def test_where_no_base_is_named_a_state_folder_stays_with_the_one_it_began_with(
    tmp_path: Path,
) -> None:
    unnamed = Settings(base="", state=tmp_path / "state")
    assert names_of(unnamed) == [DEFAULT_BASE, "--else", FALLBACK]
    remember_default(unnamed, FALLBACK)
    remember_default(unnamed, DEFAULT_BASE)
    assert names_of(unnamed) == [FALLBACK]
    assert names_of(Settings(base=DEFAULT_BASE, state=tmp_path / "state")) == [DEFAULT_BASE]


def test_a_state_folder_of_an_earlier_build_stays_with_the_default_of_that_build(
    tmp_path: Path,
) -> None:
    unnamed = Settings(base="", state=tmp_path / "state")
    made = unnamed.state_folder.create().artifacts / "adapters" / ("a" * 64)
    made.mkdir(parents=True)
    assert names_of(unnamed) == [FALLBACK]


def test_a_remembered_base_that_nobody_brings_is_refused(tmp_path: Path) -> None:
    unnamed = Settings(base="", state=tmp_path / "state")
    remember_default(unnamed, "../elsewhere")
    with pytest.raises(InvalidRequest, match="WARDROBE_BASE"):
        names_of(unnamed)


def test_the_default_base_is_one_that_is_brought() -> None:
    assert {DEFAULT_BASE, FALLBACK} <= set(BROUGHT)
