"""Which store the settings name."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from adapters.errors import InvalidRequest
from adapters.settings import Settings
from adapters.store import FolderStore
from adapters.store.object_store import ObjectStore
from adapters.store.open import open_store
from tests.adapters.store.sources import an_adapter
from tests.adapters.store.stores import QUICK, Storage


def test_without_a_word_it_is_the_state_folders(tmp_path: Path, adapter: Path) -> None:
    store = open_store(Settings(state=tmp_path / "state"))
    assert isinstance(store, FolderStore)
    digest = store.publish_adapter(adapter)
    assert store.fetch(digest) == tmp_path / "state" / "artifacts" / "adapters" / digest


def test_a_folder_may_be_shared_by_several(tmp_path: Path, adapter: Path) -> None:
    one, two = (
        open_store(Settings(state=tmp_path / name, artifacts=str(tmp_path / "shared")))
        for name in ("one", "two")
    )
    digest = one.publish_adapter(adapter)
    assert two.fetch(digest) == one.fetch(digest)


def test_a_bucket_is_used_through_a_cache_in_the_state_folder(
    storage: Storage, tmp_path: Path
) -> None:
    room = 250_000 / (1 << 30)
    settings = Settings(
        state=tmp_path / "state", artifacts=storage.url, artifact_cache_gib=room, cache=tmp_path
    )
    store = open_store(settings, patience=QUICK)
    assert isinstance(store, ObjectStore)
    digests = [
        store.publish_adapter(an_adapter(tmp_path / f"{seed}", size=200_000, seed=seed))
        for seed in range(2)
    ]
    entries = tmp_path / "state" / "artifact-cache" / "entries"
    for digest in digests:
        assert store.fetch(digest) == entries / digest
    assert [path.name for path in entries.iterdir()] == [digests[1]]


def test_what_is_no_store_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InvalidRequest):
        open_store(Settings(state=tmp_path, artifacts="https://example.com/bucket"))


def test_a_folder_store_needs_neither_the_settings_nor_the_storages_client() -> None:
    program = (
        "import sys, adapters.store\n"
        "sys.exit(', '.join({'obstore', 'pydantic'} & set(sys.modules)) or 0)"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
