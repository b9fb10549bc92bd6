"""What every table is declared with: one collection of them, its naming rules, and JSON."""

from __future__ import annotations

from typing import Any

from sqlalchemy import JSON as SQL_JSON
from sqlalchemy import CheckConstraint, Column, Integer, MetaData, Table

metadata = MetaData(
    naming_convention={
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
        "ck": "ck_%(table_name)s_%(constraint_name)s",
        "fk": "fk_%(table_name)s_%(column_0_N_name)s_%(referred_table_name)s",
        "pk": "pk_%(table_name)s",
    }
)
JSON = SQL_JSON(none_as_null=True)


def single_row(name: str, *columns: Column[Any]) -> Table:
    """A table of one row at most, to keep and to lock one value of the whole registry."""
    return Table(
        name,
        metadata,
        Column("id", Integer, primary_key=True, autoincrement=False),
        *columns,
        CheckConstraint("id = 1", name="single_row"),
    )
