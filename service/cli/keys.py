"""`wardrobe keys`: the API keys of the registry that the settings name, no service needed."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Annotated

import typer

from service.cli.options import AsJson, Why, needs, state_and_units_settings, state_settings
from service.cli.output import ago, print_json, print_table, until

if TYPE_CHECKING:
    from adapters.domain.api_keys import Key
    from adapters.registry import Registry
    from adapters.settings import Settings

app = typer.Typer(help="API keys: who has one, giving, rotating and ending one.")

SECONDS_A_DAY = 86_400.0


@app.command()
@needs(state_and_units_settings)
def create(
    settings: Settings,
    name: Annotated[str, typer.Argument(help="Whose it is: an application or a team, `a-z0-9-`.")],
    scope: Annotated[
        list[str],
        typer.Option(
            help="infer, base, train, content, promote, approve, read; without a unit: metrics, "
            "admin."
        ),
    ],
    unit: Annotated[str, typer.Option(help="The unit whose things it is for.")] = "",
    alias: Annotated[
        list[str] | None,
        typer.Option(help="An alias that `infer` is about; every one of the unit's if none."),
    ] = None,
    days: Annotated[float, typer.Option(help="How long it is valid.")] = 365.0,
    limits: Annotated[
        str,
        typer.Option(
            help="Its own, within the unit's: requests_per_minute=60,tokens_per_day=100000; also "
            "tokens_per_minute, tokens_per_month, max_concurrent_requests."
        ),
    ] = "",
    as_json: AsJson = False,
) -> None:
    """Make a key and print it, this once; it is known everywhere within a second.

    Example: wardrobe keys create shop --unit support --scope infer --alias support --days 90
    """
    from adapters.domain.api_keys import issue
    from adapters.domain.limits import parse_key_limits
    from adapters.domain.principals import SYSTEM
    from adapters.domain.units import grant_in, load_units

    units = load_units(settings.units)
    grant = grant_in(units, unit or None, scopes=scope, aliases=alias or None)
    with _registry(settings) as registry:
        pepper = _pepper(settings, registry)
        secret, new = issue(
            grant,
            name,
            lifetime_s=days * SECONDS_A_DAY,
            pepper=pepper,
            limits=parse_key_limits(limits),
        )
        made = registry.keys.issue(new, by=SYSTEM, idempotency_key=None)
    _show(made, secret, as_json=as_json)


@app.command()
@needs(state_settings)
def rotate(
    settings: Settings,
    key: Annotated[str, typer.Argument(metavar="KEY", help="Its id, from `wardrobe keys list`.")],
    overlap_hours: Annotated[
        float, typer.Option(min=0.0, max=720.0, help="How long the old one stays valid.")
    ] = 24.0,
    as_json: AsJson = False,
) -> None:
    """Make the key that follows another one and print it, this once; the old one ends later.

    Example: wardrobe keys rotate key_0123456789abcdef --overlap-hours 48
    """
    from adapters.domain.api_keys import succeed
    from adapters.domain.principals import SYSTEM

    with _registry(settings) as registry:
        secret, new = succeed(registry.keys.get(key), pepper=_pepper(settings, registry))
        made = registry.keys.rotate(
            key, new, overlap_s=overlap_hours * 3600.0, by=SYSTEM, idempotency_key=None
        )
    _show(made, secret, as_json=as_json)


@app.command("list")
@needs(state_settings)
def list_keys(settings: Settings, as_json: AsJson = False) -> None:
    """List the keys in force; the keys themselves are kept by nobody but their owners.

    Example: wardrobe keys list --state /var/lib/wardrobe
    """
    with _registry(settings) as registry:
        keys = registry.keys.active()
    if as_json:
        print_json([_plain(key) for key in keys])
        return
    print_table(
        ("key", "role", "unit", "name", "scopes", "limits", "made", "last used", "ends"),
        [
            (
                key.id,
                key.role,
                key.unit,
                key.name,
                "all" if key.scopes is None else " ".join(sorted(key.scopes)),
                " ".join(f"{limit}={most}" for limit, most in key.limits.said.items()),
                ago(key.created_at),
                ago(key.last_used_at),
                until(key.expires_at),
            )
            for key in keys
        ],
        empty="no keys",
    )


@app.command()
@needs(state_settings)
def revoke(
    settings: Settings,
    key: Annotated[str, typer.Argument(metavar="KEY", help="Its id, from `wardrobe keys list`.")],
    reason: Why = None,
) -> None:
    """End a key for ever; the service refuses it within a second.

    Example: wardrobe keys revoke key_0123456789abcdef --reason "found in a log"
    """
    from adapters.domain.audit import parse_reason
    from adapters.domain.principals import SYSTEM

    with _registry(settings) as registry:
        registry.keys.revoke(key, by=SYSTEM, reason=parse_reason(reason))
    typer.echo(f"{key} is revoked")


@app.command()
@needs(state_settings)
def reset(
    settings: Settings,
    yes: Annotated[bool, typer.Option("--yes", help="Do it without asking.")] = False,
    reason: Why = None,
) -> None:
    """End every key for ever, so that the registry takes another pepper at the next start.

    Example: wardrobe keys reset --yes
    """
    from adapters.domain.audit import parse_reason
    from adapters.domain.principals import SYSTEM

    if not yes:
        typer.confirm("End every key, so that nobody may call until the next start?", abort=True)
    with _registry(settings) as registry:
        ended = registry.keys.reset(by=SYSTEM, reason=parse_reason(reason))
    typer.echo(f"{ended} keys are revoked; restart the service")


@contextmanager
def _registry(settings: Settings) -> Iterator[Registry]:
    from adapters.registry.open import open_registry

    registry = open_registry(settings.registry_url)
    try:
        yield registry
    finally:
        registry.close()


def _pepper(settings: Settings, registry: Registry) -> bytes:
    """The registry's pepper. Raises Conflict where it has another one than the settings name."""
    from adapters.pepper import find_pepper, fingerprint_of

    pepper = find_pepper(settings)
    registry.keys.check_pepper(fingerprint_of(pepper))
    return pepper


def _show(made: Key, secret: str, *, as_json: bool) -> None:
    if as_json:
        print_json({**_plain(made), "secret": secret})
        return
    typer.echo(secret)
    typer.echo(f"{made.id}, shown once; it ends {until(made.expires_at)}", err=True)


def _plain(key: Key) -> dict[str, object]:
    names = ("id", "role", "unit", "name", "created_at", "expires_at", "last_used_at")
    sets = {
        name: None if value is None else sorted(value)
        for name, value in (("scopes", key.scopes), ("aliases", key.aliases))
    }
    return {
        **{name: getattr(key, name) for name in names},
        **sets,
        "limits": key.limits.said,
    }
