"""What files that come whole and in parts have in common: contents, names, lifetimes, objects."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, BinaryIO

from adapters.domain.data_columns import delimiter_of
from adapters.domain.files import MAX_LIFETIME, MIN_LIFETIME, StoredFile
from adapters.errors import InvalidFile, InvalidRequest

CHUNK = 1024 * 1024
HEAD = 64 * 1024
"""Bytes looked at before a file is accepted: enough to tell text from anything else."""


def check_head(head: bytes) -> None:
    """Refuses at once what no line-by-line check needs to see."""
    if not head.strip():
        raise InvalidFile("the file is empty", param="file")
    if b"\0" in head:
        raise InvalidFile("the file is binary; send JSONL, one JSON object per line", param="file")
    begins = head.lstrip(b"\xef\xbb\xbf \t\r\n")
    if not begins.startswith(b"{") and delimiter_of(begins.partition(b"\n")[0]) is None:
        raise InvalidFile(
            "expected JSONL, where every line is a JSON object, or CSV, whose first line names "
            "columns such as prompt and completion; line 1 is neither",
            param="file",
        )


def chunks(file: BinaryIO) -> Iterator[bytes]:
    """The rest of a file."""
    while chunk := file.read(CHUNK):
        yield chunk


def label(filename: str | None) -> str:
    """The last part of what the client called it, printable, at most 200 characters."""
    last = (filename or "").replace("\\", "/").rsplit("/", 1)[-1]
    return "".join(char for char in last if char.isprintable())[:200] or "upload.jsonl"


def lifetime_of(anchor: object, seconds: object) -> int:
    """OpenAI's `expires_after`, from a form's texts or from JSON. Raises InvalidRequest."""
    if anchor != "created_at":
        raise InvalidRequest(
            "`expires_after[anchor]` must be `created_at`", param="expires_after.anchor"
        )
    text = str(seconds)
    whole = text.isascii() and text.isdigit() and len(text) <= len(str(MAX_LIFETIME))
    if not whole or not MIN_LIFETIME <= int(text) <= MAX_LIFETIME:
        raise InvalidRequest(
            f"`expires_after[seconds]` must be a whole number from {MIN_LIFETIME} to "
            f"{MAX_LIFETIME}",
            param="expires_after.seconds",
        )
    return int(text)


def wire_file(file: StoredFile) -> dict[str, Any]:
    """OpenAI's file object."""
    return {
        "id": file.id,
        "object": "file",
        "bytes": file.size_bytes,
        "created_at": int(file.created_at),
        "expires_at": None if file.expires_at is None else int(file.expires_at),
        "filename": file.filename,
        "purpose": file.purpose,
        "status": "processed",
    }
