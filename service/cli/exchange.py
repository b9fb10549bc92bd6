"""`wardrobe import` and `export`: adapters from elsewhere, and for elsewhere."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, BinaryIO

import typer

from service.cli.options import AsJson, a_client, needs
from service.cli.output import print_json

if TYPE_CHECKING:
    from service.cli.client import Client

_SENT = ("adapter_config.json", "adapter_model.safetensors", "adapter_model.bin", "README.md")
"""Of a folder; the service names what is wrong with a pickle."""


def add_to(app: typer.Typer) -> None:
    """Hangs the commands of this file into the tree."""
    app.command("import")(import_adapter)
    app.command("export")(export)


@needs(a_client)
def import_adapter(
    client: Client,
    source: Annotated[Path, typer.Argument(help="A PEFT folder, or a zip, tar or tar.gz of one.")],
    unit: Annotated[str, typer.Option("--unit", help="Whose version it becomes.")],
    alias: Annotated[
        str, typer.Option("--alias", help="Which of its aliases; else the first.")
    ] = "",
    as_json: AsJson = False,
) -> None:
    """Make a candidate of an adapter that PEFT, Unsloth, Axolotl, LLaMA-Factory or ms-swift made.

    It is checked as a trained one is, and can be promoted once its gates have passed.

    Example: wardrobe import ./outputs/checkpoint-300 --unit support
    """
    chosen = alias or _first_alias(client, unit)
    with _archive(source) as archive:
        version = client.import_version(chosen, archive, "adapter.tar")
    if as_json:
        print_json(version)
        return
    told = version["evidence"]["import"]
    typer.echo(f"{version['id']} is a candidate of unit {version['unit']}")
    if told["dropped_keys"]:
        typer.echo(f"left out of its configuration: {', '.join(told['dropped_keys'])}")
    if version["gates"]:
        typer.echo(f"it is not proven: {version['gates'][-1]['detail']}")
    else:
        typer.echo(f"the trainer proves it; look with `wardrobe adapters show {version['id']}`")


def _first_alias(client: Client, unit: str) -> str:
    from adapters.errors import NotFound

    named = [each for each in client.units() if each["id"] == unit]
    if not named:
        raise NotFound(f"there is no unit `{unit}` for this key", code="unit_not_found")
    return str(named[0]["aliases"][0])


def _archive(source: Path) -> BinaryIO:
    """The file, or a tar of what counts in a folder; links of a hub's cache are followed.

    Raises InvalidRequest for a folder that holds no adapter, OSError.
    """
    import tarfile
    import tempfile

    from adapters.errors import InvalidRequest

    if not source.is_dir():
        return source.open("rb")
    if not (source / _SENT[0]).is_file():
        raise InvalidRequest(f"there is no {_SENT[0]} in {source}; name the adapter's own folder")
    spooled = tempfile.TemporaryFile()  # noqa: SIM115 - whoever asked for it closes it
    with tarfile.open(fileobj=spooled, mode="w", dereference=True) as made:
        for name in _SENT:
            if (source / name).is_file():
                made.add(source / name, arcname=name, recursive=False)
    spooled.seek(0)
    return spooled


@needs(a_client)
def export(
    client: Client,
    version: Annotated[str, typer.Argument(help="The version in full, e.g. support:8.")],
    folder: Annotated[Path, typer.Argument(help="Where to; made where it is not there.")],
    as_json: AsJson = False,
) -> None:
    """Write a version in Hugging Face's layout, byte for byte as it was published.

    Example: wardrobe export support:8 ./support-8
    """
    import tarfile
    import tempfile

    from adapters.domain.names import parse_version

    parse_version(version)
    folder.mkdir(parents=True, exist_ok=True)
    if any(folder.iterdir()):
        raise typer.BadParameter(f"{folder} is not empty")
    with tempfile.TemporaryFile(dir=folder) as whole:  # a cut transfer leaves nothing behind
        client.archive(version, whole)
        whole.seek(0)
        with tarfile.open(fileobj=whole, mode="r:") as packed:
            packed.extractall(folder, filter="data")
    written = sorted(path.name for path in folder.iterdir())
    if as_json:
        print_json({"version": version, "folder": str(folder), "files": written})
    else:
        typer.echo(f"{version} is in {folder}: {', '.join(written)}")
