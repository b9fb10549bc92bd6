"""`wardrobe engine`: what this machine's engine is guarded from; no service needs to run."""

from __future__ import annotations

import platform
from collections.abc import Sequence
from contextlib import closing
from typing import TYPE_CHECKING, Annotated

import typer

from service.cli.options import AsJson, Why, needs, state_settings
from service.cli.output import ago, clock, print_json, print_table

if TYPE_CHECKING:
    from adapters.settings import Settings
    from service.engine.quarantine_record import QuarantineRecord

app = typer.Typer(help="The engine of this machine, as the state folder knows it.")
quarantine = typer.Typer(help="Requests and loads that were under way when the engine died.")
app.add_typer(quarantine, name="quarantine")


@quarantine.command("list")
@needs(state_settings)
def list_quarantine(settings: Settings, as_json: AsJson = False) -> None:
    """List the suspects: after a second death, the same request is refused until it expires; after
    a third within its load, a version is not loaded until then.

    Both are known by a keyed digest; nothing of what a request said is kept.

    Example: wardrobe engine quarantine list --state /var/lib/wardrobe
    """
    with closing(_record(settings)) as record:
        found = record.suspects()
    if as_json:
        print_json(
            [
                {
                    "id": one.id,
                    "deaths": one.deaths,
                    "refused": one.quarantined,
                    "last_death_at": one.last_death,
                    "expires_at": one.expires_at,
                }
                for one in found
            ]
        )
        return
    print_table(
        ("request", "deaths", "refused", "last death", "expires at"),
        [
            (one.id, one.deaths, one.quarantined, ago(one.last_death), clock(one.expires_at))
            for one in found
        ],
        empty="no request is suspected of an engine's death",
    )


@quarantine.command()
@needs(state_settings)
def clear(
    settings: Settings,
    request: Annotated[
        str, typer.Argument(metavar="[REQUEST]", help="Its id as listed; without one: all.")
    ] = "",
    reason: Why = None,
) -> None:
    """Let a request reach the engine again, at once; the audit log tells of it first.

    Example: wardrobe engine quarantine clear 0123456789abcdef0123456789abcdef
    """
    from adapters.domain.audit import parse_reason
    from adapters.errors import NotFound

    why = parse_reason(reason)
    with closing(_record(settings)) as record:
        ids = [one.id for one in record.suspects() if request in ("", one.id)]
        if request and not ids:
            raise NotFound("no such request is suspected; see `wardrobe engine quarantine list`")
        if ids:
            _tell(settings, ids, why)
        cleared = record.clear(ids)
    typer.echo(f"cleared: {cleared}")


def _tell(settings: Settings, ids: Sequence[str], reason: str | None) -> None:
    from adapters.domain.principals import SYSTEM
    from adapters.registry.open import open_registry

    with closing(open_registry(settings.registry_url)) as registry:
        registry.replicas.note_cleared(platform.node(), ids, by=SYSTEM, reason=reason)


def _record(settings: Settings) -> QuarantineRecord:
    from service.engine.quarantine_record import QuarantineRecord

    return QuarantineRecord(settings.state_folder.create().in_flight)
