"""Manifests; what a store does with them is in the contract suite."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import pytest

from adapters.admission.manifest import (
    Manifest,
    ManifestEntry,
    base_files,
    content_files,
    manifest_of,
    parse_manifest,
    read_manifest,
    verify,
)
from adapters.domain.names import Digest
from adapters.errors import InvalidRequest, Rejected
from tests.adapters.store.sources import a_base


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "b").write_bytes(b"bb")
    (tmp_path / "a").write_bytes(b"a")
    return tmp_path


def made(folder: Path) -> Manifest:
    return manifest_of(content_files(folder))


def publish(folder: Path) -> Digest:
    manifest = made(folder)
    (folder / "manifest.json").write_bytes(manifest.to_bytes())
    return manifest.digest


def test_a_manifest_lists_files_by_name_with_size_and_digest(folder: Path) -> None:
    manifest = made(folder)
    assert manifest.files == (
        ManifestEntry(name="a", size=1, sha256=Digest(hashlib.sha256(b"a").hexdigest())),
        ManifestEntry(name="b", size=2, sha256=Digest(hashlib.sha256(b"bb").hexdigest())),
    )


def test_the_digest_is_that_of_the_canonical_json(folder: Path) -> None:
    manifest = made(folder)
    content = manifest.to_bytes()
    assert manifest.digest == hashlib.sha256(content).hexdigest()
    assert (
        content == json.dumps(json.loads(content), sort_keys=True, separators=(",", ":")).encode()
    )


def test_what_was_written_is_read_back(folder: Path) -> None:
    before = made(folder)
    digest = publish(folder)
    assert read_manifest(folder, digest) == verify(folder, digest) == before


def test_a_manifest_under_another_digest_is_refused(folder: Path) -> None:
    publish(folder)
    with pytest.raises(Rejected):
        read_manifest(folder, Digest("0" * 64))


def test_swapped_files_are_refused(folder: Path) -> None:
    digest = publish(folder)
    (folder / "a").rename(folder / "c")
    (folder / "b").rename(folder / "a")
    (folder / "c").rename(folder / "b")
    with pytest.raises(Rejected, match="differs"):
        verify(folder, digest)


def test_an_empty_manifest_has_a_digest_of_its_own() -> None:
    assert Manifest(files=()).to_bytes() == b'{"files":[]}'


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"[]",
        b'{"files": 7}',
        b'{"files": [{"name": "../a", "size": 1, "sha256": ""}]}',
        b'{"files": [{"name": "manifest.json", "size": 1, "sha256": ""}]}',
        b'{"files": [{"name": "a", "size": -1, "sha256": ""}]}',
        b'{"files": [{"name": "a", "size": "1", "sha256": ""}]}',
        b'{"files": [{"name": 7, "size": 1, "sha256": ""}]}',
    ],
)
def test_what_has_its_own_digest_and_is_no_manifest_is_refused(content: bytes) -> None:
    with pytest.raises(Rejected, match="is no manifest"):
        parse_manifest(content, Digest(hashlib.sha256(content).hexdigest()))


def test_a_base_is_its_weights_settings_and_tokenizer_without_links(tmp_path: Path) -> None:
    base = a_base(tmp_path / "base")
    (base / "manifest.json").write_text("{}")
    found = base_files(base)
    assert sorted(found) == ["config.json", "model.safetensors", "tokenizer.json"]
    assert not any(path.is_symlink() for path in found.values())


def test_a_folder_without_a_model_has_no_base_files(folder: Path) -> None:
    with pytest.raises(InvalidRequest):
        base_files(folder)
