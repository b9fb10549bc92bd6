"""Commands that run something here: `up`, `serve`, `trainer`, `base build`, `publish`, `update`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from service.cli.options import AsJson, chosen_settings, needs, serving_settings
from service.cli.output import clock, print_json

if TYPE_CHECKING:
    from adapters.settings import Settings

base = typer.Typer(help="The base model that all adapters share.")


def add_to(app: typer.Typer) -> None:
    """Hangs the commands of this file into the tree."""
    app.command()(up)
    app.command()(serve)
    app.command()(trainer)


@needs(serving_settings)
def up(settings: Settings) -> None:
    """Run the service and the trainer here until Ctrl-C (twice: at once).

    Example: wardrobe up --port 8001 --state .wardrobe/state
    """
    _supervise(settings, trainer=True)


@needs(serving_settings)
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
    """Get the base model, smollm2 where --base names none; done once.

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


@base.command("check")
@needs(chosen_settings)
def check(
    settings: Settings,
    name: Annotated[
        str, typer.Argument(metavar="[BASE]", help="A folder, a hub id or a brought base.")
    ] = "",
    as_json: AsJson = False,
) -> None:
    """Say what a base model is and everything that stands in its way, without fetching weights.

    Exit code 1 where no adapter could be trained on it and served with it.

    Example: wardrobe base check org/model
    """
    from service.cli.base_check import look_at, told

    found = look_at(settings.model_copy(update={"base": name}) if name else settings)
    if as_json:
        print_json(found.as_json())
    else:
        for line in told(found):
            typer.echo(line)
    raise typer.Exit(0 if found.usable else 1)


@base.command("update")
@needs(chosen_settings)
def update(settings: Settings, as_json: AsJson = False) -> None:
    """Take the hub's newest commit of the base model, which is held at one otherwise.

    Versions of the old commit answer no more until they are trained anew: they are kept, and
    `--base org/model@commit` brings them back.

    Example: wardrobe base update --base org/model
    """
    from service.launch.hub import fetch_from_hub, pinned_revision

    before = pinned_revision(settings)
    path = fetch_from_hub(settings, newest=True)
    if as_json:
        print_json({"path": str(path), "was": before, "is": path.name})
    else:
        typer.echo(f"{path}  {before or 'not held before'} -> {path.name}")


def _supervise(settings: Settings, *, trainer: bool) -> None:
    import sys

    from service.launch.launcher import up as run_up

    code = run_up(settings, _tell, trainer=trainer, show_keys=trainer and sys.stdout.isatty())
    raise typer.Exit(code)


def _tell(line: str) -> None:
    import time

    typer.echo(f"{clock(time.time())}  {line}")
