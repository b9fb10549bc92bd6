"""The project's pages, and what they say in code."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]


@dataclass(frozen=True)
class Page:
    """One Markdown page."""

    path: Path

    @property
    def name(self) -> str:
        return str(self.path.relative_to(ROOT))

    @property
    def text(self) -> str:
        return self.path.read_text("utf-8")

    def code(self) -> Iterator[str]:
        """Lines of its blocks of code, and what stands between backticks."""
        prose = []
        for place, part in enumerate(re.split(r"(?m)^```.*$", self.text)):
            if place % 2:
                yield from part.splitlines()
            else:
                prose.append(part)
        yield from re.findall(r"`([^`\n]+)`", "\n".join(prose))


PAGES = [
    Page(path)
    for path in sorted(
        [
            *ROOT.glob("*.md"),
            *ROOT.glob("docs/*.md"),
            *ROOT.glob("*/README.md"),
            *ROOT.glob("deploy/helm/*/README.md"),
        ]
    )
]
