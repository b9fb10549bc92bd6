"""Where the base model comes from: one that Wardrobe brings (`tiny`, `smollm2`), a folder, a
Hugging Face id, or the artifact store.

Resolved once, by the parent of all processes, so that the service and the trainer get one local
folder and cannot disagree. Nothing here runs code that comes with a model.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

from adapters.brought_keys import trainer_environment
from adapters.domain.names import Digest
from adapters.durable_files import write_private
from adapters.errors import InvalidRequest, NotFound, Rejected, Unavailable
from adapters.settings import DEFAULT_BASE, Settings
from adapters.store.open import open_store
from adapters.telemetry_off import TELEMETRY_OFF
from service.launch.hub import fetch_from_hub, split_hub_id

EMBEDDED_NAME = "wardrobe-base"
BROUGHT: Mapping[str, str] = MappingProxyType({"tiny": EMBEDDED_NAME, "smollm2": "smollm2"})
"""Bases that need no folder and no hub, and what the API calls them."""
FALLBACK = "tiny"
"""Taken where no base is named and the default one cannot be had."""
STORED = "store:"
"""How a base of the artifact store is named, with its digest behind."""


@dataclass(frozen=True)
class BaseFolder:
    """A base model on this machine, and what the API calls it."""

    path: Path
    name: str


def resolve_base(settings: Settings) -> BaseFolder:
    """Builds or fetches it where it must; a folder called as a brought base is `./tiny`.

    Raises InvalidRequest, Unavailable.
    """
    if not settings.base or settings.base in BROUGHT:
        return build_embedded(settings)
    if settings.base.startswith(STORED):
        return BaseFolder(_stored(settings), settings.base_name or EMBEDDED_NAME)
    path = Path(settings.base).expanduser()
    if path.is_dir():
        if not (path / "config.json").is_file():
            raise InvalidRequest(f"{path} holds no config.json: not a Hugging Face model folder")
        path = path.absolute()
        return BaseFolder(path, settings.base_name or path.name)
    hub_id, _ = split_hub_id(settings.base)
    return BaseFolder(fetch_from_hub(settings), settings.base_name or hub_id.rpartition("/")[2])


def is_hub_base(settings: Settings) -> bool:
    """Whether `resolve_base` would ask the hub for it."""
    base = settings.base
    elsewhere = not base or base in BROUGHT or base.startswith(STORED)
    return not elsewhere and not Path(base).expanduser().is_dir()


def inherited_environment(settings: Settings) -> dict[str, str]:
    """Our environment for children, with the switches that keep everything in the building.

    What torch compiles is kept in the cache, not among the system's temporary files.
    """
    compiled = settings.cache.expanduser().absolute() / "torchinductor"
    return {"TORCHINDUCTOR_CACHE_DIR": str(compiled), **os.environ, **TELEMETRY_OFF}


def build_embedded(settings: Settings) -> BaseFolder:
    """A brought base, made now or found in the cache; progress goes to our standard error."""
    named = names_of(settings)
    done = subprocess.run(
        [sys.executable, "-m", "training.base", *named, "--json"],
        env=trainer_environment(settings, inherited_environment(settings)),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        check=False,
    )
    lines = done.stdout.decode("utf-8", "replace").strip().splitlines()
    if done.returncode or not lines:
        raise Unavailable(f"the base model {named[0]} could not be made here (see above)")
    # its folder is called by a digest, which nobody would want to say
    made = json.loads(lines[-1])
    if not settings.base:
        remember_default(settings, made["name"])
    return BaseFolder(Path(made["path"]).absolute(), settings.base_name or BROUGHT[made["name"]])


def names_of(settings: Settings) -> list[str]:
    """What `python -m training.base` is asked for. Where none is named, the one that this state
    folder began with, since its versions fit no other; at first the default one, or the fallback.
    """
    if settings.base:
        return [settings.base]
    try:
        name = settings.state_folder.default_base.read_text("utf-8").strip()
    except FileNotFoundError:
        return [FALLBACK] if _has_versions(settings) else [DEFAULT_BASE, "--else", FALLBACK]
    if name not in BROUGHT:
        raise InvalidRequest(
            f"{settings.state_folder.default_base} names no base that Wardrobe brings: "
            "say which one with WARDROBE_BASE"
        )
    return [name]


def _has_versions(settings: Settings) -> bool:
    """Whether an earlier build has made versions here: its default was the fallback of today."""
    adapters = settings.state_folder.artifacts / "adapters"
    return adapters.is_dir() and any(adapters.iterdir())


def remember_default(settings: Settings, name: str) -> None:
    """Keeps the first one that was taken. Raises OSError."""
    folder = settings.state_folder.create()
    write_private(folder.default_base, f"{name}\n".encode(), overwrite=False)


def publish_base(settings: Settings) -> str:
    """Puts the base into the artifact store, for replicas to share; the answer names it there.

    Raises what `resolve_base` raises, StorageFull, OSError.
    """
    base = resolve_base(settings)
    return STORED + open_store(settings).publish_base(base.path)


def _stored(settings: Settings) -> Path:
    """A base of the artifact store, as it was published, in our cache or where it lies."""
    try:
        return open_store(settings).fetch_base(Digest(settings.base.removeprefix(STORED)))
    except (NotFound, Rejected) as error:
        raise InvalidRequest(
            f"the artifact store has no whole base model {settings.base} ({error.message}); "
            "publish it with `wardrobe base publish`"
        ) from None
