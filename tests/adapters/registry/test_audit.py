"""The audit log in the database: written with the change or not at all, and append-only."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager

import pytest
from sqlalchemy import Connection, text

from adapters.domain.audit import EMPTY, Action, Damage, Head, Verdict, verify
from adapters.domain.principals import Principal, Role
from adapters.errors import NotFound, WardrobeError
from adapters.registry import Registry
from adapters.registry.open import open_registry
from adapters.registry.ports import Which
from adapters.registry.sql.audit import BATCH, append
from adapters.registry.sql.database import Database
from tests.adapters.registry.backends import Backend
from tests.adapters.registry.values import ADMIN, OWNER, SALES, STRANGER, SUPPORT

ALL = Which()


@pytest.fixture
def database(backend: Backend) -> Iterator[Database]:
    opened = Database(backend.url, journal=backend.journal)
    yield opened
    opened.close()


def write(connection: Connection, number: int = 1, *, by: Principal = OWNER) -> None:
    append(
        connection,
        by,
        Action.VERSION_RETIRED,
        f"version/support:{number}",
        at=1e9 + number / 3,
        unit=SUPPORT,
        before={"state": "live", "digest": "a" * 64, "mean": 1e22, "count": 3},
        after={"state": "retired", "aliases": ["support", "müller"]},
        reason="the tone was off: „so“",
    )


def write_many(database: Database, number: int) -> None:
    for each in range(number):
        with database.write() as connection:
            write(connection, each)


def verdict_of(registry: Registry, *anchors: Head) -> Verdict:
    return verify(registry.audit.parts(), anchors=anchors)


def test_an_entry_says_who_changed_what_and_why(registry: Registry, database: Database) -> None:
    with database.write() as connection:
        write(connection)
    (entry,) = registry.audit.list(ADMIN, ALL, after=None, limit=9).items
    assert (entry.seq, entry.actor, entry.role, entry.unit) == (1, "key_1", "unit", "support")
    assert (entry.action, entry.subject) == ("version.retired", "version/support:1")
    assert entry.before == {"state": "live", "digest": "a" * 64, "mean": 1e22, "count": 3}
    assert entry.after == {"state": "retired", "aliases": ["support", "müller"]}
    assert (entry.at, entry.reason) == (1e9 + 1 / 3, "the tone was off: „so“")
    assert (entry.prev_hash, registry.audit.head()) == (EMPTY.hash, entry.head)
    assert verdict_of(registry) == Verdict(head=entry.head)


def test_a_change_that_is_not_made_leaves_no_entry(registry: Registry, database: Database) -> None:
    def refused() -> None:
        with database.write() as connection:
            write(connection)
            raise NotFound("it was not there after all")

    with pytest.raises(NotFound):
        refused()
    assert registry.audit.head() == EMPTY
    assert verdict_of(registry) == Verdict(head=EMPTY)


def test_a_unit_reads_what_concerns_it_and_an_admin_reads_all(
    registry: Registry, database: Database
) -> None:
    for unit in (SUPPORT, SALES, None):
        with database.write() as connection:
            append(connection, ADMIN, Action.KEY_CREATED, "key/key_9", at=1.0, unit=unit)
    trainer = Principal(id="key_t", role=Role.TRAINER, unit=None)
    read = {
        who.id: [entry.unit for entry in registry.audit.list(who, ALL, after=None, limit=9).items]
        for who in (ADMIN, OWNER, STRANGER, trainer)
    }
    assert read == {
        "key_admin": [None, "sales", "support"],
        "key_1": ["support"],
        "key_2": ["sales"],
        "key_t": [],
    }
    foreign = registry.audit.list(OWNER, Which(unit=SALES), after=None, limit=9)
    assert list(foreign.items) == []


def test_entries_are_found_by_what_is_asked_and_read_in_pages(
    registry: Registry, database: Database
) -> None:
    write_many(database, 5)
    first = registry.audit.list(ADMIN, ALL, after=None, limit=3)
    assert ([entry.seq for entry in first.items], first.has_more) == ([5, 4, 3], True)
    rest = registry.audit.list(ADMIN, ALL, after="3", limit=3)
    assert ([entry.seq for entry in rest.items], rest.has_more) == ([2, 1], False)
    for which, found in {
        Which(subject="version/support:2"): [3],
        Which(actor="key_1", action="version.retired", unit=SUPPORT): [5, 4, 3, 2, 1],
        Which(actor="key_2"): [],
    }.items():
        listed = registry.audit.list(ADMIN, which, after=None, limit=9).items
        assert [entry.seq for entry in listed] == found
    with pytest.raises(NotFound):
        registry.audit.list(ADMIN, ALL, after="x", limit=3)


@pytest.mark.parametrize(
    "statement", ["UPDATE audit SET actor = 'key_other'", "DELETE FROM audit WHERE seq = 2"]
)
def test_the_database_itself_refuses_to_change_an_entry(
    registry: Registry, database: Database, statement: str
) -> None:
    write_many(database, 3)
    with pytest.raises(WardrobeError) as raised, database.write() as connection:
        connection.execute(text(statement))
    assert raised.value.reason == "registry_misuse"
    assert verdict_of(registry).head.seq == 3


# -- what somebody does who owns the database


@contextmanager
def unguarded(database: Database) -> Iterator[Connection]:
    """A transaction in which entries can be changed."""
    with database.write() as connection:
        if connection.dialect.name == "sqlite":
            for what in ("update", "delete"):
                connection.execute(text(f"DROP TRIGGER IF EXISTS audit_refuses_{what}"))
            yield connection
            return
        connection.execute(text("ALTER TABLE audit DISABLE TRIGGER audit_is_append_only"))
        yield connection
        connection.execute(text("ALTER TABLE audit ENABLE TRIGGER audit_is_append_only"))


_COLUMNS = "at, actor, role, unit, action, subject, before, after, reason, prev_hash, hash"
TAMPERED = {
    "edited": ["UPDATE audit SET actor = 'key_other' WHERE seq = {n}"],
    "its facts edited": ["""UPDATE audit SET "before" = '{{"state": "x"}}' WHERE seq = {n}"""],
    "its time edited": ["UPDATE audit SET at = at + 0.001 WHERE seq = {n}"],
    "deleted": ["DELETE FROM audit WHERE seq = {n}"],
    "moved": [
        "UPDATE audit SET seq = 99 WHERE seq = {n}",
        "UPDATE audit SET seq = {n} WHERE seq = {n} % 4 + 1",
        "UPDATE audit SET seq = {n} % 4 + 1 WHERE seq = 99",
    ],
    "one put in": [
        "UPDATE audit SET seq = -seq - 1 WHERE seq >= {n}",
        "UPDATE audit SET seq = -seq WHERE seq < 0",
        "INSERT INTO audit (seq, {columns}) SELECT {n}, {columns} FROM audit WHERE seq = {n} + 1",
    ],
}


def opened(backend: Backend) -> Registry:
    return open_registry(backend.url, journal=backend.journal)


@pytest.mark.parametrize("tampering", TAMPERED)
def test_whatever_is_done_to_a_row_shows(empty: Callable[[], Backend], tampering: str) -> None:
    for n in range(1, 5):
        backend = empty()
        database = Database(backend.url, journal=backend.journal)
        with closing(database), closing(opened(backend)) as registry:
            write_many(database, 4)
            assert verdict_of(registry).intact
            with unguarded(database) as connection:
                for statement in TAMPERED[tampering]:
                    connection.execute(text(statement.format(n=n, columns=_quoted(_COLUMNS))))
            verdict = verdict_of(registry)
            assert not verdict.intact
            assert verdict.head.seq <= n


def _quoted(columns: str) -> str:
    return ", ".join(f'"{name}"' for name in columns.split(", "))


def test_a_tail_that_was_cut_off_shows(registry: Registry, database: Database) -> None:
    write_many(database, 3)
    anchor = registry.audit.head()
    write_many(database, 2)
    with unguarded(database) as connection:
        connection.execute(text("DELETE FROM audit WHERE seq > 2"))
    assert verdict_of(registry).damage is Damage.CUT
    # whoever is careful writes the head anew as well
    with database.write() as connection:
        connection.execute(
            text("UPDATE audit_head SET seq = 2, hash = (SELECT hash FROM audit WHERE seq = 2)")
        )
    assert verdict_of(registry).intact
    verdict = verdict_of(registry, anchor)
    assert (verdict.damage, verdict.at) == (Damage.CUT, 3)


def test_a_long_log_is_read_in_parts(registry: Registry, database: Database) -> None:
    with database.write() as connection:
        for number in range(2 * BATCH):
            write(connection, number)
    assert [len(entries) for entries, _ in registry.audit.parts()] == [BATCH, BATCH, 0]
    assert verdict_of(registry) == Verdict(head=registry.audit.head())
    with unguarded(database) as connection:
        connection.execute(text(f"DELETE FROM audit WHERE seq = {BATCH + 7}"))
    verdict = verdict_of(registry)
    assert (verdict.damage, verdict.at) == (Damage.MISSING, BATCH + 7)


# -- many at once


def test_writers_at_one_moment_make_one_chain(registry: Registry, backend: Backend) -> None:
    writers, each = 4, 25
    start = threading.Barrier(writers)

    def write_all(_: int) -> None:
        with closing(Database(backend.url, journal=backend.journal)) as database:
            start.wait()
            write_many(database, each)

    with ThreadPoolExecutor(writers) as pool:
        list(pool.map(write_all, range(writers)))
    assert verdict_of(registry).head.seq == writers * each
    assert verdict_of(registry).intact


def test_who_appends_holds_up_no_reader(registry: Registry, database: Database) -> None:
    write_many(database, 1)
    with database.write() as connection:
        write(connection, 2)
        assert registry.audit.head().seq == 1
        assert verdict_of(registry).head.seq == 1
        assert registry.routes.revision() == 0
    assert verdict_of(registry).head.seq == 2
