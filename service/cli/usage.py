"""`wardrobe usage`: requests, tokens and cost by day."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from service.cli.options import AsJson, a_client, needs
from service.cli.output import print_json, print_table

if TYPE_CHECKING:
    from service.cli.client import Client


def add_to(app: typer.Typer) -> None:
    """Hangs the command of this file into the tree."""
    app.command()(usage)


@needs(a_client)
def usage(
    client: Client,
    days: Annotated[int, typer.Option(min=1, max=366, help="How many, today included.")] = 7,
    unit: Annotated[str, typer.Option(help="Of this unit; else of all that the key sees.")] = "",
    as_json: AsJson = False,
) -> None:
    """Tell what requests have used: by day (UTC), unit, alias, version and kind of traffic.

    Example: wardrobe usage --days 30 --unit support
    """
    buckets = client.usage(days=days, unit=unit)
    if as_json:
        print_json(buckets)
        return
    print_table(
        ("day", "unit", "alias", "version", "traffic", "requests", "prompt", "answers", "cost"),
        [_row(bucket, result) for bucket in buckets for result in bucket["results"]],
        empty="nothing was used",
    )


def _row(bucket: dict[str, Any], result: dict[str, Any]) -> tuple[object, ...]:
    from datetime import UTC, datetime

    cost = result["x_cost"]
    return (
        datetime.fromtimestamp(bucket["start_time"], UTC).date(),
        result["project_id"],
        result["x_alias"],
        result["model"],
        result["x_traffic"],
        result["num_model_requests"],
        result["input_tokens"],
        result["output_tokens"],
        f"{cost['value']:.4f} {cost['currency']}",
    )
