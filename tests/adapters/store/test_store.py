"""What every artifact store does."""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from adapters.admission.manifest import verify
from adapters.domain.names import Digest
from adapters.errors import InvalidRequest, NotFound, Rejected, TooLarge
from adapters.store import ArtifactKind, ArtifactStore, FolderStore, pinned
from tests.adapters.store.sources import a_base
from tests.adapters.store.stores import UNKNOWN

NO_DIGESTS = ["", "..", "../../etc/passwd", "A" * 64, "0" * 63, "0" * 64 + "\n", "/etc/passwd"]


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


@pytest.mark.parametrize("kind", ArtifactKind)
def test_a_deleted_artifact_is_gone_and_an_unknown_one_is_fine(
    store: ArtifactStore, adapter: Path, tmp_path: Path, kind: ArtifactKind
) -> None:
    digest = put(store, kind, adapter, tmp_path)
    assert store.has(digest, kind)
    assert store.delete(digest, kind)
    assert not store.has(digest, kind)
    assert store.delete(digest, kind)
    assert list(store.list()) == []
    assert put(store, kind, adapter, tmp_path) == digest
    assert store.has(digest, kind)


def put(store: ArtifactStore, kind: ArtifactKind, adapter: Path, tmp_path: Path) -> Digest:
    if kind is ArtifactKind.FILE:
        return store.put_file([b"abc"], max_bytes=9)[0]
    if kind is ArtifactKind.ADAPTER:
        return store.publish_adapter(adapter)
    if kind is ArtifactKind.DATASET:
        return store.publish_dataset(adapter)
    base = tmp_path / "base"
    return store.publish_base(base if base.exists() else a_base(base))


def test_a_deleted_file_can_no_longer_be_opened(store: ArtifactStore) -> None:
    digest, _ = store.put_file([b"abc"], max_bytes=9)
    store.delete(digest, ArtifactKind.FILE)
    with pytest.raises(NotFound):
        store.open_file(digest)


def test_one_digest_is_another_artifact_in_another_kind(
    store: ArtifactStore, adapter: Path
) -> None:
    digest = store.publish_adapter(adapter)
    manifest = (store.fetch(digest) / "manifest.json").read_bytes()
    assert store.put_file([manifest], max_bytes=len(manifest)) == (digest, len(manifest))
    store.delete(digest, ArtifactKind.ADAPTER)
    assert store.has(digest, ArtifactKind.FILE)
    assert not store.has(digest, ArtifactKind.ADAPTER)
    assert not store.has(digest, ArtifactKind.BASE)
    with store.open_file(digest) as file:
        assert file.read() == manifest


def test_the_list_names_everything_with_its_size_and_age(
    store: ArtifactStore, adapter: Path, tmp_path: Path
) -> None:
    before = time.time()
    digests = {kind: put(store, kind, adapter, tmp_path) for kind in ArtifactKind}
    listed = {artifact.kind: artifact for artifact in store.list()}
    assert {kind: artifact.digest for kind, artifact in listed.items()} == digests
    assert listed[ArtifactKind.FILE].size_bytes == 3
    published = store.fetch(digests[ArtifactKind.ADAPTER])
    size = sum(path.stat().st_size for path in published.iterdir())
    assert listed[ArtifactKind.ADAPTER].size_bytes == size
    # The storage says whole seconds.
    assert all(before - 1 <= each.modified_at <= time.time() + 1 for each in listed.values())


def test_a_base_comes_back_without_what_a_loader_would_execute(
    store: ArtifactStore, tmp_path: Path
) -> None:
    base = a_base(tmp_path / "base")
    path = store.fetch_base(store.publish_base(base))
    names = {"config.json", "model.safetensors", "tokenizer.json"}
    assert {file.name for file in path.iterdir()} == names | {"manifest.json"}
    for name in names:
        assert not (path / name).is_symlink()
        assert (path / name).read_bytes() == (base / name).read_bytes()


def test_a_dataset_comes_back_whole_and_once(store: ArtifactStore, adapter: Path) -> None:
    digest = store.publish_dataset(adapter)
    path = store.fetch_dataset(digest)
    for source in adapter.iterdir():
        assert (path / source.name).read_bytes() == source.read_bytes()
    assert store.publish_dataset(adapter) == digest
    with pytest.raises(NotFound):
        store.fetch(digest)
    with pytest.raises(NotFound):
        store.fetch_dataset(UNKNOWN)


def test_what_is_no_model_is_not_published_as_a_base(store: ArtifactStore, adapter: Path) -> None:
    with pytest.raises(InvalidRequest):
        store.publish_base(adapter)


def test_a_pin_is_counted_and_given_back_once(store: ArtifactStore, adapter: Path) -> None:
    digest = store.publish_adapter(adapter)
    store.pin(digest)
    with pinned(store, digest) as path:
        assert path == store.fetch(digest)
    store.release(digest)
    with pytest.raises(ValueError, match="more often"):
        store.release(digest)


@pytest.mark.parametrize("text", NO_DIGESTS)
def test_what_is_no_digest_names_nothing(store: ArtifactStore, text: str) -> None:
    digest = Digest(text)
    for method in (store.open_file, store.fetch, store.fetch_base, store.fetch_dataset, store.pin):
        with pytest.raises(NotFound):
            method(digest)
    for kind in ArtifactKind:
        assert not store.has(digest, kind)
        assert store.delete(digest, kind)


def test_a_published_adapter_has_its_files_and_their_manifest(
    store: ArtifactStore, adapter: Path
) -> None:
    digest = store.publish_adapter(adapter)
    path = store.fetch(digest)
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
    path = store.fetch(first)
    assert store.publish_adapter(adapter) == first
    assert store.fetch(first) == path
    (adapter / "manifest.json").write_text("a stale one is written anew")
    assert store.publish_adapter(adapter) == first


def test_another_byte_is_another_adapter(store: ArtifactStore, adapter: Path) -> None:
    first = store.publish_adapter(adapter)
    (adapter / "adapter_config.json").write_text('{"r": 9}')
    second = store.publish_adapter(adapter)
    assert first != second
    assert store.fetch(first) != store.fetch(second)


def test_an_unknown_adapter_is_not_found(store: ArtifactStore) -> None:
    with pytest.raises(NotFound):
        store.fetch(UNKNOWN)


def test_a_file_of_an_unknown_digest_is_not_found(store: ArtifactStore) -> None:
    with pytest.raises(NotFound):
        store.open_file(UNKNOWN)


def test_a_link_is_not_published(store: ArtifactStore, adapter: Path) -> None:
    (adapter / "README.md").symlink_to("/etc/hostname")
    with pytest.raises(Rejected):
        store.publish_adapter(adapter)


def test_a_subfolder_is_not_published(store: ArtifactStore, adapter: Path) -> None:
    (adapter / "checkpoint").mkdir()
    with pytest.raises(Rejected):
        store.publish_adapter(adapter)


@pytest.mark.parametrize("harm", ["flip", "shorten", "lose", "add", "link", "manifest"])
def test_an_engine_never_gets_a_damaged_adapter(
    store: ArtifactStore, adapter: Path, harm: str
) -> None:
    digest = store.publish_adapter(adapter)
    path = store.fetch(digest)
    damage(path, adapter, harm)
    if isinstance(store, FolderStore):
        with pytest.raises(Rejected):
            store.fetch(digest)
    else:  # a cache's copy is mended
        verify(store.fetch(digest), digest)


def damage(path: Path, elsewhere: Path, harm: str) -> None:
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
        weights.rename(elsewhere / "elsewhere")
        weights.symlink_to(elsewhere / "elsewhere")
    else:
        (path / "manifest.json").chmod(0o600)
        (path / "manifest.json").write_bytes(b'{"files":[]}')
