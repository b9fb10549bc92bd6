"""`wardrobe audit`: who changed what and why, and whether the log of it is intact.

Listing asks the service, as any key may. Verifying reads the registry that the settings name, so
that nothing the service says has to be believed.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from service.cli.options import AsJson, a_client, needs, registry_settings
from service.cli.output import print_json, print_table, utc

if TYPE_CHECKING:
    from adapters.domain.audit import Verdict
    from adapters.settings import Settings
    from service.cli.client import Client

app = typer.Typer(help="The audit log: who changed what, and whether the log is intact.")

_MEANING = {
    "missing": "it is not there, or stands in another place",
    "unlinked": "it does not follow the one before it",
    "altered": "it does not have the hash of what it says",
    "cut": "the log ends before it",
    "unanchored": "it is not the one that was anchored: the log was made anew",
}


@app.command("list")
@needs(a_client)
def list_entries(
    client: Client,
    unit: Annotated[str, typer.Option("--unit", help="Of this unit.")] = "",
    actor: Annotated[str, typer.Option("--actor", help="By this key or job.")] = "",
    action: Annotated[str, typer.Option("--action", help="Such as rollout.flipped.")] = "",
    subject: Annotated[
        str, typer.Option("--subject", help="Such as route/support or version/support:8.")
    ] = "",
    limit: Annotated[int, typer.Option("--limit", min=1, help="At most so many.")] = 50,
    as_json: AsJson = False,
) -> None:
    """List what was changed, newest first.

    Example: wardrobe audit list --subject route/support
    """
    which = {"unit": unit, "actor": actor, "action": action, "subject": subject}
    found = client.audit(limit=limit, **{name: value for name, value in which.items() if value})
    if as_json:
        print_json(found)
        return
    print_table(
        ("entry", "when", "actor", "action", "subject", "before", "after", "why"),
        [
            (
                each["id"],
                utc(each["created_at"]),
                each["actor"],
                each["action"],
                each["subject"],
                _told(each["before"]),
                _told(each["after"]),
                each["reason"],
            )
            for each in found
        ],
        empty="nothing was changed",
    )


@app.command()
@needs(registry_settings)
def head(settings: Settings, as_json: AsJson = False) -> None:
    """Print the anchor that stands for the log as it is; keep it where nobody can change it.

    Example: wardrobe audit head >> /mnt/write-once/wardrobe-anchors
    """
    from adapters.registry.open import open_registry

    registry = open_registry(settings.registry_url)
    try:
        found = registry.audit.head()
    finally:
        registry.close()
    if as_json:
        print_json({"entries": found.seq, "hash": found.hash, "anchor": str(found)})
    else:
        typer.echo(str(found))


@app.command()
@needs(registry_settings)
def verify(
    settings: Settings,
    anchor: Annotated[
        list[str] | None,
        typer.Option("--anchor", metavar="N:HASH", help="A head that was kept; may be repeated."),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Walk the whole log and say whether it is intact; exit with 1 where it is not.

    Without an anchor, a log whose end was cut off by somebody careful looks intact.

    Example: wardrobe audit verify --anchor "$(tail -1 /mnt/write-once/wardrobe-anchors)"
    """
    from adapters.domain.audit import parse_anchor
    from adapters.domain.audit import verify as verify_log
    from adapters.registry.open import open_registry

    anchors = [parse_anchor(text.strip()) for text in anchor or []]
    registry = open_registry(settings.registry_url)
    try:
        verdict = verify_log(registry.audit.parts(), anchors=anchors)
    finally:
        registry.close()
    if as_json:
        print_json(
            {
                "intact": verdict.intact,
                "damage": verdict.damage,
                "entry": verdict.at,
                "anchor": str(verdict.head),
            }
        )
    else:
        typer.echo(_sentence(verdict))
    if not verdict.intact:
        raise typer.Exit(1)


def _sentence(verdict: Verdict) -> str:
    if verdict.damage is None:
        return f"the log is intact: {verdict.head.seq} entries, anchor {verdict.head}"
    meaning = _MEANING[verdict.damage.value]
    return f"the log is damaged at entry {verdict.at}: {meaning}; {verdict.head.seq} fit before it"


def _told(facts: dict[str, Any] | None) -> str:
    """A digest's first digits tell it from others, and leave room on a line."""
    return ", ".join(f"{name}={_short(value)}" for name, value in (facts or {}).items())


def _short(value: object) -> object:
    return value[:12] if isinstance(value, str) and len(value) == 64 else value
