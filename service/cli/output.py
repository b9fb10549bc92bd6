"""What commands print: a table for people, JSON for machines."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Iterable, Sequence
from typing import Any

import typer

EMPTY = "-"
_UNITS = ((86400, "d"), (3600, "h"), (60, "min"))


def print_json(value: Any) -> None:
    """One JSON document on standard output."""
    typer.echo(json.dumps(value, indent=2, ensure_ascii=False, default=str))


def print_table(columns: Sequence[str], rows: Iterable[Sequence[object]], *, empty: str) -> None:
    """A table, or the sentence `empty` where there are no rows."""
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(*columns, box=None, header_style="bold", pad_edge=False)
    for row in rows:
        table.add_row(*(Text(_cell(value)) for value in row))
    if not table.rows:
        typer.echo(empty)
        return
    # into a pipe nothing is cut off at a terminal's width
    Console(width=None if sys.stdout.isatty() else 200).print(table)


def ago(moment: float | None) -> str:
    """`5 min ago` of seconds since the epoch."""
    if not moment:
        return EMPTY
    seconds = max(0.0, time.time() - moment)
    size, name = next((each for each in _UNITS if seconds >= each[0]), (1, "s"))
    return f"{seconds // size:.0f} {name} ago"


def utc(moment: float | None) -> str:
    """`2026-05-03 14:03:59Z` of seconds since the epoch: for what is kept as evidence."""
    if not moment:
        return EMPTY
    return time.strftime("%Y-%m-%d %H:%M:%SZ", time.gmtime(moment))


def until(moment: float | None) -> str:
    """`in 5 d` of seconds since the epoch; `never` of none."""
    if moment is None:
        return "never"
    seconds = max(0.0, moment - time.time())
    size, name = next((each for each in _UNITS if seconds >= each[0]), (1, "s"))
    return f"in {seconds / size:.0f} {name}"


def clock(moment: float) -> str:
    """`14:03:59` here of seconds since the epoch."""
    return time.strftime("%H:%M:%S", time.localtime(moment))


def _cell(value: object) -> str:
    if value is None or value == "":
        return EMPTY
    if isinstance(value, bool):
        return "yes" if value else "no"
    return str(value)
