"""The stores under test: a folder, and a real S3 server, also behind a proxy that harms."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from adapters.store import ArtifactStore, FolderStore
from tests.adapters.store.stores import Storage
from tests.servers.fault_proxy import HttpFaultProxy
from tests.servers.s3 import S3Server


@pytest.fixture(scope="session")
def s3() -> Iterator[S3Server]:
    with S3Server() as server:
        yield server


@pytest.fixture
def proxy(s3: S3Server) -> Iterator[HttpFaultProxy]:
    """Stands before the S3 server and lets everything pass until told otherwise."""
    with HttpFaultProxy(s3.port) as proxy:
        yield proxy


@pytest.fixture
def storage(s3: S3Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Storage:
    """An empty bucket; the environment says how to reach it."""
    for name, value in s3.environment().items():
        monkeypatch.setenv(name, value)
    return Storage(s3, s3.bucket(), tmp_path / "caches")


@pytest.fixture
def harmed(
    s3: S3Server, proxy: HttpFaultProxy, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Storage:
    """An empty bucket behind `proxy`."""
    for name, value in s3.environment(proxy.endpoint).items():
        monkeypatch.setenv(name, value)
    return Storage(s3, s3.bucket(), tmp_path / "caches")


@pytest.fixture(params=["folder", "s3"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> ArtifactStore:
    """An empty store."""
    if request.param == "folder":
        return FolderStore(tmp_path / "artifacts")
    storage: Storage = request.getfixturevalue("storage")
    return storage.open()


@pytest.fixture
def adapter(tmp_path: Path) -> Path:
    """A trained adapter's directory."""
    folder = tmp_path / "trained"
    folder.mkdir()
    (folder / "adapter_config.json").write_text('{"r": 8}')
    (folder / "adapter_model.safetensors").write_bytes(bytes(range(256)) * 9000)
    return folder
