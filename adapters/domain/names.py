"""Checks names by their form, and makes identifiers.

A name that arrives in a request is matched here before it means anything; it never becomes a
path. Ids are made by us, from the system's random source.
"""

from __future__ import annotations

import re
import secrets
from typing import NewType

from adapters.errors import InvalidRequest

Unit = NewType("Unit", str)
"""A business unit's name, e.g. `support`."""
Alias = NewType("Alias", str)
"""What applications put in `model`, e.g. `hr-screening`."""
VersionId = NewType("VersionId", int)
"""The registry's number of a version; the engine's `lora_int_id` in every process."""
FileId = NewType("FileId", str)
JobId = NewType("JobId", str)
UploadId = NewType("UploadId", str)
PartId = NewType("PartId", str)
PermissionId = NewType("PermissionId", str)
Digest = NewType("Digest", str)
"""Lower-case hex SHA-256."""

_NAME = re.compile(r"[a-z][a-z0-9-]{0,38}[a-z0-9]|[a-z]")
_VERSION = re.compile(r"([a-z][a-z0-9-]{0,39}):([1-9][0-9]{0,8})")


def is_name(text: str) -> bool:
    """Whether `text` may name a unit, adapter or alias: 1-40 of a-z, 0-9, `-`."""
    return _NAME.fullmatch(text) is not None


def version_name(adapter: str, number: int) -> str:
    """`support`, 8 → `support:8`."""
    return f"{adapter}:{number}"


def split_version(name: str) -> tuple[str, int] | None:
    """`support:8` → (`support`, 8); None where `name` is not of that form."""
    match = _VERSION.fullmatch(name)
    return (match[1], int(match[2])) if match else None


def parse_version(name: str) -> tuple[str, int]:
    """`support:8` → (`support`, 8). Raises InvalidRequest."""
    parts = split_version(name)
    if parts is None:
        raise InvalidRequest("a version looks like `support:8`", param="version")
    return parts


def new_file_id() -> FileId:
    """A fresh `file-…` id."""
    return FileId(f"file-{secrets.token_hex(12)}")


def new_upload_id() -> UploadId:
    """A fresh `upload_…` id."""
    return UploadId(f"upload_{secrets.token_hex(12)}")


def new_part_id() -> PartId:
    """A fresh `part_…` id."""
    return PartId(f"part_{secrets.token_hex(12)}")


def new_permission_id() -> PermissionId:
    """A fresh `cp_…` id, as OpenAI's checkpoint permissions have."""
    return PermissionId(f"cp_{secrets.token_hex(12)}")


def new_job_id() -> JobId:
    """A fresh `ftjob-…` id."""
    return JobId(f"ftjob-{secrets.token_hex(12)}")
