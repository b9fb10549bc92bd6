"""Migrations: bring an older schema up to date, refuse a newer one.

Steps go forward only. A step that is to run beside processes of the build before it only adds
(expand); what nobody uses any more is taken away one release later (contract).
"""

from __future__ import annotations

from contextlib import AbstractContextManager
from functools import cache
from pathlib import Path
from typing import Protocol

from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection

from adapters.errors import Conflict

_MIGRATIONS = Path(__file__).parent.parent / "migrations"
_LOCK = 7_237_122_661
"""PostgreSQL's advisory lock of whoever migrates; any number that is ours alone."""
_MIGRATION_WAIT = "10min"


class Transactions(Protocol):
    """A database, as far as migrating needs it."""

    def read(self) -> AbstractContextManager[Connection]: ...

    def write(self) -> AbstractContextManager[Connection]: ...


def bring_up_to_date(database: Transactions) -> None:
    """Brings the schema to this build's, in one write transaction: the lock, and all or none.

    Raises Conflict when a newer build has been here: its tables may mean something else.
    """
    with database.read() as connection:
        if _is_current(connection):
            return
    with database.write() as connection:
        _wait_for_others(connection)
        # Meanwhile another process may have done it.
        if not _is_current(connection):
            command.upgrade(_alembic(connection), "head")


def _wait_for_others(connection: Connection) -> None:
    """On SQLite the write transaction itself is the lock."""
    if connection.dialect.name == "postgresql":
        for timeout in ("lock_timeout", "statement_timeout", "idle_in_transaction_session_timeout"):
            connection.exec_driver_sql(f"SET LOCAL {timeout} = '{_MIGRATION_WAIT}'")
        connection.exec_driver_sql(f"SELECT pg_advisory_xact_lock({_LOCK})")


def _alembic(connection: Connection) -> Config:
    config = _config()
    config.attributes["connection"] = connection
    return config


def _config() -> Config:
    config = Config()
    config.set_main_option("script_location", str(_MIGRATIONS).replace("%", "%%"))
    return config


@cache
def _steps() -> tuple[str | None, frozenset[str]]:
    """The newest step of this build, and all of them; read once, since opening is frequent."""
    scripts = ScriptDirectory.from_config(_config())
    known = frozenset(step.revision for step in scripts.walk_revisions())
    return scripts.get_current_head(), known


def _is_current(connection: Connection) -> bool:
    head, known = _steps()
    current = MigrationContext.configure(connection).get_current_revision()
    if current is not None and current not in known:
        raise Conflict(
            f"the registry is at schema {current}, which this build of Wardrobe does not know; "
            "run the newer build that made it, or restore a backup",
            code="schema_newer",
        )
    return current == head
