"""Cuts the part of a requirements lock that one image needs out of the whole lock.

The locks under `requirements/` hold the service, the trainer and the developer's tools together, so
that all of them are resolved once. An image takes only what the named packages pull in: the `# via`
lines of the lock are its dependency graph. Used by the Dockerfile, so an image cannot drift from
what the tests ran on:

    python deploy/lock.py requirements/cpu.lock --project pyproject.toml --extra cpu > engine.lock
    python deploy/lock.py requirements/cpu.lock sqlalchemy alembic structlog > small.lock
"""

from __future__ import annotations

import argparse
import re
import sys
import tomllib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

_PIN = re.compile(r"^(?P<name>[A-Za-z0-9][A-Za-z0-9._-]*)==")
_NAME = re.compile(r"^[A-Za-z0-9][A-Za-z0-9._-]*")
_VIA = re.compile(r"^\s+#\s+(?:via\s+)?(?P<parent>[A-Za-z0-9][A-Za-z0-9._-]*)")


@dataclass(frozen=True, kw_only=True)
class Pin:
    """One locked package: its name, its lines with hashes, and what asked for it."""

    name: str
    text: str
    parents: frozenset[str]


def _canonical(name: str) -> str:
    """PEP 503's normal form."""
    return re.sub(r"[-_.]+", "-", name).lower()


def pins(lock: str) -> Iterator[Pin]:
    """Every pin of a lock as `uv pip compile` writes it; a name may stand twice under markers."""
    lines = [line for line in lock.splitlines() if not line.startswith("#")]
    starts = [(number, m["name"]) for number, line in enumerate(lines) if (m := _PIN.match(line))]
    ends = [*(number for number, _ in starts[1:]), len(lines)]
    for (start, name), end in zip(starts, ends, strict=True):
        block = lines[start:end]
        via = [m["parent"] for line in block if (m := _VIA.match(line)) and m["parent"] != "via"]
        yield Pin(
            name=_canonical(name),
            text="\n".join(block),
            parents=frozenset(map(_canonical, via)),
        )


def cut(lock: str, roots: Iterable[str]) -> str:
    """The pins of `roots` and of all they pull in, in the lock's order and with its hashes."""
    every = list(pins(lock))
    wanted = {_canonical(root) for root in roots}
    grown = True
    while grown:
        pulled = {pin.name for pin in every if pin.parents & wanted}
        grown = not pulled <= wanted
        wanted |= pulled
    return "".join(f"{pin.text}\n" for pin in every if pin.name in wanted)


def project_roots(pyproject: dict[str, Any], extra: str | None) -> list[str]:
    """Names of the project's own dependencies and of one of its extras."""
    project = pyproject["project"]
    asked = [*project["dependencies"], *(project["optional-dependencies"][extra] if extra else [])]
    return [m.group() for line in asked if (m := _NAME.match(line))]


def main(arguments: list[str]) -> None:
    """Print the cut."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("lock", type=Path)
    parser.add_argument("names", nargs="*", help="packages to keep, with all they pull in")
    parser.add_argument("--project", type=Path, help="pyproject.toml whose dependencies to keep")
    parser.add_argument("--extra", help="and one of its extras")
    given = parser.parse_args(arguments)
    roots = list(given.names)
    if given.project:
        roots += project_roots(tomllib.loads(given.project.read_text("utf-8")), given.extra)
    sys.stdout.write(cut(given.lock.read_text("utf-8"), roots))


if __name__ == "__main__":
    main(sys.argv[1:])
