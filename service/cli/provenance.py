"""`wardrobe lineage`, `card` and `bom`: where a version comes from, and what became of it."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from service.cli.options import AsJson, a_client, needs
from service.cli.output import EMPTY, print_json, print_table, utc

if TYPE_CHECKING:
    from service.cli.client import Client

Version = Annotated[str, typer.Argument(help="The version in full, e.g. support:8.")]
_REQUEST = re.compile(r"req_[0-9a-f]{8,64}")


def add_to(app: typer.Typer) -> None:
    """Hangs the commands of this file into the tree."""
    app.command()(lineage)
    app.command()(card)
    app.command()(bom)


@needs(a_client)
def card(client: Client, version: Version) -> None:
    """Print a version's whole model card: where it comes from, its gates, who approved it.

    Example: wardrobe card support:8 > README.md
    """
    typer.echo(client.document(_checked(version), "card"), nl=False)


@needs(a_client)
def bom(client: Client, version: Version) -> None:
    """Print a version's bill of materials, as CycloneDX JSON.

    Example: wardrobe bom support:8 > bom.cdx.json
    """
    typer.echo(client.document(_checked(version), "bom"), nl=False)


@needs(a_client)
def lineage(
    client: Client,
    subject: Annotated[
        str, typer.Argument(help="A version, or the x-request-id of an answer: req_….")
    ],
    log: Annotated[
        list[Path] | None,
        typer.Option("--log", help="Where requests are logged; else the state folder's logs."),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Tell where a version comes from and what became of it; of a request, of its version.

    A request is found by its line in the log, which is kept as long as the log is.

    Examples: wardrobe lineage support:8, wardrobe lineage req_0123456789abcdef --log pod.log
    """
    request = None
    if _REQUEST.fullmatch(subject):
        request = _logged(subject, log or _logs_of(client))
        subject = str(request["version"])
    found = client.lineage(_checked(subject))
    if as_json:
        print_json({**found, "request": request} if request else found)
        return
    if request:
        typer.echo(
            f"{request['request_id']}: answered {request['status']} at {request['timestamp']} "
            f"to {request['actor']} as {request['alias']}\n"
        )
    _print(found)


def _checked(version: str) -> str:
    from adapters.domain.names import parse_version

    parse_version(version)
    return version


def _logs_of(client: Client) -> list[Path]:
    return sorted(client.logs.glob("*.log*")) if client.logs else []


def _logged(request: str, logs: Iterable[Path]) -> dict[str, Any]:
    """The line of a request that a version has answered. Raises NotFound, OSError."""
    from adapters.errors import NotFound

    found = next((line for path in logs for line in _lines(path, request)), None)
    if found is None:
        raise NotFound(f"no log here has {request}; name the one that does with --log")
    if not found.get("version") or ":" not in found["version"]:
        raise NotFound(f"no version of an adapter has answered {request}")
    return found


def _lines(path: Path, request: str) -> Iterator[dict[str, Any]]:
    with path.open(encoding="utf-8", errors="replace") as file:
        for line in file:
            if request in line and (at := line.find("{")) >= 0:
                try:
                    said = json.loads(line[at:])
                except ValueError:
                    continue
                if isinstance(said, dict) and said.get("request_id") == request:
                    yield said


def _copied(weakened: dict[str, Any] | None) -> str | None:
    if weakened is None:
        return None
    return f"{weakened['of']}, at {weakened['strength']:.0%} of its strength"


def _print(found: dict[str, Any]) -> None:
    job, data, cost = found["job"] or {}, found["data"] or {}, found["cost"]
    money = cost["money"]
    print_table(
        ("", ""),
        [
            ("version", f"{found['version']} of unit {found['unit']}, {found['state']}"),
            ("data", data.get("dataset") or ("made elsewhere" if found["import"] else None)),
            ("files", ", ".join(filter(None, map(job.get, ("training_file", "validation_file"))))),
            ("weaker copy of", _copied(found["weakened"])),
            ("job", job.get("id")),
            ("author", found["author"]),
            ("base", found["base"]["fingerprint"]),
            ("digest", found["digest"]),
            ("signed by", found["signed_by"]),
            ("cost", f"{money['value']:g} {money['currency']}" if money else None),
            ("requests", found["requests"]),
        ],
        empty="",
    )
    for gate in found["gates"]:
        against = f" against {gate['against']}" if gate["against"] else ""
        typer.echo(f"  {gate['gate']}{against}: {gate['outcome']}")
    for said in found["approvals"]:
        why = f" ({said['reason']})" if said["reason"] else ""
        typer.echo(f"  {said['verdict']} by {said['actor']} at {utc(said['created_at'])}{why}")
    typer.echo()
    print_table(
        ("when", "who", "what", "state", "why"),
        [
            (utc(each["created_at"]), each["actor"], each["action"], each["state"], each["reason"])
            for each in found["changes"]
        ],
        empty=EMPTY,
    )
    print_table(
        ("when", "who", "rollout", "as", "alias", "state", "why"),
        [
            (
                utc(each["created_at"]),
                each["actor"],
                each["action"],
                each["as"],
                each["alias"],
                each["state"],
                each["reason"],
            )
            for each in found["rollouts"]
        ],
        empty="it has never been put before callers",
    )
