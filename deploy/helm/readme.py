"""Writes the table of values into the chart's README from the comments in values.yaml.

A value is documented by the `# --` comment above it; a comment above a mapping documents the whole
of it. A value without one is an error, so the table is complete.

    python deploy/helm/readme.py
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

CHART = Path(__file__).parent / "wardrobe"
BEGIN, END = "<!-- values: written by deploy/helm/readme.py -->", "<!-- /values -->"
_KEY = re.compile(r"^(?P<indent> *)(?P<key>[A-Za-z][A-Za-z0-9]*):")
_COMMENT = re.compile(r"^ *#(?P<first> --)? (?P<text>.*)$")


class Undocumented(ValueError):
    """A value has no `# --` comment; the message names it."""


@dataclass(frozen=True, kw_only=True)
class Row:
    """One documented value."""

    path: str
    default: Any
    text: str


def rows(values: str) -> list[Row]:
    """Every value of a values.yaml with its comment, in order. Raises Undocumented."""
    documented = dict(_comments(values))
    tree = yaml.safe_load(values)
    return [
        Row(path=".".join(path), default=default, text=documented[path])
        for path, default in _values(tree, documented, ())
    ]


def _comments(values: str) -> Iterator[tuple[tuple[str, ...], str]]:
    """(path, comment) of each commented key; indentation is two spaces."""
    path: tuple[str, ...] = ()
    text: list[str] = []
    for line in values.splitlines():
        if comment := _COMMENT.match(line):
            text = [comment["text"]] if comment["first"] else [*text, comment["text"]]
        elif key := _KEY.match(line):
            path = (*path[: len(key["indent"]) // 2], key["key"])
            if text:
                yield path, " ".join(text)
            text = []


def _values(
    node: Any, documented: dict[tuple[str, ...], str], path: tuple[str, ...]
) -> Iterator[tuple[tuple[str, ...], Any]]:
    if path in documented:
        yield path, node
    elif isinstance(node, dict) and node:
        for key, value in node.items():
            yield from _values(value, documented, (*path, key))
    else:
        raise Undocumented(f"{'.'.join(path)} has no `# --` comment in values.yaml")


def table(values: str) -> str:
    """The rows as a Markdown table."""
    lines = ["| value | default | what it is |", "| --- | --- | --- |"]
    for row in rows(values):
        default = json.dumps(row.default, ensure_ascii=False).replace("|", "\\|")
        lines.append(f"| `{row.path}` | `{default}` | {row.text.replace('|', chr(92) + '|')} |")
    return "\n".join(lines)


def with_table(readme: str, values: str) -> str:
    """The README with the table of these values between its two marks."""
    before, _, rest = readme.partition(BEGIN)
    _, _, after = rest.partition(END)
    return f"{before}{BEGIN}\n{table(values)}\n{END}{after}"


if __name__ == "__main__":
    page = CHART / "README.md"
    values = (CHART / "values.yaml").read_text("utf-8")
    page.write_text(with_table(page.read_text("utf-8"), values), "utf-8")
