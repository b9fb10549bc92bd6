"""`wardrobe`: the command line.

Talks to the service over HTTP like any other client; `up`, `serve` and `trainer` start processes.
Nothing heavy is imported before a command needs it, so that `--help` answers at once.
"""

from __future__ import annotations


def main() -> None:
    """The console command's entry point."""
    import sys

    from service.cli.app import app
    from service.cli.error_messages import run

    sys.exit(run(app))
