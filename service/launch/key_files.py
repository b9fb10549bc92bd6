"""The two files of a state folder in which keys are kept that the service has made.

`keys.json` holds those of the admin and the units, for the people of this machine. `trainer.key`
holds the trainer's, which reads nothing else. A key that an operator brings is in neither.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from adapters.domain.names import Unit
from adapters.durable_files import write_private
from adapters.state_folder import StateFolder

ADMIN = "admin"
TRAINER = "trainer"


def unit_owner(unit: Unit) -> str:
    """What the unit is called among the owners of keys."""
    return f"units.{unit}"


@dataclass(frozen=True, kw_only=True)
class KeptKeys:
    """What the files hold."""

    secrets: Mapping[str, str]
    """Owner → key: `admin`, `trainer`, `units.support`."""

    def with_secret(self, owner: str, secret: str) -> KeptKeys:
        return replace(self, secrets={**self.secrets, owner: secret})

    def without_secret(self, owner: str) -> KeptKeys:
        left = {name: secret for name, secret in self.secrets.items() if name != owner}
        return replace(self, secrets=left)


def read_kept(folder: StateFolder) -> KeptKeys:
    """What the folder keeps; nothing where it has no files yet. Raises OSError, ValueError.

    The trainer's key of an earlier build stands in `keys.json`; its own file comes first.
    """
    document: dict[str, Any] = {}
    with suppress(FileNotFoundError):
        document = json.loads(folder.keys.read_text("utf-8"))
    found = {name: document[name] for name in (ADMIN, TRAINER) if name in document}
    with suppress(FileNotFoundError):
        found[TRAINER] = folder.trainer_key.read_text("utf-8").strip()
    units = {unit_owner(Unit(unit)): secret for unit, secret in document.get("units", {}).items()}
    return KeptKeys(secrets={**found, **units})


def write_kept(folder: StateFolder, kept: KeptKeys) -> None:
    """Brings both files up to date. Raises OSError.

    The trainer's comes first: its key leaves `keys.json` only when it stands there.
    """
    units = {
        owner.removeprefix("units."): secret
        for owner, secret in sorted(kept.secrets.items())
        if owner.startswith("units.")
    }
    admin = {ADMIN: kept.secrets[ADMIN]} if ADMIN in kept.secrets else {}
    if TRAINER in kept.secrets:
        _write(folder.trainer_key, f"{kept.secrets[TRAINER]}\n")
    _write(folder.keys, json.dumps({**admin, "units": units}, indent=2) + "\n")


def kept_in(folder: StateFolder, owner: str) -> str:
    """The name of the file in which the owner's key stands."""
    return folder.trainer_key.name if owner == TRAINER else folder.keys.name


def _write(path: Path, content: str) -> None:
    if not path.exists() or path.read_text("utf-8") != content:
        write_private(path, content.encode())
