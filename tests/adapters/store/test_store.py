"""What every artifact store does."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from adapters.domain.names import Digest
from adapters.errors import NotFound, Rejected, TooLarge
from adapters.store import ArtifactStore

UNKNOWN = Digest("0" * 64)
NO_DIGESTS = ["", "..", "../../etc/passwd", "A" * 64, "0" * 63, "0" * 64 + "\n", "/etc/passwd"]


@pytest.fixture
def adapter(tmp_path: Path) -> Path:
    folder = tmp_path / "trained"
    folder.mkdir()
    (folder / "adapter_config.json").write_text('{"r": 8}')
    (folder / "adapter_model.safetensors").write_bytes(bytes(range(256)) * 9000)
    return folder


def test_a_file_comes_back_under_its_sha256(store: ArtifactStore) -> None:
    digest, size = store.put_file([b"ab", b"", b"c"], max_bytes=3)
    assert (digest, size) == (hashlib.sha256(b"abc").hexdigest(), 3)
    with store.open_file(digest) as file:
        assert file.read() == b"abc"


def test_equal_bytes_are_one_file(store: ArtifactStore) -> None:
    assert store.put_file([b"abc"], max_bytes=9) == store.put_file([b"a", b"bc"], max_bytes=9)


def test_an_empty_file_is_a_file(store: ArtifactStore) -> None:
    digest, size = store.put_file([], max_bytes=0)
    with store.open_file(digest) as file:
        assert (size, file.read()) == (0, b"")


def test_a_file_past_the_limit_is_refused_and_not_read_on(store: ArtifactStore) -> None:
    taken = 0

    def endless() -> Iterator[bytes]:
        nonlocal taken
        while True:
            taken += 1
            yield b"x" * 100

    with pytest.raises(TooLarge):
        store.put_file(endless(), max_bytes=1000)
    assert taken == 11


def test_an_upload_that_breaks_off_leaves_nothing(store: ArtifactStore) -> None:
    def broken() -> Iterator[bytes]:
        yield b"abc"
        raise ConnectionError

    with pytest.raises(ConnectionError):
        store.put_file(broken(), max_bytes=9)
    with pytest.raises(NotFound):
        store.open_file(Digest(hashlib.sha256(b"abc").hexdigest()))


def test_a_deleted_file_is_gone_and_an_unknown_one_is_fine(store: ArtifactStore) -> None:
    digest, _ = store.put_file([b"abc"], max_bytes=9)
    store.delete_file(digest)
    store.delete_file(digest)
    with pytest.raises(NotFound):
        store.open_file(digest)


@pytest.mark.parametrize("text", NO_DIGESTS)
def test_what_is_no_digest_names_nothing(store: ArtifactStore, text: str) -> None:
    with pytest.raises(NotFound):
        store.open_file(Digest(text))
    with pytest.raises(NotFound):
        store.adapter_path(Digest(text))
    store.delete_file(Digest(text))


def test_a_published_adapter_has_its_files_and_their_manifest(
    store: ArtifactStore, adapter: Path
) -> None:
    digest = store.publish_adapter(adapter)
    path = store.adapter_path(digest)
    assert path.is_absolute()
    for source in adapter.iterdir():
        assert (path / source.name).read_bytes() == source.read_bytes()
    manifest = (path / "manifest.json").read_bytes()
    assert hashlib.sha256(manifest).hexdigest() == digest
    assert {entry["name"] for entry in json.loads(manifest)["files"]} == {
        source.name for source in adapter.iterdir()
    }


def test_the_same_adapter_has_one_digest_and_one_path(store: ArtifactStore, adapter: Path) -> None:
    first = store.publish_adapter(adapter)
    path = store.adapter_path(first)
    assert store.publish_adapter(adapter) == first
    assert store.adapter_path(first) == path
    (adapter / "manifest.json").write_text("a stale one is written anew")
    assert store.publish_adapter(adapter) == first


def test_another_byte_is_another_adapter(store: ArtifactStore, adapter: Path) -> None:
    first = store.publish_adapter(adapter)
    (adapter / "adapter_config.json").write_text('{"r": 9}')
    second = store.publish_adapter(adapter)
    assert first != second
    assert store.adapter_path(first) != store.adapter_path(second)


def test_an_unknown_adapter_is_not_found(store: ArtifactStore) -> None:
    with pytest.raises(NotFound):
        store.adapter_path(UNKNOWN)


def test_a_link_is_not_published(store: ArtifactStore, adapter: Path) -> None:
    (adapter / "README.md").symlink_to("/etc/hostname")
    with pytest.raises(Rejected):
        store.publish_adapter(adapter)


def test_a_subfolder_is_not_published(store: ArtifactStore, adapter: Path) -> None:
    (adapter / "checkpoint").mkdir()
    with pytest.raises(Rejected):
        store.publish_adapter(adapter)


@pytest.mark.parametrize("harm", ["flip", "shorten", "lose", "add", "link", "manifest"])
def test_a_damaged_adapter_is_refused(store: ArtifactStore, adapter: Path, harm: str) -> None:
    digest = store.publish_adapter(adapter)
    path = store.adapter_path(digest)
    path.chmod(0o700)
    weights = path / "adapter_model.safetensors"
    weights.chmod(0o600)
    content = weights.read_bytes()
    if harm == "flip":
        weights.write_bytes(content[:5000] + b"\xff" + content[5001:])
    elif harm == "shorten":
        weights.write_bytes(content[:-1])
    elif harm == "lose":
        weights.unlink()
    elif harm == "add":
        (path / "extra.bin").write_bytes(b"x")
    elif harm == "link":
        weights.rename(adapter / "elsewhere")
        weights.symlink_to(adapter / "elsewhere")
    else:
        (path / "manifest.json").chmod(0o600)
        (path / "manifest.json").write_bytes(b'{"files":[]}')
    with pytest.raises(Rejected):
        store.adapter_path(digest)
