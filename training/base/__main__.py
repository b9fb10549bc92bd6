"""`python -m training.base [--json] [--cache DIR] [--force]`: build the base, print its path."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

from adapters.settings import Settings
from training.base.build import ensure_base
from training.base.recipe import BaseRecipe, digest


def main() -> int:
    """Progress goes to stderr; stdout gets the path, or one JSON object with `--json`.

    Exit code 1 and one line where the base cannot be built.
    """
    settings = Settings()
    parser = argparse.ArgumentParser(prog="python -m training.base", description=__doc__)
    parser.add_argument("--json", action="store_true", help="print a JSON object")
    parser.add_argument("--cache", type=Path, default=settings.cache, help="where to keep it")
    parser.add_argument("--force", action="store_true", help="build it again")
    args = parser.parse_args()
    try:
        path = ensure_base(
            args.cache, say=_say, force=args.force, precision=settings.train_precision
        )
    except OSError as error:
        _say(f"error: {error}")
        return 1
    print(json.dumps({"path": str(path), "recipe": digest(BaseRecipe())}) if args.json else path)
    return 0


def _say(line: str) -> None:
    print(f"base model: {line}", file=sys.stderr, flush=True)


if __name__ == "__main__":
    raise SystemExit(main())
