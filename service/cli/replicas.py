"""`wardrobe replicas`: who answers, and an operator's word that one is gone."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from service.cli.options import AsJson, Why, a_client, needs
from service.cli.output import print_json, print_table

if TYPE_CHECKING:
    from service.cli.client import Client

app = typer.Typer(help="Replicas: who answers, and by which revision.")


@app.command("list")
@needs(a_client)
def list_replicas(client: Client, as_json: AsJson = False) -> None:
    """List all replicas, silent ones too.

    Example: wardrobe replicas list
    """
    found = client.replicas()
    if as_json:
        print_json(found)
        return
    print_table(
        ("replica", "ready", "heard", "revision", "loaded", "failed", "without the registry"),
        [
            (
                each["id"],
                each["ready"],
                f"{each['seconds_ago']:.0f} s ago",
                each["revision"],
                each["loaded"],
                each["failed"],
                each["on_registry_loss"],
            )
            for each in found
        ],
        empty="no replicas",
    )


@app.command()
@needs(a_client)
def retire(
    client: Client,
    replica: Annotated[str, typer.Argument(help="Its id, as `wardrobe replicas list` shows it.")],
    reason: Why = None,
    as_json: AsJson = False,
) -> None:
    """Say that a silent replica is gone, so that no rollout waits for it.

    It may not be answering any more: a rollout is called complete without it.

    Example: wardrobe replicas retire node-3:8000
    """
    retired = client.retire_replica(replica, reason=reason)
    if as_json:
        print_json(retired)
    else:
        typer.echo(f"{retired['id']} is retired: no rollout waits for it")
