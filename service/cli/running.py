"""Commands that run something here: `up`, `serve`, `trainer`, `base build`, `base publish`."""

from __future__ import annotations

from typing import TYPE_CHECKING

import typer

from service.cli.options import AsJson, chosen_settings, needs
from service.cli.output import clock, print_json

if TYPE_CHECKING:
    from adapters.settings import Settings

base = typer.Typer(help="The base model that all adapters share.")


def add_to(app: typer.Typer) -> None:
    """Hangs the commands of this file into the tree."""
    app.command()(up)
    app.command()(serve)
    app.command()(trainer)


@needs(chosen_settings)
def up(settings: Settings) -> None:
    """Run the service and the trainer here until Ctrl-C (twice: at once).

    Example: wardrobe up --port 8001 --state .wardrobe/state
    """
    _supervise(settings, trainer=True)


@needs(chosen_settings)
def serve(settings: Settings) -> None:
    """Run the service alone, restarted whenever it dies, until SIGTERM.

    Example: WARDROBE_BASE=/models/llama wardrobe serve --host 0.0.0.0
    """
    _supervise(settings, trainer=False)


@needs(chosen_settings)
def trainer(settings: Settings) -> None:
    """Run the trainer alone, beside a service on the same state folder.

    Example: wardrobe trainer --state /var/lib/wardrobe
    """
    from service.launch.launcher import become_trainer

    become_trainer(settings)


@base.command("build")
@needs(chosen_settings)
def build(settings: Settings, as_json: AsJson = False) -> None:
    """Build the embedded base model, or fetch the one that --base names; done once.

    Example: wardrobe base build --base org/model
    """
    from service.launch.base_resolver import resolve_base

    found = resolve_base(settings)
    if as_json:
        print_json({"name": found.name, "path": str(found.path)})
    else:
        typer.echo(f"{found.name}  {found.path}")


@base.command("publish")
@needs(chosen_settings)
def publish(settings: Settings, as_json: AsJson = False) -> None:
    """Put the base model into the artifact store, and say how replicas name it there.

    Example: wardrobe base publish --base org/model
    """
    from service.launch.base_resolver import publish_base

    found = publish_base(settings)
    if as_json:
        print_json({"base": found})
    else:
        typer.echo(found)


def _supervise(settings: Settings, *, trainer: bool) -> None:
    import sys

    from service.launch.launcher import up as run_up

    code = run_up(settings, _tell, trainer=trainer, show_keys=trainer and sys.stdout.isatty())
    raise typer.Exit(code)


def _tell(line: str) -> None:
    import time

    typer.echo(f"{clock(time.time())}  {line}")
