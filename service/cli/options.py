"""Options that many commands share, and how a command asks for what they mean.

A command decorated with `@needs(provider)` gets the provider's result as its first argument, and
the provider's options beside its own on the command line.
"""

from __future__ import annotations

import functools
import inspect
import json
import math
import os
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from adapters.settings import Settings
    from service.cli.client import Client


class Method(StrEnum):
    """What is learnt from. `adapters.domain.recipes` has the same, with what a command need not
    wait for.
    """

    SUPERVISED = "supervised"
    DPO = "dpo"
    KTO = "kto"


OfMethod = Annotated[
    Method | None,
    typer.Option(
        "--method", help="What is learnt from: answers, pairs or thumbs; else what the unit says."
    ),
]
Why = Annotated[str | None, typer.Option("--reason", help="Why; kept in the audit log.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON for machines.")]
StateFolder = Annotated[
    str, typer.Option("--state", metavar="FOLDER", help="The state folder [WARDROBE_STATE].")
]
UnitsFolder = Annotated[
    str,
    typer.Option("--units", metavar="FOLDER", help="The folder of unit files [WARDROBE_UNITS]."),
]
Base = Annotated[
    str,
    typer.Option(
        "--base", metavar="ID|FOLDER", help="Base model; smollm2 if empty [WARDROBE_BASE]."
    ),
]
Host = Annotated[str, typer.Option("--host", help="Address to listen on [WARDROBE_HOST].")]
Port = Annotated[
    int | None,
    typer.Option("--port", min=1, max=65535, help="Port to listen on [WARDROBE_PORT]."),
]


def finite(number: float | None) -> float | None:
    """Python reads `nan` and `inf` as numbers, which no bound refuses. Raises BadParameter."""
    if number is not None and not math.isfinite(number):
        raise typer.BadParameter("this must be a number")
    return number


# annotations that mean nothing to Typer, of modules imported only when a command runs
_LATER = {"Client": object, "Settings": object}


def needs(provider: Callable[..., Any]) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Gives a command the provider's result, and the provider's options to the command line.

    What the provider made is closed after the command, where it can be.
    """
    options = inspect.signature(provider, eval_str=True, locals=_LATER).parameters

    def decorate(function: Callable[..., None]) -> Callable[..., None]:
        signature = inspect.signature(function, eval_str=True, locals=_LATER)
        own = list(signature.parameters.values())[1:]

        @functools.wraps(function)
        def command(**values: Any) -> None:
            given = provider(**{name: values.pop(name) for name in options})
            holding = given if isinstance(given, AbstractContextManager) else nullcontext()
            with holding:
                function(given, **values)

        parameters = [
            parameter.replace(kind=inspect.Parameter.KEYWORD_ONLY)
            for parameter in (*own, *options.values())
        ]
        # what Typer reads instead of the wrapper's own `**values`
        command.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
        command.__annotations__ = {each.name: each.annotation for each in parameters}
        return command

    return decorate


def a_client(
    *,
    url: Annotated[
        str,
        typer.Option("--url", help="Where the service is [WARDROBE_SERVICE_URL, …HOST, …PORT]."),
    ] = "",
    key: Annotated[
        str,
        typer.Option(
            "--key", help="Key to act with [WARDROBE_KEY]; else the admin's, as brought or made."
        ),
    ] = "",
    state: StateFolder = "",
) -> Client:
    """A client with the best key at hand. Raises InvalidKey, InvalidRequest, BadParameter."""
    settings = _settings(state=state)
    address = url or settings.url
    _check_address(address)
    secret = key or os.environ.get("WARDROBE_KEY") or _local_admin_key(settings)
    if not secret.isascii() or not secret.isprintable():
        raise typer.BadParameter("a key has only printable ASCII characters (--key, WARDROBE_KEY)")
    from service.cli.client import Client

    return Client(address, secret, logs=settings.state_folder.logs, authority=settings.service_ca)


def _check_address(url: str) -> None:
    """What the HTTP client would end with a traceback on."""
    from urllib.parse import urlsplit

    try:
        parts = urlsplit(url)
        host = (parts.hostname or "").encode("idna")
        wrong = parts.scheme not in ("http", "https") or not host or parts.port == 0
    except ValueError:  # of a port that is none, a bracket that is not closed, a host of two dots
        wrong = True
    if wrong or not url.isascii() or not url.isprintable() or " " in url:
        raise typer.BadParameter(f"{url!r} is no address such as http://127.0.0.1:8000 (--url)")


def chosen_settings(
    *,
    state: StateFolder = "",
    units: UnitsFolder = "",
    base: Base = "",
    host: Host = "",
    port: Port = None,
) -> Settings:
    """The settings of processes started here: options, else WARDROBE_*, else defaults."""
    return _settings(state=state, units=units, base=base, host=host, port=port)


def serving_settings(
    *,
    state: StateFolder = "",
    units: UnitsFolder = "",
    base: Base = "",
    host: Host = "",
    port: Port = None,
    tls_cert: Annotated[
        str,
        typer.Option("--tls-cert", metavar="FILE", help="Certificate chain [WARDROBE_TLS_CERT]."),
    ] = "",
    tls_key: Annotated[
        str, typer.Option("--tls-key", metavar="FILE", help="Its key [WARDROBE_TLS_KEY].")
    ] = "",
) -> Settings:
    """The same of processes that answer."""
    tls = {"tls_cert": tls_cert, "tls_key": tls_key}
    return _settings(state=state, units=units, base=base, host=host, port=port, **tls)


def state_settings(*, state: StateFolder = "") -> Settings:
    """Settings of commands that read the state folder and nothing else."""
    return _settings(state=state)


def registry_settings(*, state: StateFolder = "") -> Settings:
    """Settings of commands that read a registry which must be there: a new one would look intact.

    Raises InvalidRequest where it is not.
    """
    from adapters.errors import InvalidRequest

    settings = _settings(state=state)
    if not settings.shares_registry and not settings.state_folder.registry.is_file():
        raise InvalidRequest(
            f"there is no registry in {settings.state_folder.root}; say where it is with --state"
        )
    return settings


def state_and_units_settings(*, state: StateFolder = "", units: UnitsFolder = "") -> Settings:
    """Settings of commands that read both folders."""
    return _settings(state=state, units=units)


def units_settings(*, units: UnitsFolder = "") -> Settings:
    """Settings of commands that read the units folder and nothing else."""
    return _settings(units=units)


def _settings(**given: str | int | None) -> Settings:
    from adapters.settings import Settings

    return Settings(**{name: value for name, value in given.items() if value})  # type: ignore[arg-type]


def _local_admin_key(settings: Settings) -> str:
    """The admin's key as the service on this machine has it. Raises InvalidKey, InvalidRequest."""
    from adapters.brought_keys import brought_key
    from adapters.domain.principals import Role
    from adapters.errors import InvalidKey

    brought = brought_key(settings, Role.ADMIN)
    if brought is not None:
        return brought
    path = settings.state_folder.keys
    try:
        return str(json.loads(path.read_text("utf-8"))["admin"])
    except FileNotFoundError:
        reason = f"{path} is not there yet"
    except PermissionError:
        reason = f"{path} is not yours to read"
    except KeyError:
        reason = f"{path} holds none: the admin's was brought"
    except (OSError, ValueError, TypeError):
        reason = f"{path} cannot be read"
    raise InvalidKey(f"no key to act with: give --key or WARDROBE_KEY ({reason})")
