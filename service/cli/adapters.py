"""`wardrobe adapters`, `promote`, `rollback` and `retire`: versions, and which of them is live."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from service.cli.options import AsJson, a_client, needs
from service.cli.output import ago, print_json, print_table

if TYPE_CHECKING:
    from service.cli.client import Client

app = typer.Typer(help="Adapters, their versions, gates and routes.")

Adapter = Annotated[str, typer.Argument(help="The adapter's alias, e.g. support.")]
Generation = Annotated[
    int | None,
    typer.Option(
        "--expected-generation", min=0, help="Refuse if the route has changed since you looked."
    ),
]


def add_to(app: typer.Typer) -> None:
    """Hangs `promote`, `rollback` and `retire` into the tree."""
    app.command()(promote)
    app.command()(rollback)
    app.command()(retire)


@app.command("list")
@needs(a_client)
def list_adapters(client: Client, as_json: AsJson = False) -> None:
    """List adapters with what is live.

    Example: wardrobe adapters list --json
    """
    found = client.adapters()
    if as_json:
        print_json(found)
        return
    print_table(
        ("adapter", "unit", "live", "generation", "changed"),
        [(each["id"], each["unit"], *_route(each["route"])) for each in found],
        empty="no adapters: no unit names any",
    )


@app.command()
@needs(a_client)
def show(client: Client, adapter: Adapter, as_json: AsJson = False) -> None:
    """Show one adapter's versions, with what its gates measured, and its route.

    Examples: wardrobe adapters show support, wardrobe adapters show support:2
    """
    alias, _, number = adapter.partition(":")
    versions = [client.version(adapter)] if number else client.versions(alias)
    found = client.adapter(alias)
    if as_json:
        print_json({**found, "versions": versions})
        return
    live, generation, changed = _route(found["route"])
    typer.echo(f"{alias} of unit {found['unit']}: live {live or 'none'}")
    typer.echo(f"route generation {generation}, changed {changed}\n")
    print_table(
        ("version", "state", "made", "base", "adapter", "gates", "digest"),
        [_version(each) for each in versions],
        empty="no versions yet: start a job with `wardrobe jobs create`",
    )
    for gate in versions[0]["gates"] if number else []:
        verdict = "passed" if gate["passed"] else "FAILED"
        typer.echo(
            f"  {gate['gate']} {verdict}: {gate['measured']:g}, needs {gate['threshold']:g} "
            f"({gate['detail']})"
        )


@needs(a_client)
def promote(
    client: Client,
    adapter: Adapter,
    version: Annotated[str, typer.Argument(help="Its number, or in full: support:8.")],
    expected_generation: Generation = None,
    as_json: AsJson = False,
) -> None:
    """Put a version live: loaded everywhere first, then all new requests get it.

    Examples: wardrobe promote support 8, wardrobe promote support support:8 --expected-generation 3
    """
    _report(client.promote(adapter, version, generation=expected_generation), as_json)


@needs(a_client)
def rollback(
    client: Client,
    adapter: Adapter,
    expected_generation: Generation = None,
    as_json: AsJson = False,
) -> None:
    """Put the newest good version before the live one live again; the live one is marked.

    Example: wardrobe rollback support
    """
    _report(client.rollback(adapter, generation=expected_generation), as_json)


@needs(a_client)
def retire(
    client: Client,
    adapter: Adapter,
    version: Annotated[str, typer.Argument(help="Its number, or in full: support:8.")],
    as_json: AsJson = False,
) -> None:
    """Withdraw a version for good; its files are collected, its record stays.

    Example: wardrobe retire support 3
    """
    retired = client.retire(adapter, version)
    if as_json:
        print_json(retired)
    else:
        typer.echo(f"{retired['id']} is retired and is never served again")


def _report(rollout: dict[str, Any], as_json: bool) -> None:
    complete = rollout["state"] == "complete"
    if as_json:
        print_json(rollout)
    elif complete:
        route = rollout["route"]
        took = "" if rollout["seconds"] is None else f" after {rollout['seconds'] * 1000:.0f} ms"
        typer.echo(f"{rollout['version']} is live{took} (generation {route['generation']})")
    else:
        typer.echo(f"{rollout['version']}: {rollout['state']}{_reason(rollout)}")
    if not complete:
        raise typer.Exit(1)


def _reason(rollout: dict[str, Any]) -> str:
    if rollout.get("error"):
        return f" {rollout['error']}"
    waits_for = rollout.get("waits_for")
    return f", waits for {', '.join(waits_for)}" if waits_for else ""


def _route(route: dict[str, Any]) -> tuple[str | None, int, str]:
    return route["stable"], route["generation"], ago(route.get("updated_at"))


def _version(version: dict[str, Any]) -> tuple[object, ...]:
    scores = (version.get("evidence") or {}).get("held_out") or {}
    failed = [gate["gate"] for gate in version["gates"] if not gate["passed"]]
    passed = len(version["gates"]) - len(failed)
    return (
        version["id"],
        version["state"],
        ago(version["created_at"]),
        _score(scores.get("base")),
        _score(scores.get("adapter")),
        f"{', '.join(failed)} failed" if failed else f"{passed} passed" if passed else None,
        version["digest"][:12],
    )


def _score(scores: dict[str, float] | None) -> str | None:
    """Exact match, as per cent of the held-out examples."""
    return None if not scores else f"{scores['exact_match']:.1%}"
