"""The collector beside uploads, publishes, other collectors and kills."""

from __future__ import annotations

import os
import sqlite3
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from collections.abc import Set as AbstractSet
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from itertools import combinations
from pathlib import Path
from typing import Any

import pytest

from adapters.domain.names import Digest
from adapters.errors import Condemned, NotFound, Unavailable
from adapters.registry.open import open_registry
from adapters.registry.sql.condemned import CONDEMNED_SECONDS
from adapters.store import Artifact, ArtifactKind, ArtifactStore, FolderStore
from adapters.store.collector import BATCH, DELETE_WITHIN_S, Collector, collectable
from adapters.store.recording import PATIENCE_S, record_artifact
from tests.adapters.registry.backends import Backend, Clock, SqliteBackend
from tests.adapters.registry.values import added_file

DAY = 86_400.0
GRACE = DAY


class Rows:
    """`Roots` of a real registry, whose rows a test adds and whose clock it moves."""

    def __init__(self, backend: Backend) -> None:
        self._path = backend.path
        self.clock = Clock()
        self._registry = open_registry(backend.url, journal=backend.journal, now=self.clock)
        self.condemn = self._registry.collection.condemn
        self.clear = self._registry.collection.clear
        self.clear_abandoned = self._registry.collection.clear_abandoned
        self.close = self._registry.close
        self.after_look: Callable[[], object] = lambda: None

    def add(self, digest: Digest) -> None:
        added_file(self._registry, digest=digest)

    def roots(self) -> AbstractSet[Digest]:
        named = self.named
        self.after_look()
        return named

    @property
    def named(self) -> AbstractSet[Digest]:
        return self._registry.collection.roots()

    @property
    def condemned(self) -> set[str]:
        with closing(sqlite3.connect(self._path)) as connection:
            return {digest for (digest,) in connection.execute("SELECT digest FROM condemned")}


class Killed(BaseException):
    """The process ends here."""


class Halting(FolderStore):
    """A folder store that lets something happen before each deletion and after it."""

    def __init__(self, root: Path) -> None:
        super().__init__(root)
        self.before: Callable[[], None] = lambda: None
        self.after: Callable[[], None] = lambda: None

    def delete(self, digest: Digest, kind: ArtifactKind) -> bool:
        self.before()
        gone = super().delete(digest, kind)
        self.after()
        return gone


@pytest.fixture
def rows(tmp_path: Path) -> Iterator[Rows]:
    (tmp_path / "registry").mkdir()
    with closing(Rows(SqliteBackend("sqlite-wal").fresh(tmp_path / "registry"))) as opened:
        yield opened


@pytest.fixture
def folder(tmp_path: Path) -> Halting:
    return Halting(tmp_path / "artifacts")


def collector(store: ArtifactStore, rows: Rows, *, after: float = 2 * DAY) -> Collector:
    """One that runs so many seconds from now."""
    return Collector(store, rows, grace_s=GRACE, now=lambda: time.time() + after)


def a_file(store: ArtifactStore, text: str = "abc") -> Digest:
    return store.put_file([text.encode()], max_bytes=99)[0]


def artifact(digest: str, kind: ArtifactKind = ArtifactKind.FILE, *, age: float) -> Artifact:
    return Artifact(digest=Digest(digest), kind=kind, size_bytes=1, modified_at=1000.0 - age)


def test_what_is_named_or_young_or_a_base_is_not_collectable() -> None:
    old, older = artifact("old", age=11.0), artifact("older", ArtifactKind.ADAPTER, age=12.0)
    found = collectable(
        [
            old,
            older,
            artifact("young", age=9.0),
            artifact("named", age=99.0),
            artifact("base", ArtifactKind.BASE, age=99.0),
        ],
        {Digest("named")},
        now=1000.0,
        grace_s=10.0,
    )
    assert found == [older, old]


def test_a_run_deletes_what_nothing_names_and_nothing_else(
    store: ArtifactStore, rows: Rows, adapter: Path
) -> None:
    named, orphan = a_file(store, "named"), a_file(store, "orphan")
    version = store.publish_adapter(adapter)
    (adapter / "adapter_config.json").write_text("{}")
    orphaned = store.publish_adapter(adapter)
    rows.add(named)
    rows.add(version)
    assert collector(store, rows, after=0.0).run().deleted == 0
    done = collector(store, rows).run()
    assert (done.deleted, done.left) == (2, 0)
    assert done.deleted_bytes > len("orphan")
    assert store.has(named, ArtifactKind.FILE)
    assert store.has(version, ArtifactKind.ADAPTER)
    assert not store.has(orphan, ArtifactKind.FILE)
    assert not store.has(orphaned, ArtifactKind.ADAPTER)
    assert rows.condemned == set()


def test_more_than_one_batch_is_collected(folder: Halting, rows: Rows) -> None:
    for number in range(BATCH + 3):
        a_file(folder, f"{number}")
    assert collector(folder, rows).run().deleted == BATCH + 3


def test_what_is_named_between_the_look_and_the_verdict_stays(folder: Halting, rows: Rows) -> None:
    digest = a_file(folder)
    rows.after_look = lambda: rows.add(digest)
    done = collector(folder, rows).run()
    assert (done.deleted, done.left) == (0, 1)
    assert folder.has(digest, ArtifactKind.FILE)


def test_what_this_machine_uses_stays_and_may_be_named_again(
    folder: Halting, rows: Rows, adapter: Path
) -> None:
    digest = folder.publish_adapter(adapter)
    folder.pin(digest)
    assert collector(folder, rows).run().left == 1
    folder.fetch(digest)
    assert rows.condemned == set()
    folder.release(digest)
    assert collector(folder, rows).run().deleted == 1


def uploaded(store: ArtifactStore, rows: Rows, *, sleep: Callable[[float], None]) -> Digest:
    """An upload as the service does it: put, name, look, and put again."""
    digest = a_file(store)
    record_artifact(
        store,
        digest,
        ArtifactKind.FILE,
        add_row=lambda: rows.add(digest),
        put_again=lambda: a_file(store),
        sleep=sleep,
    )
    return digest


def never(_: float) -> None:
    pytest.fail("nobody had to wait")


class Turns:
    """Lets two threads call what they share one at a time, in an order that a test chooses."""

    def __init__(self, order: Iterable[str]) -> None:
        self._order = list(order)
        self._changed = threading.Condition()

    @contextmanager
    def turn(self, who: str) -> Iterator[None]:
        """Waits for the turn, and has it while the body runs; in the end everybody has."""
        with self._changed:
            assert self._changed.wait_for(lambda: self._order[:1] in ([], [who]), 30.0)
            yield
            del self._order[:1]
            self._changed.notify_all()

    def leave(self, who: str) -> None:
        """The turns that are left for `who` are nobody's."""
        with self._changed:
            self._order = [each for each in self._order if each != who]
            self._changed.notify_all()


class InTurns:
    """A store or rows, each call of which waits for `who`'s turn."""

    def __init__(self, target: object, turns: Turns, who: str) -> None:
        self._target, self._turns, self._who = target, turns, who

    def __getattr__(self, name: str) -> Any:
        def call(*values: Any, **named: Any) -> Any:
            with self._turns.turn(self._who):
                result = getattr(self._target, name)(*values, **named)
                return list(result) if name == "list" else result

        return call


COLLECTS, UPLOADS = "collects", "uploads"
ORDERS = [
    [UPLOADS if place in chosen else COLLECTS for place in range(10)]
    for chosen in combinations(range(10), 4)
]
"""Every order of the six calls of a collection and the four of an upload."""


def test_no_order_of_an_upload_and_a_collection_loses_the_bytes(rows: Rows, tmp_path: Path) -> None:
    ends = Counter(
        race(FolderStore(tmp_path / f"{number}"), rows, order, text=f"{number}")
        for number, order in enumerate(ORDERS)
    )
    # Both ends of the race were seen: the old bytes went, or the row came first.
    assert ends.keys() == {0, 1}


def race(store: FolderStore, rows: Rows, order: Iterable[str], *, text: str) -> int:
    """Uploads bytes while those of an earlier upload are collected; how many were deleted."""
    turns, before = Turns(order), rows.named
    digest = a_file(store, text)

    def collect() -> int:
        shared = (InTurns(store, turns, COLLECTS), InTurns(rows, turns, COLLECTS))
        try:
            return collector(*shared).run().deleted  # type: ignore[arg-type]
        finally:
            turns.leave(COLLECTS)

    def upload() -> None:
        def sleep(_: float) -> None:
            with turns.turn(UPLOADS):
                pass

        seen: Any = InTurns(store, turns, UPLOADS)
        try:
            a_file(seen, text)
            record_artifact(
                seen,
                digest,
                ArtifactKind.FILE,
                add_row=lambda: InTurns(rows, turns, UPLOADS).add(digest),
                put_again=lambda: a_file(seen, text),
                sleep=sleep,
            )
        finally:
            turns.leave(UPLOADS)

    with ThreadPoolExecutor(2) as pool:
        deleted, done = pool.submit(collect), pool.submit(upload)
        done.result(30.0)
        assert rows.named == before | {digest}
        gone = deleted.result(30.0)
    assert rows.condemned == set()
    assert folder_has(store, digest, text)
    return gone


def folder_has(store: FolderStore, digest: Digest, text: str = "abc") -> bool:
    with store.open_file(digest) as file:
        return file.read() == text.encode()


def test_an_upload_of_bytes_that_are_being_deleted_waits_and_keeps_them(
    folder: Halting, rows: Rows
) -> None:
    digest, waits = a_file(folder), []

    def collected(_: float) -> None:
        waits.append(digest)
        folder.delete(digest, ArtifactKind.FILE)
        rows.clear({digest})

    rows.condemn({digest})
    assert uploaded(folder, rows, sleep=collected) == digest
    assert waits == [digest]
    assert folder_has(folder, digest)


def test_bytes_deleted_between_an_upload_and_its_row_are_put_again(
    folder: Halting, rows: Rows
) -> None:
    digest = a_file(folder)

    def add() -> None:
        assert collector(folder, rows).run().deleted == 1
        rows.add(digest)

    record_artifact(
        folder,
        digest,
        ArtifactKind.FILE,
        add_row=add,
        put_again=lambda: a_file(folder),
        sleep=never,
    )
    assert folder_has(folder, digest)


def test_an_upload_in_the_middle_of_a_run_keeps_its_bytes(folder: Halting, rows: Rows) -> None:
    digest = a_file(folder)
    put: list[Digest] = []
    folder.before = lambda: put.append(a_file(folder))
    assert collector(folder, rows).run().deleted == 1
    assert put == [digest]
    assert uploaded(folder, rows, sleep=never) == digest
    assert folder_has(folder, digest)


def test_an_upload_does_not_wait_for_ever(folder: Halting, rows: Rows) -> None:
    digest, clock = a_file(folder), 0.0

    def sleep(seconds: float) -> None:
        nonlocal clock
        clock += seconds

    rows.condemn({digest})
    with pytest.raises(Condemned):
        record_artifact(
            folder,
            digest,
            ArtifactKind.FILE,
            add_row=lambda: rows.add(digest),
            put_again=lambda: pytest.fail("nothing was recorded"),
            sleep=sleep,
            monotonic=lambda: clock,
        )
    assert PATIENCE_S <= clock < PATIENCE_S + 1
    assert rows.named == set()


@pytest.mark.parametrize("moment", ["before", "after"])
def test_what_a_killed_run_condemned_is_finished_by_a_later_one(
    folder: Halting, rows: Rows, moment: str
) -> None:
    a_file(folder, "one")
    a_file(folder, "two")

    def kill() -> None:
        raise Killed

    setattr(folder, moment, kill)
    with pytest.raises(Killed):
        collector(folder, rows).run()
    assert len(rows.condemned) == 2
    setattr(folder, moment, lambda: None)
    # It may only be slow: for a while nobody touches what it has condemned.
    assert collector(folder, rows).run().deleted == 0
    assert len(rows.condemned) == 2
    rows.clock.pass_by(CONDEMNED_SECONDS)
    collector(folder, rows).run()
    assert rows.condemned == set()
    assert list(folder.list()) == []


def test_what_was_put_again_after_a_killed_run_may_be_named(folder: Halting, rows: Rows) -> None:
    digest = a_file(folder)
    rows.condemn({digest})
    rows.clock.pass_by(CONDEMNED_SECONDS)
    assert collector(folder, rows, after=0.0).run().deleted == 0
    assert uploaded(folder, rows, sleep=never) == digest


def test_a_second_collector_does_not_touch_what_the_first_is_at(
    folder: Halting, rows: Rows
) -> None:
    a_file(folder)
    seconds: list[int] = []
    other = FolderStore(folder_root(folder))
    folder.before = lambda: seconds.append(collector(other, rows).run().deleted)
    assert collector(folder, rows).run().deleted == 1
    assert seconds == [0]


def folder_root(store: FolderStore) -> Path:
    return store._files.parent


def test_a_deletion_without_an_answer_stays_condemned_and_stops_no_other(
    folder: Halting, rows: Rows
) -> None:
    first, second = a_file(folder, "one"), a_file(folder, "two")
    os.utime(next((folder_root(folder) / "files").glob(f"*/{first}")), (1.0, 1.0))
    answers = iter([Unavailable("the storage does not answer"), None])

    def answer() -> None:
        error = next(answers)
        if error is not None:
            raise error

    folder.before = answer
    done = collector(folder, rows).run()
    assert (done.deleted, done.left) == (1, 1)
    assert rows.condemned == {first}
    with pytest.raises(NotFound):
        folder.open_file(second)


def test_a_batch_out_of_time_is_given_back_untouched(folder: Halting, rows: Rows) -> None:
    for number in range(3):
        a_file(folder, f"{number}")
    clock = 0.0

    def slow() -> None:
        nonlocal clock
        clock += DELETE_WITHIN_S + 1

    folder.after = slow
    run = Collector(
        folder, rows, grace_s=GRACE, now=lambda: time.time() + 2 * DAY, monotonic=lambda: clock
    ).run()
    assert (run.deleted, run.left) == (1, 2)
    assert rows.condemned == set()


def test_a_clock_that_leaps_ahead_deletes_nothing_that_is_named_and_loses_no_upload(
    folder: Halting, rows: Rows
) -> None:
    named = a_file(folder, "named")
    rows.add(named)
    collector(folder, rows, after=1000 * DAY).run()
    assert folder.has(named, ArtifactKind.FILE)
