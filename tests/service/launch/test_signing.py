"""The signing key of one machine: made once, and what was published before it is adopted once."""

from __future__ import annotations

import json
import stat
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from adapters.domain.principals import SYSTEM
from adapters.domain.versions import signed_by
from adapters.errors import Unavailable
from adapters.registry import Registry
from adapters.registry.open import open_registry
from adapters.registry.ports import Which
from adapters.settings import Settings
from adapters.signatures import Signer
from adapters.signing_keys import find_signer, signature_policy
from service.cli.app import app
from service.cli.error_messages import run
from service.launch.signing import FIRST_KEY, ensure_signing_key
from tests.adapters.registry.values import ALIASES, OWNER, published
from tests.service.world import write_units

Said = pytest.CaptureFixture[str]


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    write_units(tmp_path / "units")
    made = Settings(state=tmp_path / "state", units=tmp_path / "units")
    made.state_folder.create()
    return made


@pytest.fixture
def registry(settings: Settings) -> Iterator[Registry]:
    opened = open_registry(settings.registry_url)
    yield opened
    opened.close()


def problems(settings: Settings, registry: Registry) -> list[str | None]:
    """Of every version, oldest first, by the settings' own policy."""
    policy = signature_policy(settings)
    listed = registry.versions.list(SYSTEM, adapter=None, after=None, limit=100).items
    found = [policy.problem(version) for version in listed[::-1]]
    return [None if problem is None else problem.reason for problem in found]


def test_a_new_installation_requires_signatures_from_its_first_start_on(
    settings: Settings, registry: Registry
) -> None:
    assert ensure_signing_key(settings, registry) == 0
    path = settings.state_folder.signing_key
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert signature_policy(settings).mode == "require"
    published(registry)
    assert problems(settings, registry) == ["signature_missing"]


def test_the_start_that_makes_the_key_adopts_what_was_served_until_then_and_no_later_one(
    settings: Settings, registry: Registry
) -> None:
    kept, withdrawn = published(registry), published(registry)
    registry.versions.retire(withdrawn.id, OWNER, aliases=ALIASES)
    revision = registry.routes.revision()
    assert ensure_signing_key(settings, registry) == 1
    assert registry.routes.revision() == revision + 1, "replicas are told"
    (told,) = registry.audit.list(SYSTEM, Which(action="version.signed"), after=None, limit=9).items
    signer = find_signer(settings)
    assert signer is not None
    assert (told.subject, told.reason) == (f"version/{kept.name}", FIRST_KEY)
    assert (told.after or {})["signed_by"] == signer.key_id
    published(registry)
    assert ensure_signing_key(settings, registry) == 0
    assert problems(settings, registry) == [None, "signature_missing", "signature_missing"]


class Unreachable:
    """Versions of a registry that breaks while they are signed."""

    def __init__(self, registry: Registry) -> None:
        self._versions = registry.versions

    def list(self, *words: object, **more: object) -> object:
        return self._versions.list(*words, **more)  # type: ignore[arg-type]

    def sign(self, *words: object, **more: object) -> int:
        raise Unavailable("gone")


def test_a_start_that_dies_before_it_has_adopted_is_the_first_one_again(
    settings: Settings, registry: Registry
) -> None:
    published(registry)
    with pytest.raises(Unavailable):
        ensure_signing_key(settings, replace(registry, versions=Unreachable(registry)))  # type: ignore[arg-type]
    assert find_signer(settings) is None
    assert ensure_signing_key(settings, registry) == 1


@pytest.mark.parametrize("more", [{"database_url": "postgresql://x"}, {"signing_key_file": "/k"}])
def test_where_a_key_is_brought_or_must_be_none_is_made(
    settings: Settings, registry: Registry, more: dict[str, str]
) -> None:
    given = Settings(state=settings.state, **more)  # type: ignore[arg-type]
    assert ensure_signing_key(given, registry) == 0
    assert not settings.state_folder.signing_key.exists()


@pytest.fixture
def signatures(settings: Settings, capsys: Said) -> Callable[..., tuple[int, str]]:
    def call(*words: str) -> tuple[int, str]:
        capsys.readouterr()
        code = run(app, ["signatures", *words, "--state", str(settings.state)])
        said = capsys.readouterr()
        return code, said.out + said.err

    return call


def test_what_is_not_signed_is_listed_and_can_be_adopted_by_command(
    settings: Settings,
    registry: Registry,
    signatures: Callable[..., tuple[int, str]],
) -> None:
    code, said = signatures("key")
    assert code == 1
    assert "there is no signing key" in said
    ensure_signing_key(settings, registry)
    assert signatures("check")[0] == 0
    first, second = published(registry), published(registry)
    code, said = signatures("check", "--json")
    assert code == 1
    assert [each["problem"] for each in json.loads(said)] == ["signature_missing"] * 2
    assert signatures("adopt", "--version", first.name)[0] == 0
    assert problems(settings, registry) == [None, "signature_missing"]
    code, said = signatures("adopt", "--reason", "made by the old build", "--json")
    assert (code, json.loads(said)["signed"]) == (0, 1)
    assert signatures("check")[0] == 0
    (told,) = registry.audit.list(
        SYSTEM, Which(subject=f"version/{second.name}"), after=None, limit=1
    ).items
    assert told.reason == "made by the old build"


@pytest.mark.parametrize("reason", ["two\nlines", "x" * 10_000])
def test_a_reason_to_adopt_that_could_not_be_kept_is_refused_before_anything_is_signed(
    settings: Settings,
    registry: Registry,
    signatures: Callable[..., tuple[int, str]],
    reason: str,
) -> None:
    ensure_signing_key(settings, registry)
    published(registry)
    code, said = signatures("adopt", "--reason", reason)
    assert code == 1
    assert "a reason is one line" in said
    assert problems(settings, registry) == ["signature_missing"]


def test_a_key_is_followed_by_another_without_a_version_that_does_not_count(
    settings: Settings,
    registry: Registry,
    signatures: Callable[..., tuple[int, str]],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    """The environment is how an operator brings a key; nothing of the product is replaced."""
    ensure_signing_key(settings, registry)
    old = published(registry)
    signatures("adopt")
    (tmp_path / "old.pem").write_text(signatures("key")[1])
    following = Signer.made()
    (tmp_path / "next").write_bytes(following.to_pem())
    monkeypatch.setenv("WARDROBE_SIGNING_KEY_FILE", str(tmp_path / "next"))
    assert signatures("check")[0] == 1, "the old key is not trusted by itself"
    monkeypatch.setenv("WARDROBE_TRUSTED_KEYS", str(tmp_path / "old.pem"))
    assert signatures("check")[0] == 0
    assert "signed 1 versions" in signatures("adopt", "--all")[1]
    monkeypatch.delenv("WARDROBE_TRUSTED_KEYS")
    assert signatures("check")[0] == 0
    assert signed_by(registry.versions.by_id(old.id).signature) == following.key_id
