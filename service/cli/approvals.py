"""`wardrobe approve` and `reject`: say whether a version of others may go live."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from service.cli.options import AsJson, a_client, needs
from service.cli.output import print_json

if TYPE_CHECKING:
    from service.cli.client import Client

Version = Annotated[str, typer.Argument(help="The version in full, e.g. support:8.")]
Reason = Annotated[str, typer.Option("--reason", help="Why; kept with it and in the audit log.")]


def add_to(app: typer.Typer) -> None:
    """Hangs the commands of this file into the tree."""
    app.command()(approve)
    app.command()(reject)


@needs(a_client)
def approve(client: Client, version: Version, reason: Reason = "", as_json: AsJson = False) -> None:
    """Say that a version may go live; its author's own word does not count.

    Example: wardrobe approve support:8 --reason "read forty answers"
    """
    _decide(client, version, "approve", reason=reason, as_json=as_json)


@needs(a_client)
def reject(
    client: Client,
    version: Version,
    reason: Reason = "",
    withdraw: Annotated[
        str,
        typer.Option("--withdraw", metavar="ACTOR", help="Take back this one's reject (admins)."),
    ] = "",
    as_json: AsJson = False,
) -> None:
    """Say that a version may not go live, until you approve it; what is live stays so.

    Example: wardrobe reject support:8 --reason "promises refunds"
    """
    if withdraw:
        _withdraw(client, version, withdraw, reason=reason, as_json=as_json)
    else:
        _decide(client, version, "reject", reason=reason, as_json=as_json)


def _withdraw(client: Client, version: str, actor: str, *, reason: str, as_json: bool) -> None:
    from adapters.domain.names import parse_version

    parse_version(version)
    left = client.withdraw_rejection(version, actor, reason=reason or None)
    if as_json:
        print_json(left)
        return
    against = [each["actor"] for each in left if each["verdict"] == "rejected"]
    typer.echo(f"{version} is rejected by {', '.join(against) or 'nobody'}")


def _decide(client: Client, version: str, word: str, *, reason: str, as_json: bool) -> None:
    from adapters.domain.names import parse_version

    parse_version(version)
    said = client.decide(version, word, reason=reason or None)
    if as_json:
        print_json(said)
    else:
        typer.echo(f"{said['version']} is {said['verdict']} by {said['actor']}")
