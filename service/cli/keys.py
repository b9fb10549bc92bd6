"""`wardrobe keys`: the API keys of the registry that the settings name, no service needed."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from service.cli.options import AsJson, needs, state_settings
from service.cli.output import ago, print_json, print_table

if TYPE_CHECKING:
    from adapters.settings import Settings

app = typer.Typer(help="API keys: who has one, and ending one.")


@app.command("list")
@needs(state_settings)
def list_keys(settings: Settings, as_json: AsJson = False) -> None:
    """List the keys in force; the keys themselves are kept by nobody but their owners.

    Example: wardrobe keys list --state /var/lib/wardrobe
    """
    from adapters.registry.open import open_registry

    registry = open_registry(settings.registry_url)
    try:
        keys = registry.keys.active()
    finally:
        registry.close()
    if as_json:
        names = ("id", "role", "unit", "created_at")
        print_json([{name: getattr(key, name) for name in names} for key in keys])
        return
    print_table(
        ("key", "role", "unit", "made"),
        [(key.id, key.role, key.unit, ago(key.created_at)) for key in keys],
        empty="no keys",
    )


@app.command()
@needs(state_settings)
def revoke(
    settings: Settings,
    key: Annotated[str, typer.Argument(metavar="KEY", help="Its id, from `wardrobe keys list`.")],
) -> None:
    """End a key for ever; the service refuses it within a second.

    Example: wardrobe keys revoke key_0123456789abcdef
    """
    from adapters.domain.principals import SYSTEM
    from adapters.registry.open import open_registry

    registry = open_registry(settings.registry_url)
    try:
        registry.keys.revoke(key, by=SYSTEM)
    finally:
        registry.close()
    typer.echo(f"{key} is revoked")


@app.command()
@needs(state_settings)
def reset(
    settings: Settings,
    yes: Annotated[bool, typer.Option("--yes", help="Do it without asking.")] = False,
) -> None:
    """End every key for ever, so that the registry takes another pepper at the next start.

    Example: wardrobe keys reset --yes
    """
    from adapters.domain.principals import SYSTEM
    from adapters.registry.open import open_registry

    if not yes:
        typer.confirm("End every key, so that nobody may call until the next start?", abort=True)
    registry = open_registry(settings.registry_url)
    try:
        ended = registry.keys.reset(by=SYSTEM)
    finally:
        registry.close()
    typer.echo(f"{ended} keys are revoked; restart the service")
