"""What a replica takes of its machine, and what is in the registry's tables."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import psutil
from sqlalchemy import create_engine, inspect, text

MIB = 1024 * 1024


@dataclass(frozen=True, kw_only=True)
class Footprint:
    """One look at one process and one database."""

    memory: int
    """Resident bytes."""
    descriptors: int
    threads: int
    rows: Mapping[str, int]
    """By table."""

    def __str__(self) -> str:
        tables = ", ".join(f"{name} {count}" for name, count in self.rows.items() if count)
        return (
            f"{self.memory / MIB:.1f} MiB, {self.descriptors} descriptors, {self.threads} threads; "
            f"rows: {tables}"
        )


def look(pid: int, database_url: str) -> Footprint:
    """Reads both from outside."""
    process = psutil.Process(pid)
    return Footprint(
        memory=process.memory_info().rss,
        descriptors=process.num_fds(),
        threads=process.num_threads(),
        rows=table_sizes(database_url),
    )


def table_sizes(database_url: str) -> dict[str, int]:
    """Rows of every table."""
    engine = create_engine(database_url)
    try:
        with engine.connect() as connection:
            return {
                table: int(connection.execute(text(f'SELECT count(*) FROM "{table}"')).scalar_one())
                for table in sorted(inspect(connection).get_table_names())
            }
    finally:
        engine.dispose()
