"""`wardrobe status` and `chat`: ask the running service."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from service.cli.options import AsJson, a_client, needs
from service.cli.output import print_json, print_table

if TYPE_CHECKING:
    from service.cli.client import Client


def add_to(app: typer.Typer) -> None:
    """Hangs the commands of this file into the tree."""
    app.command()(status)
    app.command()(openapi)
    app.command()(chat)


@needs(a_client)
def status(client: Client, as_json: AsJson = False) -> None:
    """Tell how the service is; exit code 1 if it is not ready, or serves a base that no live
    version was trained on.

    Example: wardrobe status --url http://127.0.0.1:8000
    """
    found = client.status()
    if as_json:
        print_json(found)
    else:
        jobs = found["jobs"]
        print_table(
            ("", ""),
            [
                ("address", f"{client.url}/v1"),
                ("ready", found["ready"]),
                ("base model", found["base_model"]),
                ("engine", found["engine"].get("engine")),
                ("requests in flight", found["requests_in_flight"]),
                ("loaded", ", ".join(found["resident"])),
                ("still to load", ", ".join(found["missing"])),
                ("cannot be served", ", ".join(_unavailable(found))),
                ("rollouts", ", ".join(_rollouts(found))),
                *_of_the_engine(found),
                ("replicas", found["replica_count"]),
                ("jobs running", ", ".join(jobs["running"])),
                ("jobs queued", ", ".join(jobs["queued"])),
            ],
            empty="",
        )
    if found["stranded_by_base"]:
        typer.echo(
            "every live version was trained on another base model: serve that one again "
            "(`WARDROBE_BASE`), or train each alias anew",
            err=True,
        )
    if not found["ready"] or found["stranded_by_base"]:
        raise typer.Exit(1)


def _unavailable(found: dict[str, Any]) -> list[str]:
    return [
        f"{each['alias']} ({each['version']}: {each['reason']})" for each in found["unavailable"]
    ]


def _of_the_engine(found: dict[str, Any]) -> list[tuple[str, str]]:
    """What only an admin is told."""
    if "slots" not in found:
        return []
    slots, suspects = found["slots"], found["quarantine"]
    refused = sum(each["refused"] for each in suspects)
    return [
        ("slots", f"{slots['routes']} of {slots['slots']} by routes, {slots['warm']} left"),
        ("engine died of", f"{len(suspects)} suspected, {refused} refused" if suspects else ""),
    ]


def _rollouts(found: dict[str, Any]) -> list[str]:
    return [
        f"{each['alias']} to {each['version']} is {each['state']}"
        + (f", waits for {' '.join(each['waits_for'])}" if each["waits_for"] else "")
        for each in found["rollouts"]
    ]


def openapi() -> None:
    """Print the OpenAPI document of Wardrobe's own routes, no service needed.

    Example: wardrobe openapi > openapi.json
    """
    from service.api.openapi import document

    print_json(document())


@needs(a_client)
def chat(
    client: Client,
    model: Annotated[str, typer.Argument(help="An alias, a version or the base model.")],
    text: Annotated[str, typer.Argument(help="What to say.")],
    system: Annotated[str, typer.Option(help="The system message.")] = "",
) -> None:
    """Ask a model something and print its answer as it comes.

    Example: wardrobe chat support "Where is my parcel?"
    """
    from openai.types.chat import ChatCompletionMessageParam

    said: list[ChatCompletionMessageParam] = [{"role": "user", "content": text}]
    if system:
        said.insert(0, {"role": "system", "content": system})
    stream = client.openai.chat.completions.create(
        model=model, messages=said, stream=True, temperature=0.0
    )
    for chunk in stream:
        for choice in chunk.choices:
            typer.echo(choice.delta.content or "", nl=False)
    typer.echo()
