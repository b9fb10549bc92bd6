"""Keys that an operator brings, in variables or in files, and who may see them.

A file is what a mounted Secret is. Wardrobe writes a brought key nowhere; the registry keeps its
keyed hash.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from pathlib import Path

from pydantic import SecretStr

from adapters.domain.api_keys import MAX_BEARER, MIN_BROUGHT
from adapters.domain.names import Unit
from adapters.domain.principals import Role
from adapters.errors import InvalidRequest
from adapters.settings import Settings

NOT_THE_TRAINERS = frozenset(
    {
        "WARDROBE_KEY",
        "WARDROBE_ADMIN_KEY",
        "WARDROBE_ADMIN_KEY_FILE",
        "WARDROBE_METRICS_KEY",
        "WARDROBE_METRICS_KEY_FILE",
        "WARDROBE_UNIT_KEYS",
        "WARDROBE_PEPPER",
        "WARDROBE_PEPPER_FILE",
    }
)
"""Variables that hold or name a key of somebody else, or the secret under all of them."""
BROUGHT = frozenset({"WARDROBE_TRAINER_KEY", "WARDROBE_TRAINER_KEY_FILE"}) | NOT_THE_TRAINERS
"""All variables that hold or name a key."""
_KEY = re.compile(r"[!-~]+")


def brought_key(settings: Settings, role: Role) -> str | None:
    """The key brought for the admin or the trainer; None when the service makes one itself.

    Raises InvalidRequest when it is brought twice, cannot be read, or can be no key.
    """
    if role is Role.ADMIN:
        return _brought("WARDROBE_ADMIN_KEY", settings.admin_key, settings.admin_key_file)
    if role is Role.TRAINER:
        return _brought("WARDROBE_TRAINER_KEY", settings.trainer_key, settings.trainer_key_file)
    return None


def brought_metrics_key(settings: Settings) -> str | None:
    """The key brought for whoever scrapes the metrics; none is ever made. Raises InvalidRequest."""
    return _brought("WARDROBE_METRICS_KEY", settings.metrics_key, settings.metrics_key_file)


def _brought(variable: str, given: SecretStr | None, path: Path | None) -> str | None:
    if given is not None and path is not None:
        raise InvalidRequest(f"set {variable} or {variable}_FILE, not both")
    if path is not None:
        return _checked(_read(path, f"{variable}_FILE"), variable)
    return _checked(given.get_secret_value(), variable) if given is not None else None


def brought_keys(settings: Settings) -> Mapping[Role, str]:
    """The roles' keys that are brought. Raises InvalidRequest, also when two share one key."""
    found = {role: brought_key(settings, role) for role in (Role.ADMIN, Role.TRAINER)}
    brought = {role: secret for role, secret in found.items() if secret is not None}
    if len(set(brought.values())) < len(brought):
        raise InvalidRequest("the trainer needs a key of its own: it was given the admin's")
    if (metrics := brought_metrics_key(settings)) is not None and metrics in brought.values():
        raise InvalidRequest("the metrics need a key of their own: theirs may do nothing else")
    return brought


def brought_trainer_key(settings: Settings) -> str | None:
    """The trainer's key; None where the service of the same machine makes it.

    Raises InvalidRequest, also where no service makes one.
    """
    key = brought_key(settings, Role.TRAINER)
    if key is None and settings.shares_registry:
        raise InvalidRequest(
            "bring the trainer's key (WARDROBE_TRAINER_KEY_FILE), the same to the service: with "
            "WARDROBE_DATABASE_URL set, none is made"
        )
    return key


def brought_unit_keys(settings: Settings, units: Iterable[Unit]) -> Mapping[Unit, str]:
    """The keys brought for these units: `WARDROBE_UNIT_KEYS` has a file named after each.

    A unit without a file has none. Raises InvalidRequest.
    """
    folder = settings.unit_keys
    if folder is None:
        return {}
    if not folder.is_dir():
        raise InvalidRequest(f"WARDROBE_UNIT_KEYS: {folder} is no folder")
    return {
        unit: _checked(_read(folder / unit, "WARDROBE_UNIT_KEYS"), f"WARDROBE_UNIT_KEYS, {unit}")
        for unit in units
        if (folder / unit).exists()
    }


def trainer_environment(settings: Settings, inherited: Mapping[str, str]) -> dict[str, str]:
    """What a process of the trainer's is started with: every setting, no key but its own."""
    return {
        name: value
        for name, value in {**inherited, **settings.environment()}.items()
        if name not in NOT_THE_TRAINERS
    }


def _checked(secret: str, variable: str) -> str:
    """The key without the line break that editors and templates end a secret with."""
    secret = secret.strip()
    if not MIN_BROUGHT <= len(secret) <= MAX_BEARER or not _KEY.fullmatch(secret):
        raise InvalidRequest(
            f"{variable}: a key is {MIN_BROUGHT} to {MAX_BEARER} printable ASCII characters, "
            "none of them a space"
        )
    return secret


def _read(path: Path, variable: str) -> str:
    try:
        return path.read_text("utf-8")
    except (OSError, UnicodeError) as error:
        reason = getattr(error, "strerror", None) or "it is not text"
        raise InvalidRequest(f"{variable}: {path} cannot be read: {reason}") from None
