"""`wardrobe data`: files checked without training, and the records of a person found and erased."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from service.cli.options import AsJson, OfMethod, chosen_settings, finite, needs

if TYPE_CHECKING:
    from adapters.settings import Settings

app = typer.Typer(help="Training data: check it, and find or erase a person's records.")


OfUnit = Annotated[str, typer.Option("--unit", help="The business unit, e.g. hr.")]


@app.command()
@needs(chosen_settings)
def check(
    settings: Settings,
    file: Annotated[
        Path, typer.Argument(exists=True, dir_okay=False, help="JSONL or CSV to train on.")
    ],
    unit: OfUnit,
    valid: Annotated[
        Path | None, typer.Option(exists=True, dir_okay=False, help="A validation file.")
    ] = None,
    adapter: Annotated[
        str, typer.Option("--adapter", help="The unit's alias; its first if empty.")
    ] = "",
    method: OfMethod = None,
    price_per_hour: Annotated[
        float | None,
        typer.Option(min=0.0, callback=finite, help="What an hour of training costs."),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Run a job's data stages without training: all problems, tokens, time and cost to expect.

    Exit code 1 where the files could not be trained on. Needs no service.

    Example: wardrobe data check train.jsonl --unit hr
    """
    words = ["check", f"--unit={unit}", *([f"--method={method}"] if method else [])]
    words += [f"--valid={valid}"] if valid else []
    words += [f"--adapter={adapter}"] if adapter else []
    words += [] if price_per_hour is None else [f"--price-per-hour={price_per_hour}"]
    _become(settings, words, as_json=as_json, file=file)


@app.command()
@needs(chosen_settings)
def find(settings: Settings, unit: OfUnit, as_json: AsJson = False) -> None:
    """List the versions that saw a person's records, and the uploads with them.

    Terms come from standard input, one on each line (a name, an address, a number): a command line
    would be kept by the shell.

    Example: wardrobe data find --unit hr < terms.txt
    """
    _become(settings, ["find", f"--unit={unit}"], as_json=as_json)


@app.command()
@needs(chosen_settings)
def erase(
    settings: Settings,
    unit: OfUnit,
    reason: Annotated[
        str | None, typer.Option("--reason", help="Why; kept in the audit log.")
    ] = None,
    retrain: Annotated[
        bool, typer.Option("--retrain", help="Start a job for each adapter that saw them.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Leave a person's records out of all that is trained next, and list what to retrain.

    Terms come from standard input, one on each line (a name, an address, a number): a command line
    would be kept by the shell. Exit code 1 where a job to retrain could not be started.

    Example: wardrobe data erase --unit hr --retrain < terms.txt
    """
    words = ["erase", f"--unit={unit}", *(["--retrain"] if retrain else [])]
    words += [f"--reason={reason}"] if reason else []
    _become(settings, words, as_json=as_json)


def _become(
    settings: Settings, words: list[str], *, as_json: bool, file: Path | None = None
) -> None:
    """What was typed stays what it is, whatever it begins with."""
    from service.launch.launcher import become_data_command

    said = [*words, *(["--json"] if as_json else [])]
    become_data_command(settings, said if file is None else [*said, "--", str(file)])
