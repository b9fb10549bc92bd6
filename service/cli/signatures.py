"""`wardrobe signatures`: the key that versions are signed with, and which versions are."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from service.cli.options import AsJson, Why, needs, registry_settings, state_settings
from service.cli.output import print_json, print_table

if TYPE_CHECKING:
    from adapters.settings import Settings
    from adapters.signatures import Signer

app = typer.Typer(help="The signatures of versions, and the keys that count.")


@app.command()
@needs(state_settings)
def key(settings: Settings, as_json: AsJson = False) -> None:
    """Print the public half of this installation's signing key, for others to trust.

    Example: wardrobe signatures key > trusted/this-installation.pem
    """
    from adapters.signatures import public_pem

    signer = _signer(settings)
    pem = public_pem(signer.public).decode()
    if as_json:
        print_json({"key_id": signer.key_id, "public_key": pem})
    else:
        typer.echo(pem, nl=False)


@app.command()
@needs(registry_settings)
def check(settings: Settings, as_json: AsJson = False) -> None:
    """List the versions that are kept with who signed them; exit code 1 where one's does not count.

    Reads the registry that the settings name, so that nothing the service says has to be believed.

    Example: wardrobe signatures check
    """
    from contextlib import closing

    from adapters.domain.versions import signed_by
    from adapters.registry.open import open_registry
    from adapters.signing_keys import SignaturePolicy, signature_policy
    from service.launch.signing import kept_versions

    trusted = signature_policy(settings).trusted
    policy = SignaturePolicy(mode="warn", trusted=trusted)
    with closing(open_registry(settings.registry_url)) as registry:
        found = [(each, policy.problem(each)) for each in kept_versions(registry)]
    if as_json:
        print_json(
            [
                {
                    "version": each.name,
                    "signed_by": signed_by(each.signature),
                    "problem": None if problem is None else problem.reason,
                }
                for each, problem in found
            ]
        )
    else:
        print_table(
            ("version", "signed by", "counts"),
            [
                (each.name, signed_by(each.signature), "yes" if not problem else problem.reason)
                for each, problem in found
            ],
            empty="no versions",
        )
    if any(problem for _, problem in found):
        raise typer.Exit(1)


@app.command()
@needs(registry_settings)
def adopt(
    settings: Settings,
    version: Annotated[
        list[str] | None, typer.Option("--version", help="Only this one; may be repeated.")
    ] = None,
    everything: Annotated[
        bool, typer.Option("--all", help="Also what another trusted key has signed.")
    ] = False,
    reason: Why = None,
    as_json: AsJson = False,
) -> None:
    """Sign versions whose signature does not count here: you vouch for what the registry names.

    For versions of builds that signed nothing, and, with --all, before an old key is trusted no
    more. Needs the signing key and the registry.

    Example: wardrobe signatures adopt --version support:3 --reason "from before the update"
    """
    from contextlib import closing

    from adapters.domain.audit import parse_reason
    from adapters.domain.principals import SYSTEM
    from adapters.domain.versions import Version
    from adapters.registry.open import open_registry
    from adapters.signing_keys import SignaturePolicy, signature_policy
    from service.launch.signing import adopt as adopt_versions

    why = parse_reason(reason)
    signer = _signer(settings)
    policy = SignaturePolicy(mode="warn", trusted=signature_policy(settings).trusted)
    names = set(version or ())

    def wanted(each: Version) -> bool:
        if names:
            return each.name in names
        return everything or policy.problem(each) is not None

    with closing(open_registry(settings.registry_url)) as registry:
        adopted = adopt_versions(registry, signer, wanted, by=SYSTEM, reason=why)
    if as_json:
        print_json({"signed": adopted, "key_id": signer.key_id})
    else:
        typer.echo(f"signed {adopted} versions with the key {signer.key_id}")


def _signer(settings: Settings) -> Signer:
    from adapters.errors import InvalidRequest
    from adapters.signing_keys import find_signer

    signer = find_signer(settings)
    if signer is None:
        raise InvalidRequest(
            "there is no signing key: `wardrobe up` or `serve` makes one, or bring one "
            "(WARDROBE_SIGNING_KEY_FILE)"
        )
    return signer
