"""`wardrobe promote`, `rollback`, `abort`, `warm`, `canary` and `shadow`: what changes a route."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from service.cli.options import AsJson, a_client, finite, needs
from service.cli.output import print_json, print_table

if TYPE_CHECKING:
    from service.cli.client import Client

canary = typer.Typer(help="Versions that answer a part of an alias's requests.")
shadow = typer.Typer(help="Versions that only get copies of an alias's requests.")

Adapter = Annotated[str, typer.Argument(help="The adapter's alias, e.g. support.")]
AVersion = Annotated[str, typer.Argument(help="Its number, or in full: support:8.")]
Generation = Annotated[
    int | None,
    typer.Option(
        "--expected-generation", min=0, help="Refuse if the route has changed since you looked."
    ),
]
Why = Annotated[str | None, typer.Option("--reason", help="Why; kept with the rollout.")]
Wait = Annotated[
    float,
    typer.Option(
        "--wait",
        min=0.0,
        callback=finite,
        help="Seconds to wait until no replica answers by the old route.",
    ),
]
Canary = Annotated[
    str | None,
    typer.Option(
        "--canary", metavar="PER CENT,…", help="In steps, e.g. 5,25,50; each as long as --minutes."
    ),
]
Minutes = Annotated[
    float,
    typer.Option("--minutes", min=0.0, callback=finite, help="How long each step lasts at least."),
]


def add_to(app: typer.Typer) -> None:
    """Hangs the commands into the tree."""
    app.command()(promote)
    app.command()(rollback)
    app.command()(abort)
    app.command()(warm)
    app.add_typer(canary, name="canary")
    app.add_typer(shadow, name="shadow")


@needs(a_client)
def promote(
    client: Client,
    adapter: Adapter,
    version: AVersion,
    canary_steps: Canary = None,
    minutes: Minutes = 10.0,
    wait: Wait = 60.0,
    reason: Why = None,
    expected_generation: Generation = None,
    as_json: AsJson = False,
) -> None:
    """Put a version live: loaded everywhere first, then all new requests get it.

    With --canary, a part of the requests first, more with each step that goes well, and back by
    itself where it does not; `wardrobe canary show` says how far it is.

    Examples: wardrobe promote support 8 --wait 120, wardrobe promote support 8 --canary 5,25,50
    """
    begun = client.change(
        adapter,
        "promote" if canary_steps is None else "canary",
        wait=wait,
        generation=expected_generation,
        version=version,
        steps=None if canary_steps is None else _steps(canary_steps, minutes),
        reason=reason,
    )
    _report(begun, as_json)


@needs(a_client)
def rollback(
    client: Client,
    adapter: Adapter,
    wait: Wait = 60.0,
    reason: Why = None,
    expected_generation: Generation = None,
    as_json: AsJson = False,
) -> None:
    """Put the newest good version before the live one live again, or take the canary out.

    What is rolled back from is marked, and is never a rollback's target again.

    Example: wardrobe rollback support
    """
    _report(
        client.change(
            adapter, "rollback", wait=wait, generation=expected_generation, reason=reason
        ),
        as_json,
    )


@needs(a_client)
def abort(
    client: Client,
    adapter: Adapter,
    reason: Why = None,
    expected_generation: Generation = None,
    as_json: AsJson = False,
) -> None:
    """End what is under way: a rollout that is loading, or the canary. Nothing is marked.

    Example: wardrobe abort support
    """
    ended = client.change(adapter, "abort", generation=expected_generation, reason=reason)
    if as_json:
        print_json(ended)
    else:
        what = "canary" if ended["action"] == "abort" else ended["action"]
        typer.echo(f"the {what} of {adapter} was ended")


@needs(a_client)
def warm(
    client: Client, adapter: Adapter, version: AVersion, wait: Wait = 60.0, as_json: AsJson = False
) -> None:
    """Load a version everywhere, so that its first answer waits for nothing.

    Example: wardrobe warm support 7
    """
    _report(client.change(adapter, "warm", wait=wait, version=version), as_json)


@canary.command("show")
@needs(a_client)
def show_canary(client: Client, adapter: Adapter, as_json: AsJson = False) -> None:
    """Show an alias's newest canary: how far it is, what was counted, what it waits for.

    Example: wardrobe canary show support
    """
    found = client.canary(adapter)
    if as_json:
        print_json(found)
        return
    weight = "" if found["weight"] is None else f" at {found['weight']:g} %"
    typer.echo(f"{found['version']} of {adapter}: {found['state']}{weight}")
    told = found["waits_for"] or found["reason"]
    if told:
        typer.echo(f"{told}\n")
    print_table(
        ("", "requests", "errors", "median s", "p95 s", "scores", "mean score"),
        [(arm, *_arm(found[arm])) for arm in ("stable", "canary")],
        empty="",
    )


@canary.command("weight")
@needs(a_client)
def set_weight(
    client: Client,
    adapter: Adapter,
    weight: Annotated[float, typer.Argument(min=0.0, max=100.0, callback=finite, help="Per cent.")],
    reason: Why = None,
    expected_generation: Generation = None,
    as_json: AsJson = False,
) -> None:
    """Give the canary another part of the requests; from then on it goes on by commands alone.

    Example: wardrobe canary weight support 20
    """
    moved = client.change(
        adapter, "canary/weight", generation=expected_generation, weight=weight, reason=reason
    )
    _report(moved, as_json)


@shadow.command("start")
@needs(a_client)
def start_shadow(
    client: Client,
    adapter: Adapter,
    version: AVersion,
    share: Annotated[
        float,
        typer.Option(
            "--share", min=0.0, max=100.0, callback=finite, help="Per cent that is copied."
        ),
    ] = 10.0,
    wait: Wait = 60.0,
    as_json: AsJson = False,
) -> None:
    """Give a version copies of requests, and compare what it says; callers get none of it.

    Example: wardrobe shadow start support 8 --share 5
    """
    _report(client.change(adapter, "shadow", wait=wait, version=version, share=share), as_json)


@shadow.command("show")
@needs(a_client)
def show_shadow(client: Client, adapter: Adapter, as_json: AsJson = False) -> None:
    """Show how a shadow's answers compare with those that callers got.

    Example: wardrobe shadow show support
    """
    found = client.shadow(adapter)
    if as_json:
        print_json(found)
        return
    names = ("copies", "errors", "dropped", "agreement", "length_ratio", "seconds_ratio")
    typer.echo(f"{found['version']} gets copies of {found['share']:g} % of {adapter}")
    print_table(names, [tuple(_number(found[name]) for name in names)], empty="")


@shadow.command("end")
@needs(a_client)
def end_shadow(client: Client, adapter: Adapter, as_json: AsJson = False) -> None:
    """Copy no requests any more.

    Example: wardrobe shadow end support
    """
    ended = client.change(adapter, "shadow/end")
    if as_json:
        print_json(ended)
    else:
        typer.echo(f"{ended['version']} gets no more copies")


def _steps(text: str, minutes: float) -> list[dict[str, float | None]]:
    """`5,25,50` → a schedule. Raises BadParameter."""
    try:
        weights = [finite(float(part)) for part in text.split(",")]
    except (ValueError, typer.BadParameter):
        raise typer.BadParameter("steps look like 5,25,50", param_hint="--canary") from None
    return [{"weight": weight, "minutes": minutes} for weight in weights]


def _arm(arm: dict[str, Any]) -> tuple[object, ...]:
    numbers = (arm["median_seconds"], arm["p95_seconds"])
    seconds = tuple(_number(number) for number in numbers)
    return (arm["requests"], arm["errors"], *seconds, arm["scores"], _number(arm["mean_score"]))


def _number(number: float | None) -> str | None:
    return None if number is None else f"{number:.3g}"


_DONE = {
    "promote": "is live",
    "rollback": "is live",
    "canary": "answers its first part",
    "weight": "answers its new part",
    "shadow": "gets copies",
    "warm": "is loaded everywhere",
}


def _report(rollout: dict[str, Any], as_json: bool) -> None:
    complete = rollout["state"] == "complete"
    if as_json:
        print_json(rollout)
    elif complete:
        route = rollout["route"]
        took = "" if rollout["seconds"] is None else f" after {rollout['seconds'] * 1000:.0f} ms"
        done = _DONE.get(rollout["action"], "is done")
        typer.echo(f"{rollout['version']} {done}{took} (generation {route['generation']})")
    else:
        typer.echo(f"{rollout['version']}: {rollout['state']}{_reason(rollout)}")
    if not complete:
        raise typer.Exit(1)


def _reason(rollout: dict[str, Any]) -> str:
    if rollout.get("error"):
        return f" {rollout['error']}"
    waits_for = rollout.get("waits_for")
    return f", waits for {', '.join(waits_for)}" if waits_for else ""
