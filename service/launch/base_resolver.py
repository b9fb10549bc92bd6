"""Where the base model comes from: a folder, a Hugging Face id, the artifact store, or the one
Wardrobe builds itself.

Resolved once, by the parent of all processes, so that the service and the trainer get one local
folder and cannot disagree. Nothing here runs code that comes with a model.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from adapters.admission.manifest import BASE_FILES
from adapters.brought_keys import trainer_environment
from adapters.domain.names import Digest
from adapters.errors import InvalidRequest, NotFound, Rejected, Unavailable
from adapters.settings import Settings
from adapters.store.open import open_store
from adapters.telemetry_off import TELEMETRY_OFF

EMBEDDED_NAME = "wardrobe-base"
STORED = "store:"
"""How a base of the artifact store is named, with its digest behind."""
_HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*(/[A-Za-z0-9][\w.-]*)?")


@dataclass(frozen=True)
class BaseFolder:
    """A base model on this machine, and what the API calls it."""

    path: Path
    name: str


def resolve_base(settings: Settings) -> BaseFolder:
    """Builds or fetches it where it must. Raises InvalidRequest, Unavailable."""
    if not settings.base:
        return build_embedded(settings)
    if settings.base.startswith(STORED):
        return BaseFolder(_stored(settings), settings.base_name or EMBEDDED_NAME)
    path = Path(settings.base).expanduser()
    if path.is_dir():
        if not (path / "config.json").is_file():
            raise InvalidRequest(f"{path} holds no config.json: not a Hugging Face model folder")
        path = path.absolute()
        return BaseFolder(path, settings.base_name or path.name)
    if settings.base.startswith(("/", ".", "~")) or not _HUB_ID.fullmatch(settings.base):
        raise InvalidRequest(f"the base model {settings.base} is neither a folder nor a hub id")
    return BaseFolder(_fetch(settings), settings.base_name or settings.base.rpartition("/")[2])


def inherited_environment(settings: Settings) -> dict[str, str]:
    """Our environment for children, with the switches that keep everything in the building.

    What torch compiles is kept in the cache, not among the system's temporary files.
    """
    compiled = settings.cache.expanduser().absolute() / "torchinductor"
    return {"TORCHINDUCTOR_CACHE_DIR": str(compiled), **os.environ, **TELEMETRY_OFF}


def build_embedded(settings: Settings) -> BaseFolder:
    """The embedded base, built now or found in the cache; progress goes to our standard error."""
    done = subprocess.run(
        [sys.executable, "-m", "training.base", "--json"],
        env=trainer_environment(settings, inherited_environment(settings)),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        check=False,
    )
    lines = done.stdout.decode("utf-8", "replace").strip().splitlines()
    if done.returncode or not lines:
        raise Unavailable("the embedded base model could not be built (see above)")
    # its folder is called by a digest, which nobody would want to say
    path = Path(json.loads(lines[-1])["path"]).absolute()
    return BaseFolder(path, settings.base_name or EMBEDDED_NAME)


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


def _fetch(settings: Settings) -> Path:
    """A snapshot of the hub's repository in our cache; offline, what is there already."""
    os.environ.update(TELEMETRY_OFF)
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError

    try:
        return Path(
            snapshot_download(
                settings.base,
                cache_dir=settings.cache / "hub",
                allow_patterns=list(BASE_FILES),
                token=os.environ.get("HF_TOKEN"),
            )
        )
    except HFValidationError:
        raise InvalidRequest(f"{settings.base} is not a hub id") from None
    except LocalEntryNotFoundError:
        raise Unavailable(
            f"the hub cannot be reached and {settings.base} is not in {settings.cache}; "
            "give BASE a folder, or leave it out for the embedded base model"
        ) from None
    except (HfHubHTTPError, OSError) as error:
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise Unavailable(f"{settings.base} could not be fetched: {reason}") from None
