"""A base model of the Hugging Face hub, pinned to one commit at its first use.

What a hub hands out under a name may change; a base that changed would strand every version that
was trained on it. So the commit is recorded in the state folder, and another one is taken only
where it is named (`org/model@commit`) or asked for (`wardrobe base update`).
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path

from adapters.admission.manifest import BASE_FILES
from adapters.durable_files import write_private
from adapters.errors import InvalidRequest, Unavailable
from adapters.settings import Settings
from adapters.telemetry_off import TELEMETRY_OFF

PINS = "base-revisions.json"
"""In the state folder: hub id → commit."""
PEDIGREE_FILES = ("README.md", "LICENSE*")
"""What model cards tell of a base: they decide no answer and are not in what is published of it."""
_HUB_ID = re.compile(
    r"(?P<id>[A-Za-z0-9][\w.-]*(?:/[A-Za-z0-9][\w.-]*)?)(?:@(?P<commit>[0-9a-f]{40}))?"
)

Snapshot = Callable[[Settings, str, str | None], Path]
"""Settings, hub id and commit (None: the newest) → the folder, whose name is its commit."""


def split_hub_id(base: str) -> tuple[str, str | None]:
    """`org/model@commit` → id and commit, None where none is named. Raises InvalidRequest."""
    found = _HUB_ID.fullmatch(base)
    if base.startswith(("/", ".", "~")) or found is None:
        raise InvalidRequest(
            f"the base model {base} is neither a folder nor a hub id (org/model, or "
            "org/model@commit with all 40 digits of the commit)"
        )
    return found["id"], found["commit"]


def fetch_from_hub(
    settings: Settings,
    *,
    newest: bool = False,
    snapshot: Snapshot | None = None,
    pin: bool = True,
) -> Path:
    """The folder of the commit that is named or pinned; the first use and `newest` pin the newest.

    With `pin=False` nothing is recorded: looking at a base is no use of it.

    Raises InvalidRequest, Unavailable.
    """
    hub_id, named = split_hub_id(settings.base)
    pinned = None if newest else _pins(settings).get(hub_id)
    folder = (snapshot or download)(settings, hub_id, named or pinned)
    if pin and (pinned is None or named is not None):
        _write(settings, _pins(settings) | {hub_id: folder.name})
    return folder


def pinned_revision(settings: Settings) -> str | None:
    """The commit that this state folder's base is held at; None for what is no hub base."""
    with suppress(InvalidRequest):
        hub_id, named = split_hub_id(settings.base)
        return named or _pins(settings).get(hub_id)
    return None


def describe(settings: Settings, hub_id: str, commit: str | None) -> Path:
    """As `download`, but without the weights."""
    patterns = [pattern for pattern in BASE_FILES if not pattern.endswith(".safetensors")]
    return download(settings, hub_id, commit, patterns=patterns)


def download(
    settings: Settings, hub_id: str, commit: str | None, *, patterns: Sequence[str] = BASE_FILES
) -> Path:
    """A snapshot in our cache; offline, what is there already."""
    os.environ.update(TELEMETRY_OFF)
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError

    try:
        return Path(
            snapshot_download(
                hub_id,
                revision=commit,
                cache_dir=settings.cache / "hub",
                allow_patterns=[*patterns, *PEDIGREE_FILES],
                token=os.environ.get("HF_TOKEN"),
            )
        )
    except HFValidationError:
        raise InvalidRequest(f"{hub_id} is not a hub id") from None
    except LocalEntryNotFoundError:
        raise Unavailable(
            f"the hub cannot be reached and {settings.base} is not in {settings.cache}; "
            "give BASE a folder, or leave it out for the default one"
        ) from None
    except (HfHubHTTPError, OSError) as error:
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise Unavailable(f"{settings.base} could not be fetched: {reason}") from None


def _pins(settings: Settings) -> dict[str, str]:
    try:
        kept = json.loads((settings.state_folder.root / PINS).read_text("utf-8"))
    except FileNotFoundError:
        return {}
    except (OSError, ValueError):
        raise InvalidRequest(
            f"{PINS} in the state folder cannot be read; mend it, or remove it to take the hub's "
            "newest commit"
        ) from None
    return {str(hub_id): str(commit) for hub_id, commit in dict(kept).items()}


def _write(settings: Settings, pins: dict[str, str]) -> None:
    text = json.dumps(pins, indent=2, sort_keys=True) + "\n"
    write_private(settings.state_folder.create().root / PINS, text.encode("utf-8"))
