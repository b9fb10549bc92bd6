"""`wardrobe units`: the unit files of this machine, no service needed."""

from __future__ import annotations

from typing import TYPE_CHECKING

import typer

from service.cli.options import AsJson, needs, units_settings
from service.cli.output import print_json, print_table

if TYPE_CHECKING:
    from adapters.settings import Settings

app = typer.Typer(help="Business units: one YAML file each.")


@app.command("list")
@needs(units_settings)
def list_units(settings: Settings, as_json: AsJson = False) -> None:
    """List the units of the folder.

    Example: wardrobe units list --units examples/units
    """
    from adapters.domain.units import load_units

    units = load_units(settings.units).by_name.values()
    if as_json:
        print_json([unit.model_dump(mode="json") for unit in units])
        return
    print_table(
        ("unit", "name", "aliases", "promotion"),
        [(u.unit, u.display_name, ", ".join(u.aliases), u.gates.promote) for u in units],
        empty="no units",
    )


@app.command()
@needs(units_settings)
def check(settings: Settings, as_json: AsJson = False) -> None:
    """Check every unit file and print all problems at once; exit code 1 if there are any.

    Example: wardrobe units check --units examples/units
    """
    from adapters.domain.units import InvalidUnits, load_units

    try:
        found = len(load_units(settings.units).by_name)
    except InvalidUnits as error:
        if not as_json:
            raise
        print_json({"ok": False, "problems": list(error.problems)})
        raise typer.Exit(1) from None
    if as_json:
        print_json({"ok": True, "problems": []})
    else:
        typer.echo(f"{settings.units}: {found} units, no problems")
