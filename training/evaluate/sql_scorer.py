"""Scores SQL by what it finds: the answer's rows beside the reference's, in a given SQLite file.

The query is a model's words, so the file is opened read-only, an authorizer lets nothing through
but reading, and the steps, the rows, the size of a row and of all that is found are bounded, as is
what is sorted on the disk meanwhile. The bound counts steps of SQLite's machine and no seconds: no
score depends on how fast this one is.
"""

from __future__ import annotations

import re
import sqlite3
import sys
from collections import Counter
from collections.abc import Iterable
from contextlib import closing
from pathlib import Path
from typing import Any

from adapters.errors import InvalidRequest

MAX_STEPS = 5_000_000
"""Instructions of SQLite's virtual machine for one query: less than a second or so."""
MAX_ROWS = 10_000
MAX_QUERY = 16 * 1024
"""Bytes of a query."""
MAX_VALUE = 64 * 1024
"""Bytes of a value and of a row."""
MAX_FOUND = 8 * 1024 * 1024
"""Bytes of all rows together, as they lie in memory: ten thousand rows of the largest values would
be ten times the model that is asked."""
MAX_WRITTEN = 64 * 1024 * 1024
"""Bytes that a query may sort on the disk: few steps write large values, 8 GB before they end."""
_EVERY = 10_000
WRITTEN_BY_THREAD = Path("/proc/thread-self/io")
_ALLOWED = {sqlite3.SQLITE_SELECT, sqlite3.SQLITE_READ, sqlite3.SQLITE_FUNCTION}
"""No recursion: it alone could make rows without end, and sort them on the disk."""
_REFUSED_FUNCTIONS = {"load_extension", "readfile", "writefile", "edit", "fts3_tokenizer"}
_ORDERED = re.compile(r"\border\s+by\b", re.IGNORECASE)
_FENCE = re.compile(r"^```(?:sql)?\s*(.*?)\s*```$", re.DOTALL | re.IGNORECASE)


class SqlScorer:
    """1.0 where both queries give the same rows, in the same order where the reference asks."""

    def __init__(self, database: Path) -> None:
        """Raises InvalidRequest where the file is missing or no database."""
        self._database = database
        try:
            with closing(self._connect()) as connection:
                connection.execute("SELECT count(*) FROM sqlite_master").fetchone()
        except sqlite3.Error as error:
            raise InvalidRequest(
                f"{database.name} cannot be read as an SQLite database",
                param="sql_database",
                code="invalid_scorer",
            ) from error

    def __call__(self, answer: str, reference: str) -> float:
        wanted = self._rows(reference)
        if wanted is None:  # a reference that cannot be run says nothing of the answer
            return float(answer.strip() == reference.strip())
        said = self._rows(answer)
        if said is None:
            return 0.0
        if _ORDERED.search(reference):
            return float(said == wanted)
        return float(Counter(said) == Counter(wanted))

    def _rows(self, query: str) -> list[tuple[Any, ...]] | None:
        """None where it is no query, does what it may not, or asks for too much."""
        fenced = _FENCE.match(query.strip())
        text = fenced[1] if fenced else query.strip()
        try:
            with closing(self._connect()) as connection:
                return _bounded(connection.execute(text))
        except (sqlite3.Error, sqlite3.Warning, OverflowError, ValueError, MemoryError):
            return None

    def _connect(self) -> sqlite3.Connection:
        """A connection of its own for each query: a step bound that begins anew, and no state."""
        address = f"{self._database.absolute().as_uri()}?mode=ro&immutable=1"
        connection = sqlite3.connect(address, uri=True)
        connection.text_factory = _text
        connection.setlimit(sqlite3.SQLITE_LIMIT_ATTACHED, 0)
        connection.setlimit(sqlite3.SQLITE_LIMIT_LENGTH, MAX_VALUE)
        connection.setlimit(sqlite3.SQLITE_LIMIT_SQL_LENGTH, MAX_QUERY)
        connection.setlimit(sqlite3.SQLITE_LIMIT_EXPR_DEPTH, 100)
        connection.setlimit(sqlite3.SQLITE_LIMIT_COMPOUND_SELECT, 50)
        connection.set_authorizer(_authorize)
        connection.set_progress_handler(_Steps().more, _EVERY)
        return connection


def _bounded(cursor: Iterable[tuple[Any, ...]]) -> list[tuple[Any, ...]] | None:
    """The rows, read one by one; None where there are too many, or they are too large together."""
    rows: list[tuple[Any, ...]] = []
    left = MAX_FOUND
    for row in cursor:
        left -= sys.getsizeof(row) + sum(map(sys.getsizeof, row))
        if left < 0 or len(rows) == MAX_ROWS:
            return None
        rows.append(row)
    return rows


class _Steps:
    """Counts what one connection has done."""

    def __init__(self) -> None:
        self._left = MAX_STEPS // _EVERY
        self._most = written() + MAX_WRITTEN

    def more(self) -> int:
        """1 stops the query."""
        self._left -= 1
        return int(self._left < 0 or written() > self._most)


def written() -> int:
    """Bytes that this thread has written to any file; 0 where the kernel does not tell.

    SQLite sorts in the thread that asks, in files that are deleted as soon as they are made.
    """
    try:
        lines = WRITTEN_BY_THREAD.read_text("ascii").splitlines()
    except OSError:
        return 0
    return next((int(line[6:]) for line in lines if line.startswith("wchar:")), 0)


def _authorize(action: int, _one: Any, two: Any, *_where: Any) -> int:
    refused = action == sqlite3.SQLITE_FUNCTION and str(two).lower() in _REFUSED_FUNCTIONS
    return sqlite3.SQLITE_OK if action in _ALLOWED and not refused else sqlite3.SQLITE_DENY


def _text(value: bytes) -> str:
    """A database may hold text that is no UTF-8."""
    return value.decode("utf-8", "replace")
