"""`python -m examples.demo [--state FOLDER]`: what `make demo` runs."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from service.cli.error_messages import run

app = typer.Typer(add_completion=False)


@app.command()
def demo(
    state: Annotated[
        str, typer.Option("--state", metavar="FOLDER", help="A folder that the demo may make anew.")
    ] = ".wardrobe/demo",
) -> None:
    """Show everything, for real: three units trained, proven, live, swapped under load.

    Takes some minutes and ends by itself. Example: make demo
    """
    from examples.demo import run_demo

    raise typer.Exit(run_demo(Path(state)))


if __name__ == "__main__":
    sys.exit(run(app, sys.argv[1:], name="python -m examples.demo"))
