"""Write the example data, or check that the committed files are what this code makes.

python -m examples.generate            write examples/data/<unit>/<split>.jsonl
python -m examples.generate --check    exit 1 if a file differs
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator
from pathlib import Path

from examples.generator.dataset import Unit, build, rendered
from examples.generator.hr import Hr
from examples.generator.sales import Sales
from examples.generator.support import Support

DATA = Path(__file__).parent / "data"


def units() -> tuple[Unit, ...]:
    return (Support(), Sales(), Hr())


def files() -> Iterator[tuple[Path, str]]:
    """Every file, relative to the data folder, with its content."""
    for unit in units():
        for split, examples in build(unit).items():
            yield Path(unit.name) / f"{split}.jsonl", rendered(unit, examples)


def write(data: Path) -> None:
    for path, content in files():
        (data / path).parent.mkdir(parents=True, exist_ok=True)
        (data / path).write_bytes(content.encode())


def differing(data: Path) -> list[Path]:
    """The files that are missing or not what the generator makes."""
    return [
        path
        for path, content in files()
        if not (data / path).is_file() or (data / path).read_bytes() != content.encode()
    ]


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m examples.generate")
    parser.add_argument("--check", action="store_true", help="exit 1 if a file differs")
    parser.add_argument("--data", type=Path, default=DATA, help="the folder of the files")
    options = parser.parse_args(arguments)
    if not options.check:
        write(options.data)
        return 0
    stale = differing(options.data)
    for path in stale:
        print(f"differs from what the generator makes: {path}", file=sys.stderr)
    return 1 if stale else 0


if __name__ == "__main__":
    sys.exit(main())
