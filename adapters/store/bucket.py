"""One prefix of an object storage, and the only import of obstore.

Every call is bounded in time and in tries, and fails with errors of ours. What the storage's client
says is dropped: it names addresses and keys, and may name more.
"""

from __future__ import annotations

import io
import os
import re
import secrets
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from datetime import timedelta
from typing import BinaryIO, TypeVar
from urllib.parse import urlsplit

import obstore
from obstore.exceptions import (
    AlreadyExistsError,
    BaseError,
    PermissionDeniedError,
    UnauthenticatedError,
)
from obstore.store import from_url

from adapters.errors import InvalidRequest, NotFound, StorageFull, Unavailable

SCHEMES = ("s3", "gs", "az")
PART_BYTES = 8 << 20
"""Of a multipart upload, and of what one request reads."""
_PARTS_AT_ONCE = 4
_ENDPOINTS = ("AWS_ENDPOINT", "AWS_ENDPOINT_URL", "AWS_ENDPOINT_URL_S3", "AZURE_STORAGE_ENDPOINT")
# obstore tells these from other failures by its text alone; a refused list from none at all
_NO_ROOM = re.compile(r"status code: 507|StorageFull|InsufficientStorage|QuotaExceeded")
_REFUSED = re.compile(r"status code: 40[13]\b")
_TRIES = 3
_T = TypeVar("_T")


@dataclass(frozen=True, kw_only=True)
class Patience:
    """How long and how often one call is tried: at most `retry_s + request_s` in all."""

    request_s: float = 60.0
    """One request, its body (at most `PART_BYTES`) included."""
    connect_s: float = 5.0
    retries: int = 5
    retry_s: float = 30.0
    """After this long no request of the call is repeated any more."""
    backoff_s: float = 0.1


@dataclass(frozen=True, kw_only=True)
class StoredObject:
    """One object of a listing."""

    key: str
    size: int
    modified_at: float


class Bucket:
    """Objects by key below one URL; safe to use from several threads."""

    def __init__(self, url: str, *, patience: Patience) -> None:
        """Reads endpoint, region and credentials from the storage's usual environment variables.

        Raises InvalidRequest for a URL or a variable that cannot be used.
        """
        _check_url(url)
        try:
            store = from_url(
                url,
                client_options={
                    # without TLS only where whoever runs this says so, in the endpoint
                    "allow_http": any(_says_http(os.environ.get(name)) for name in _ENDPOINTS),
                    "connect_timeout": timedelta(seconds=patience.connect_s),
                    "timeout": timedelta(seconds=patience.request_s),
                },
                retry_config={
                    "max_retries": patience.retries,
                    "retry_timeout": timedelta(seconds=patience.retry_s),
                    "backoff": {"init_backoff": timedelta(seconds=patience.backoff_s)},
                },
            )
        except (BaseError, ValueError, TypeError):
            store = None
        if store is None:
            raise InvalidRequest(
                "the object storage cannot be used as it is set up: check WARDROBE_ARTIFACTS and "
                "the storage's environment variables (docs/reference.md names them)"
            )
        self._store = store

    def size(self, key: str) -> int:
        """Raises NotFound."""
        return int(_call(lambda: obstore.head(self._store, key))["size"])

    def read(self, key: str, size: int) -> Iterator[bytes]:
        """The first `size` bytes, in parts. Raises NotFound.

        Each part is a request of its own, so that a deadline holds for objects of any size.
        """
        for start in range(0, size, PART_BYTES):
            end = min(start + PART_BYTES, size)
            yield bytes(self._range(key, start, end))

    def _range(self, key: str, start: int, end: int) -> obstore.Bytes:
        return _call(lambda: obstore.get_range(self._store, key, start=start, end=end))

    def put(self, key: str, file: BinaryIO) -> None:
        """Writes an object whole or not at all, in parts where it is large; replaces another."""
        _call(
            lambda: obstore.put(
                self._store,
                key,
                file,
                chunk_size=PART_BYTES,
                max_concurrency=_PARTS_AT_ONCE,
            )
        )

    def put_new(self, key: str, content: bytes) -> bool:
        """Writes an object unless there is one; False then.

        Also False where this very call wrote it, was not answered and was repeated: obstore does
        not repeat it by itself.
        """
        for left in reversed(range(_TRIES)):
            try:
                _call(lambda: obstore.put(self._store, key, content, mode="create"))
                return True
            except _Exists:
                return False
            except Unavailable:
                if not left:
                    raise
        raise AssertionError("the last try returns or raises")

    def delete(self, key: str) -> None:
        """What is not there is fine."""
        with suppress(NotFound):
            _call(lambda: obstore.delete(self._store, key))

    def list(self, prefix: str) -> Iterator[StoredObject]:
        """Every object whose key begins so."""
        pages = _call(lambda: iter(obstore.list(self._store, prefix=prefix)))
        # a page may be empty and not the last
        while (page := _call(lambda: next(pages, None))) is not None:
            for found in page:
                yield StoredObject(
                    key=found["path"],
                    size=found["size"],
                    modified_at=found["last_modified"].timestamp(),
                )

    def honours_put_new(self) -> bool:
        """Asks the storage whether `put_new` really refuses to replace.

        Raises InvalidRequest where the bucket does not exist, Unavailable.
        """
        key = f"probe/{secrets.token_hex(16)}"
        try:
            self.put(key, io.BytesIO())
            return not self.put_new(key, b"")
        except NotFound:
            raise InvalidRequest("the bucket of WARDROBE_ARTIFACTS does not exist") from None
        finally:
            with suppress(Unavailable):
                self.delete(key)


class _Exists(Exception):
    """There is an object under the key."""


def _call(request: Callable[[], _T]) -> _T:
    try:
        return request()
    except BaseError as error:
        problem = _translated(error)
    except FileNotFoundError:
        problem = NotFound("no such artifact in the store")
    # Raised out here, so that the client's error is not carried along as this one's context.
    raise problem


def _translated(error: BaseError) -> Exception:
    if isinstance(error, AlreadyExistsError):
        return _Exists()
    if _NO_ROOM.search(str(error)):
        return StorageFull("the object storage has no room left; free some")
    refused = isinstance(error, PermissionDeniedError | UnauthenticatedError)
    if refused or _REFUSED.search(str(error)):
        return Unavailable(
            "the object storage refuses this service; check its credentials and what they allow",
            code="storage_refused",
        )
    return Unavailable("the object storage does not answer; try again", code="storage_unavailable")


def _check_url(url: str) -> None:
    parts = urlsplit(url)
    if parts.scheme not in SCHEMES or not parts.netloc:
        raise InvalidRequest(
            "WARDROBE_ARTIFACTS must be a folder, or begin with s3://, gs:// or az:// and a bucket"
        )
    if "@" in parts.netloc or parts.query or parts.fragment:
        raise InvalidRequest(
            "WARDROBE_ARTIFACTS names a bucket and a prefix only; credentials belong in the "
            "storage's own environment variables"
        )


def _says_http(endpoint: str | None) -> bool:
    return endpoint is not None and endpoint.lower().startswith("http://")
