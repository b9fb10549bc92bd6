"""Object storage that fails, lies or is killed under: nothing is ever half visible."""

from __future__ import annotations

import logging
import os
import secrets
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest

from adapters.admission.manifest import content_files, manifest_of, verify
from adapters.domain.names import Digest
from adapters.errors import (
    InvalidRequest,
    NotFound,
    Rejected,
    StorageFull,
    Unavailable,
    WardrobeError,
)
from adapters.store import ArtifactKind
from adapters.store.bucket import PART_BYTES, Bucket
from adapters.store.object_store import ObjectStore
from tests.adapters.store.sources import an_adapter
from tests.adapters.store.stores import QUICK, Storage
from tests.servers.fault_proxy import Applies, Fault, HttpFaultProxy
from tests.servers.s3 import ACCESS_KEY, SECRET_KEY

FOR_EVER = 10_000


def weights_of(digest: Digest) -> str:
    return f"adapters/{digest}/adapter_model.safetensors"


def manifest_key(digest: Digest) -> str:
    return f"adapters/{digest}/manifest.json"


def gets(part: str) -> Callable[[str, str], bool]:
    return lambda method, path: method == "GET" and part in path


def puts(part: str) -> Callable[[str, str], bool]:
    return lambda method, path: method == "PUT" and part in path


def test_a_key_is_the_digest_of_what_it_holds_and_the_probe_leaves_nothing(
    storage: Storage, adapter: Path
) -> None:
    store = storage.open()
    file, _ = store.put_file([b"abc"], max_bytes=9)
    digest = store.publish_adapter(adapter)
    assert storage.keys() == [
        f"adapters/{digest}/adapter_config.json",
        weights_of(digest),
        manifest_key(digest),
        f"files/{file}",
    ]


def test_another_machine_gets_the_same_bytes_and_then_needs_no_storage(
    harmed: Storage, proxy: HttpFaultProxy, adapter: Path
) -> None:
    digest = harmed.open().publish_adapter(adapter)
    elsewhere = harmed.open(machine="two")
    path = elsewhere.fetch(digest)
    verify(path, digest)
    proxy.harm(Fault(drop=True), times=FOR_EVER)
    assert elsewhere.fetch(digest) == path
    assert harmed.open(machine="two").fetch(digest) == path


def test_large_files_go_in_parts_and_come_back(storage: Storage, tmp_path: Path) -> None:
    store = storage.open()
    content = os.urandom(2 * PART_BYTES + 12345)
    digest, size = store.put_file([content], max_bytes=1 << 30)
    assert size == len(content)
    head = storage.client.head_object(Bucket=storage.bucket, Key=f"a/prefix/files/{digest}")
    assert head["ETag"].endswith('-3"')
    with store.open_file(digest) as file:
        assert file.read() == content
    adapter = an_adapter(tmp_path / "large", size=2 * PART_BYTES)
    verify(storage.open(machine="two").fetch(store.publish_adapter(adapter)), published(adapter))


def test_an_upload_that_fails_in_the_middle_leaves_no_parts(
    harmed: Storage, proxy: HttpFaultProxy
) -> None:
    store = harmed.open()
    proxy.harm(Fault(status=400), times=3, applies=puts("partNumber=2"))
    with pytest.raises(Unavailable):
        store.put_file([os.urandom(2 * PART_BYTES)], max_bytes=1 << 30)
    assert harmed.keys() == []
    assert "Uploads" not in harmed.client.list_multipart_uploads(Bucket=harmed.bucket)


def published(adapter: Path) -> Digest:
    return manifest_of(content_files(adapter)).digest


def after(number: int, counts: Applies = lambda *_: True) -> Applies:
    """Lets so many of the requests that count pass, and then applies to them."""
    passed = iter(range(number))
    return lambda method, path: counts(method, path) and next(passed, None) is None


def is_felt_by(fault: Fault) -> Applies:
    """To which requests a fault makes a difference: harm to a body, where there is one."""
    in_the_body = fault.flip or fault.cut is not None or fault.reset_after is not None
    return lambda method, _: method == "GET" or not in_the_body


@pytest.fixture
def small(tmp_path: Path) -> Path:
    return an_adapter(tmp_path / "small", size=4000)


@pytest.mark.parametrize(
    "fault",
    [
        Fault(status=503),
        Fault(drop=True),
        Fault(lose_answer=True),
        Fault(reset_after=100),
        Fault(cut=100),
        Fault(flip=True),
    ],
    ids=["503", "drop", "lost answer", "reset in the body", "short 200", "flip"],
)
def test_a_fault_in_each_request_in_turn_does_not_even_show(
    harmed: Storage, proxy: HttpFaultProxy, small: Path, fault: Fault
) -> None:
    digest, store = published(small), harmed.open()
    for number in range(FOR_EVER):
        harmed.clear()
        proxy.requests.clear()
        proxy.harm(fault, applies=after(number, is_felt_by(fault)))
        assert store.publish_adapter(small) == digest
        path = store.fetch(digest)
        verify(path, digest)
        shutil.rmtree(path)
        if sum(is_felt_by(fault)(*request) for request in proxy.requests) <= number:
            break
        proxy.heal()
    assert number > 4


def test_a_storage_that_dies_at_any_request_of_a_publish_shows_all_or_nothing(
    harmed: Storage, proxy: HttpFaultProxy, small: Path
) -> None:
    digest, failures = published(small), 0
    store = harmed.open(patience=replace(QUICK, retries=0))
    for number in range(FOR_EVER):
        harmed.clear()
        proxy.harm(Fault(drop=True), times=FOR_EVER, applies=after(number))
        try:
            store.publish_adapter(small)
            break
        except Unavailable:
            failures += 1
        finally:
            proxy.heal()
        whole = {weights_of(digest), manifest_key(digest), f"adapters/{digest}/adapter_config.json"}
        if store.has(digest, ArtifactKind.ADAPTER):
            assert set(harmed.keys()) == whole
        elif harmed.keys():
            # What was left is listed, so that the collector finds it.
            assert [artifact.digest for artifact in store.list()] == [digest]
        assert store.publish_adapter(small) == digest
        verify(harmed.open(machine=f"{number}").fetch(digest), digest)
    assert failures > 6


PUBLISHES = """
import sys
from pathlib import Path
from adapters.store.bucket import Bucket, Patience
from adapters.store.cache import DirectoryCache
from adapters.store.object_store import ObjectStore

caches = Path(sys.argv[2])
ObjectStore(
    Bucket(sys.argv[1], patience=Patience()),
    adapters=DirectoryCache(caches / "adapters", max_bytes=None),
    bases=DirectoryCache(caches / "bases", max_bytes=None),
    datasets=DirectoryCache(caches / "datasets", max_bytes=None),
    scratch=caches / "scratch",
).publish_adapter(Path(sys.argv[3]))
"""


def test_a_publisher_killed_at_any_request_is_finished_by_the_next(
    harmed: Storage, proxy: HttpFaultProxy, adapter: Path
) -> None:
    digest, kills = published(adapter), 0
    store = harmed.open()
    for number in range(2, FOR_EVER, 3):
        harmed.clear()
        command = [sys.executable, "-c", PUBLISHES, harmed.url, str(harmed.caches), str(adapter)]
        killer = Killer(number)
        proxy.harm(Fault(drop=True), applies=killer)
        with subprocess.Popen(command) as process:
            killer.target = process.pid
            killer.aimed.set()
            code = process.wait(30.0)
        proxy.heal()
        if code == 0:
            break
        assert code == -signal.SIGKILL
        kills += 1
        assert not store.has(digest, ArtifactKind.ADAPTER) or len(harmed.keys()) == 3
        assert store.publish_adapter(adapter) == digest
        verify(harmed.open(machine=f"{number}").fetch(digest), digest)
    assert kills > 2


class Killer:
    """Kills a process when its so-and-so-many-th request comes, before it is answered."""

    def __init__(self, number: int) -> None:
        self._left = number
        self.target = 0
        self.aimed = threading.Event()

    def __call__(self, method: str, path: str) -> bool:
        self._left -= 1
        if self._left:
            return False
        assert self.aimed.wait(30.0)
        os.kill(self.target, signal.SIGKILL)
        return True


def test_two_who_publish_the_same_adapter_at_once_both_succeed(
    storage: Storage, adapter: Path
) -> None:
    stores = [storage.open(machine=f"{number}") for number in range(6)]
    start = threading.Barrier(6)

    def publish(store: ObjectStore) -> Digest:
        start.wait(30.0)
        return store.publish_adapter(adapter)

    with ThreadPoolExecutor(6) as pool:
        digests = set(pool.map(publish, stores))
    assert digests == {published(adapter)}
    assert len(storage.keys()) == 3
    verify(stores[0].fetch(published(adapter)), published(adapter))


@pytest.mark.parametrize("where", ["weights", "manifest"])
@pytest.mark.parametrize("harm", ["flip", "shorten", "lengthen", "empty", "lose"])
def test_bytes_damaged_in_the_storage_are_refused_and_mended_by_publishing_again(
    storage: Storage, adapter: Path, where: str, harm: str
) -> None:
    digest = storage.open().publish_adapter(adapter)
    key = weights_of(digest) if where == "weights" else manifest_key(digest)
    damage(storage, key, harm)
    elsewhere = storage.open(machine="two")
    with pytest.raises((Rejected, NotFound)):
        elsewhere.fetch(digest)
    assert list((storage.caches / "two" / "adapters" / "entries").iterdir()) == []
    assert storage.open().publish_adapter(adapter) == digest
    verify(storage.open(machine="three").fetch(digest), digest)


@pytest.mark.parametrize("harm", ["flip", "shorten", "lengthen", "empty"])
def test_a_file_damaged_in_the_storage_gives_no_byte_and_is_mended_by_an_upload(
    storage: Storage, harm: str
) -> None:
    store = storage.open()
    digest, _ = store.put_file([b"abc" * 1000], max_bytes=1 << 20)
    damage(storage, f"files/{digest}", harm)
    with pytest.raises(Rejected) as raised:
        store.open_file(digest)
    assert raised.value.reason == "file_damaged"
    store.put_file([b"abc" * 1000], max_bytes=1 << 20)
    with store.open_file(digest) as file:
        assert file.read() == b"abc" * 1000


def damage(storage: Storage, key: str, harm: str) -> None:
    content = storage.read(key)
    if harm == "lose":
        storage.remove(key)
    else:
        bent = {
            "flip": content[:50] + bytes([content[50] ^ 1]) + content[51:],
            "shorten": content[:-1],
            "lengthen": content + b"x",
            "empty": b"",
        }
        storage.write(key, bent[harm])


def test_an_adapter_that_lost_a_file_is_not_said_to_be_there(
    storage: Storage, adapter: Path
) -> None:
    store = storage.open()
    digest = store.publish_adapter(adapter)
    assert store.has(digest, ArtifactKind.ADAPTER)
    storage.remove(weights_of(digest))
    assert not store.has(digest, ArtifactKind.ADAPTER)


def test_a_writer_is_told_when_other_bytes_come_back_for_ever(
    harmed: Storage, proxy: HttpFaultProxy, adapter: Path
) -> None:
    store = harmed.open()
    proxy.harm(Fault(flip=True), times=FOR_EVER, applies=gets("/files/"))
    with pytest.raises(Unavailable):
        store.put_file([b"abc"], max_bytes=9)
    proxy.harm(Fault(cut=7), times=FOR_EVER, applies=gets("safetensors"))
    with pytest.raises(Unavailable):
        store.publish_adapter(adapter)
    proxy.heal()
    assert not store.has(published(adapter), ArtifactKind.ADAPTER)


def test_a_delete_cut_off_in_the_middle_is_invisible_listed_and_finished_later(
    harmed: Storage, proxy: HttpFaultProxy, adapter: Path
) -> None:
    store = harmed.open()
    digest = store.publish_adapter(adapter)
    first = iter([True])
    proxy.harm(
        Fault(drop=True),
        times=FOR_EVER,
        applies=lambda method, path: method == "POST" and not next(first, False),
    )
    with pytest.raises(Unavailable):
        store.delete(digest, ArtifactKind.ADAPTER)
    proxy.heal()
    with pytest.raises(NotFound):
        harmed.open(machine="two").fetch(digest)
    assert [artifact.digest for artifact in store.list()] == [digest]
    store.delete(digest, ArtifactKind.ADAPTER)
    assert harmed.keys() == []


def operations(store: ObjectStore, adapter: Path, digest: Digest) -> Iterator[Callable[[], object]]:
    yield lambda: store.put_file([b"abc"], max_bytes=9)
    yield lambda: store.open_file(digest)
    yield lambda: store.publish_adapter(adapter)
    yield lambda: store.fetch(digest)
    yield lambda: store.has(digest, ArtifactKind.ADAPTER)
    yield lambda: store.delete(digest, ArtifactKind.FILE)
    yield lambda: list(store.list())


@pytest.mark.parametrize(
    ("fault", "error", "reason"),
    [
        (Fault(status=503), Unavailable, "storage_unavailable"),
        (Fault(status=403), Unavailable, "storage_refused"),
        (Fault(status=401), Unavailable, "storage_refused"),
        (Fault(status=400), Unavailable, "storage_unavailable"),
        (Fault(drop=True), Unavailable, "storage_unavailable"),
        (Fault(delay_s=1.5), Unavailable, "storage_unavailable"),
    ],
    ids=["503", "403", "401", "400", "drop", "too slow"],
)
def test_a_storage_that_fails_for_ever_fails_every_call_in_time_and_in_our_words(
    harmed: Storage,
    proxy: HttpFaultProxy,
    adapter: Path,
    fault: Fault,
    error: type[WardrobeError],
    reason: str,
    caplog: pytest.LogCaptureFixture,
) -> None:
    store = harmed.open()
    proxy.harm(fault, times=FOR_EVER)

    def attempt(operation: Callable[[], object]) -> WardrobeError:
        started = time.monotonic()
        with pytest.raises(error) as raised:
            operation()
        # three whole tries of at most `retry_s + request_s` each
        assert time.monotonic() - started < 3 * (QUICK.retry_s + QUICK.request_s)
        return raised.value

    with caplog.at_level(logging.DEBUG), ThreadPoolExecutor(8) as pool:
        failures = list(pool.map(attempt, operations(store, adapter, published(adapter))))
    assert {failure.reason for failure in failures} == {reason}
    for failure in failures:
        said = f"{failure!r} {failure.__cause__!r} {failure.__context__!r} {caplog.text}"
        for secret in (harmed.bucket, "http", "127.0.0.1", ACCESS_KEY, SECRET_KEY, "obstore"):
            assert secret not in said


def test_a_storage_without_room_is_said_to_be_full(
    harmed: Storage, proxy: HttpFaultProxy, adapter: Path
) -> None:
    store = harmed.open()
    full = Fault(status=507, body=b"<Error><Code>XMinioStorageFull</Code></Error>")
    proxy.harm(full, times=FOR_EVER, applies=puts(""))
    with pytest.raises(StorageFull):
        store.put_file([b"abc"], max_bytes=9)
    with pytest.raises(StorageFull):
        store.publish_adapter(adapter)
    proxy.heal()
    store.fetch(store.publish_adapter(adapter))


def test_a_full_disk_here_is_said_and_passes(
    storage: Storage, small_disk: Callable[[int], Path], adapter: Path
) -> None:
    disk = small_disk(1024)
    here = Storage(storage.server, storage.bucket, disk)
    store, filler = here.open(), disk / "filler"
    digest = storage.open().publish_adapter(adapter)
    filler.write_bytes(b"x" * 900_000)
    with pytest.raises(StorageFull):
        store.put_file([b"y" * 300_000], max_bytes=1 << 20)
    with pytest.raises(StorageFull):
        store.fetch(digest)
    filler.unlink()
    store.put_file([b"y" * 300_000], max_bytes=1 << 20)


def test_a_storage_down_at_start_holds_up_no_start_and_is_asked_again(
    harmed: Storage, proxy: HttpFaultProxy, adapter: Path, caplog: pytest.LogCaptureFixture
) -> None:
    proxy.harm(Fault(drop=True), times=FOR_EVER)
    store = harmed.open()
    assert "does not answer at start" in caplog.text
    proxy.heal()
    digest = store.publish_adapter(adapter)
    verify(store.fetch(digest), digest)


def test_a_bucket_that_does_not_exist_is_said_at_start(storage: Storage) -> None:
    with pytest.raises(InvalidRequest, match="does not exist"):
        Storage(storage.server, f"no-{secrets.token_hex(4)}", storage.caches).open()


def test_refused_credentials_are_said_at_start(harmed: Storage, proxy: HttpFaultProxy) -> None:
    proxy.harm(Fault(status=403), times=FOR_EVER)
    with pytest.raises(Unavailable) as raised:
        harmed.open()
    assert raised.value.reason == "storage_refused"


class Forgetful(HttpFaultProxy):
    """A storage that takes no notice of conditions on a put."""

    def ask(
        self, method: str, path: str, headers: dict[str, str], body: bytes
    ) -> tuple[int, list[tuple[str, str]], bytes]:
        kept = {name: value for name, value in headers.items() if name.lower() != "if-none-match"}
        return super().ask(method, path, kept, body)


def test_a_storage_that_ignores_conditional_puts_is_named_and_still_used(
    storage: Storage,
    adapter: Path,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with Forgetful(storage.server.port) as proxy:
        monkeypatch.setenv("AWS_ENDPOINT_URL", proxy.endpoint)
        store = storage.open()
        assert "ignores conditional puts" in caplog.text
        digest = store.publish_adapter(adapter)
        verify(store.fetch(digest), digest)


def test_no_request_is_sent_without_tls_unless_the_endpoint_says_so(
    storage: Storage, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", f"https://127.0.0.1:{storage.server.port}")
    with pytest.raises(Unavailable):
        Bucket(storage.url, patience=QUICK).size("files/x")


@pytest.mark.parametrize(
    "url",
    [
        "s3://",
        "ftp://bucket",
        "s3://key:secret@bucket",
        "s3://bucket?x=1",
        "s3://bucket#x",
        "az://x",
    ],
)
def test_an_address_that_cannot_be_used_is_refused_without_repeating_it(
    url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("AZURE_STORAGE_ACCOUNT_NAME", raising=False)
    with pytest.raises(InvalidRequest) as raised:
        Bucket(url, patience=QUICK)
    assert "secret" not in str(raised.value)
