"""Erasures in the database: a unit's key, and digests of what was erased."""

from __future__ import annotations

import secrets
from collections.abc import Collection

from sqlalchemy import select

from adapters.domain.audit import Action
from adapters.domain.erasures import ErasedTerm
from adapters.domain.names import Unit
from adapters.domain.principals import SYSTEM, Principal
from adapters.registry.sql import schema
from adapters.registry.sql.audit import append
from adapters.registry.sql.queries import SqlPort, add_missing

KEY_BYTES = 32


class SqlErasures(SqlPort):
    """Implements `Erasures`."""

    def key(self, unit: Unit) -> bytes:
        """The unit's key; of two that make it at once, one is kept."""
        table = schema.data_keys
        query = select(table.c.key).where(table.c.unit == unit)
        with self._database.read() as connection:
            found = connection.execute(query).scalar_one_or_none()
        if found is not None:
            return bytes(found)
        with self._database.write() as connection:
            at = self._database.now(connection)
            new = {"unit": unit, "key": secrets.token_bytes(KEY_BYTES), "made_at": at}
            if add_missing(connection, table, new):
                subject = f"data_key/{unit}"
                append(connection, SYSTEM, Action.DATA_KEY_MADE, subject, at=at, unit=unit)
            return bytes(connection.execute(query).scalar_one())

    def of_unit(self, unit: Unit) -> frozenset[ErasedTerm]:
        """Everything that was erased."""
        table = schema.erased_terms.c
        query = select(table.digest, table.words).where(table.unit == unit)
        with self._database.read() as connection:
            return frozenset(
                ErasedTerm(digest=bytes(row.digest), words=row.words)
                for row in connection.execute(query)
            )

    def add(
        self, unit: Unit, terms: Collection[ErasedTerm], by: Principal, *, reason: str | None
    ) -> int:
        """Audited by number, never by digest: an entry stays, and a digest can be guessed at."""
        with self._database.write() as connection:
            at = self._database.now(connection)
            added = sum(
                add_missing(
                    connection,
                    schema.erased_terms,
                    {"unit": unit, "digest": term.digest, "words": term.words, "erased_at": at},
                )
                for term in sorted(terms, key=lambda each: each.digest)
            )
            if not added:
                return 0
            append(
                connection,
                by,
                Action.RECORDS_ERASED,
                f"records/{unit}",
                at=at,
                unit=unit,
                after={"terms": len(terms), "new": added},
                reason=reason,
            )
            return added
