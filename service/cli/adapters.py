"""`wardrobe adapters`, `retire`, `pin` and `unpin`: versions, and what becomes of them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from service.cli.options import AsJson, Why, a_client, chosen_settings, needs
from service.cli.output import ago, print_json, print_table

if TYPE_CHECKING:
    from adapters.settings import Settings
    from service.cli.client import Client

app = typer.Typer(help="Adapters, their versions, gates and routes.")

Adapter = Annotated[str, typer.Argument(help="The adapter's alias, e.g. support.")]
_HOLDS_UP = ("failed", "error")


def add_to(app: typer.Typer) -> None:
    """Hangs `retire`, `pin` and `unpin` into the tree."""
    app.command()(retire)
    app.command()(pin)
    app.command()(unpin)


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
    typer.echo(f"route generation {generation}, changed {changed}{_beside(found['route'])}\n")
    print_table(
        ("version", "state", "made", "base", "adapter", "gates", "digest"),
        [_version(each) for each in versions],
        empty="no versions yet: start a job with `wardrobe jobs create`",
    )
    for gate in versions[0]["gates"] if number else []:
        typer.echo(f"  {_gate(gate)}")


@app.command()
@needs(a_client)
def evaluations(client: Client, adapter: Adapter, as_json: AsJson = False) -> None:
    """Show what models scored on an adapter's test part: what its gates are computed from.

    Examples: wardrobe adapters evaluations support, wardrobe adapters evaluations support:2 --json
    """
    found = client.evaluations(adapter)
    if as_json:
        print_json(found)
        return
    print_table(
        ("model", "scorer", "examples", "mean", "dataset", "made", "job"),
        [
            (
                each["subject"],
                each["scorer"],
                each["examples"],
                f"{each['mean']:.4g}",
                each["dataset"][:12],
                ago(each["created_at"]),
                each["job_id"],
            )
            for each in found
        ],
        empty="no evaluations yet: a job evaluates the version it makes",
    )


@app.command()
@needs(chosen_settings)
def evaluate(
    settings: Settings,
    version: Annotated[str, typer.Argument(help="The version in full, e.g. support:3.")],
) -> None:
    """Evaluate a version again, without training it again, and recompute its gates.

    Runs where the trainer runs, beside a service that answers. Exit code 1 where a gate holds the
    version up; a candidate that fails is rejected, a live version stays live.

    Example: wardrobe adapters evaluate support:3
    """
    from adapters.domain.names import parse_version
    from service.launch.launcher import become_evaluation

    parse_version(version)
    become_evaluation(settings, version)


@needs(a_client)
def retire(
    client: Client,
    adapter: Adapter,
    version: Annotated[str, typer.Argument(help="Its number, or in full: support:8.")],
    reason: Why = None,
    as_json: AsJson = False,
) -> None:
    """Withdraw a version for good; its files are collected, its record stays.

    Example: wardrobe retire support 3
    """
    retired = client.retire(adapter, version, reason=reason)
    if as_json:
        print_json(retired)
    else:
        typer.echo(f"{retired['id']} is retired and is never served again")


@needs(a_client)
def pin(
    client: Client,
    adapter: Adapter,
    version: Annotated[str, typer.Argument(help="Its number, or in full: support:8.")],
    as_json: AsJson = False,
) -> None:
    """Keep a version loaded everywhere and its files, whether or not a route needs it.

    Example: wardrobe pin support 7
    """
    _pin(client, adapter, version, pinned=True, as_json=as_json)


@needs(a_client)
def unpin(
    client: Client,
    adapter: Adapter,
    version: Annotated[str, typer.Argument(help="Its number, or in full: support:8.")],
    as_json: AsJson = False,
) -> None:
    """Let a pinned version go again.

    Example: wardrobe unpin support 7
    """
    _pin(client, adapter, version, pinned=False, as_json=as_json)


def _pin(client: Client, adapter: str, version: str, *, pinned: bool, as_json: bool) -> None:
    found = client.pin(adapter, version, pinned=pinned)
    if as_json:
        print_json(found)
    else:
        typer.echo(f"{found['id']} is {'pinned' if pinned else 'not pinned any more'}")


def _route(route: dict[str, Any]) -> tuple[str | None, int, str]:
    return route["stable"], route["generation"], ago(route.get("updated_at"))


def _beside(route: dict[str, Any]) -> str:
    """What answers a part of the requests, or gets copies of them."""
    canary, shadow = route.get("canary"), route.get("shadow")
    told = [
        *([f"canary {canary['version']} at {canary['weight']:g} %"] if canary else []),
        *([f"shadow {shadow['version']} of {shadow['share']:g} %"] if shadow else []),
    ]
    return "".join(f"; {one}" for one in told)


def _version(version: dict[str, Any]) -> tuple[object, ...]:
    scores = (version.get("evidence") or {}).get("test") or {}
    held_up = [
        f"{_named(gate)} {gate['outcome']}"
        for gate in version["gates"]
        if gate["outcome"] in _HOLDS_UP
    ]
    passed = sum(gate["outcome"] == "passed" for gate in version["gates"])
    return (
        version["id"],
        version["state"],
        ago(version["created_at"]),
        _score(scores.get("base")),
        _score(scores.get("adapter")),
        ", ".join(held_up) if held_up else f"{passed} passed" if passed else None,
        version["digest"][:12],
    )


def _gate(gate: dict[str, Any]) -> str:
    """A verdict with the number behind it; one that was not measured has none."""
    outcome = gate["outcome"]
    if outcome not in ("passed", "failed"):
        return f"{_named(gate)} {outcome}: {gate['detail']}"
    needed = gate["direction"].replace("_", " ")
    return (
        f"{_named(gate)} {outcome if outcome == 'passed' else 'FAILED'}: {gate['measured']:g}, "
        f"{needed} {gate['bound']:g} is needed ({gate['detail']})"
    )


def _named(gate: dict[str, Any]) -> str:
    return f"{gate['gate']} against {gate['against']}" if gate["against"] else str(gate["gate"])


def _score(scores: dict[str, float] | None) -> str | None:
    """Exact match, as per cent of the test examples."""
    return None if not scores else f"{scores['exact_match']:.1%}"
