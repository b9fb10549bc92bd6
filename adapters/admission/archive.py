"""Takes the named files of an adapter out of an archive that somebody uploads.

A zip, a tar, or a tar in gzip. Nothing is unpacked as a whole: the archive is listed, the folder
with the adapter is found, and of that the wanted files are read, each up to its own bound, into
names of ours. A path that leads out, a link, a device or a name that stands twice makes the whole
archive refused; what else lies in it is never read. So no name of an archive becomes a path, and
no pickle is ever opened.

Both readers of the standard library believe sizes that a file claims of itself, so those are
bounded before: a zip's directory, and every read within a tar's headers.
"""

from __future__ import annotations

import gzip
import io
import os
import stat
import struct
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import BinaryIO

from adapters.errors import Rejected

MAX_MEMBERS = 4096
"""A folder of a training run with its checkpoints has some hundred files."""
MAX_DEPTH = 8
MAX_ZIP_DIRECTORY = 4 << 20
_MAX_TAR_READ = 1 << 20
"""Of a header: tar's long names and notes are read whole by the standard library, and kept."""
_MAX_TAR_HEADERS = 16 << 20
_OTHER_FILES = MAX_MEMBERS * 1024
"""Bytes of headers and small files, beside as much again as is wanted."""
_CHUNK = 1 << 20
_ZIP, _GZIP, _TAR = b"PK\x03\x04", b"\x1f\x8b", b"ustar"
_ZIP_END, _ZIP64_END = b"PK\x05\x06", b"PK\x06\x07"
_PICKLES = ("adapter_model.bin", "adapter_model.pt", "adapter_model.pth", "pytorch_model.bin")
_BROKEN = (
    tarfile.TarError,
    zipfile.BadZipFile,
    zlib.error,
    struct.error,
    EOFError,
    gzip.BadGzipFile,
    ValueError,
    RuntimeError,  # a zip with a password; headers nested too deeply
    NotImplementedError,  # a way of packing that is not known
)


@dataclass(frozen=True, kw_only=True)
class _Member:
    """One file of an archive, not read yet."""

    path: PurePosixPath
    open: Callable[[], BinaryIO]


@dataclass(frozen=True, kw_only=True)
class Unpacked:
    """What came out."""

    names: frozenset[str]
    others: int
    """Files that were left alone."""


def unpack(
    archive: BinaryIO, into: Path, *, config: str, needed: str, wanted: Mapping[str, int]
) -> Unpacked:
    """Writes the `wanted` files (name → most bytes) of the archive's adapter into `into`.

    The adapter's folder is the one with `config` that lies nearest to the top; it must hold
    `needed`. Raises Rejected, OSError.
    """
    with _understood(), _opened(archive, most=sum(wanted.values())) as members:
        folder = _folder_with(members, config)
        files = {m.path.name: m for m in members if m.path.parent == folder}
        _check_weights(files, needed)
        found = [name for name in wanted if name in files]
        for name in found:
            _copy(files[name], into / name, most=wanted[name])
        return Unpacked(names=frozenset(found), others=len(members) - len(found))


@contextmanager
def _understood() -> Iterator[None]:
    try:
        yield
    except _BROKEN as error:
        raise _refused("the archive is damaged or packed in a way that is not read") from error


@contextmanager
def _opened(archive: BinaryIO, *, most: int) -> Iterator[Sequence[_Member]]:
    archive.seek(0)
    head = archive.read(512)
    archive.seek(0)
    if head.startswith(_ZIP):
        _check_zip_directory(archive)
        with zipfile.ZipFile(archive) as packed:
            yield _zip_members(packed)
    elif head.startswith(_GZIP) or head[257:262] == _TAR:
        plain = gzip.GzipFile(fileobj=archive) if head.startswith(_GZIP) else archive
        bounded = _Bounded(plain, most=2 * most + _OTHER_FILES)
        with tarfile.open(fileobj=bounded, mode="r:") as packed_tar:
            members = _tar_members(packed_tar)
            bounded.listed = True
            yield members
    else:
        raise _refused("send a zip, a tar or a tar.gz")


class _Bounded(io.RawIOBase):
    """A file of which no more is read than may be, at once and in all.

    While it is listed, a tar is read for its headers alone: those are few.
    """

    def __init__(self, file: io.BufferedIOBase | BinaryIO, *, most: int) -> None:
        self._file = file
        self._most = most
        self._headers_left = _MAX_TAR_HEADERS
        self.listed = False

    def read(self, size: int = -1) -> bytes:
        """Raises Rejected."""
        if not self.listed:
            self._headers_left -= size
        wrong = size < 0 or self._headers_left < 0 or self._file.tell() > self._most
        if wrong or size > _MAX_TAR_READ:
            raise _refused("the archive claims sizes that no adapter has")
        return self._file.read(size)

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        """Raises Rejected past the bound: a packed file is read to get there."""
        if whence != os.SEEK_SET or offset > self._most:
            raise _refused("the archive is larger than an adapter may be")
        return self._file.seek(offset)

    def tell(self) -> int:
        return self._file.tell()


def _check_zip_directory(archive: BinaryIO) -> None:
    """Bounds what the standard library reads whole into memory before anything can be asked."""
    end = archive.seek(0, os.SEEK_END)
    begin = max(0, end - (22 + 65_535 + 20))
    archive.seek(begin)
    tail = archive.read()
    archive.seek(0)
    found = tail.rfind(_ZIP_END)
    if found < 0 or _ZIP64_END in tail:
        raise _refused("the archive has no directory that is read here (zip64 is not)")
    # every record of that kind is bounded: readers differ in which one they take
    while found >= 0:
        if len(tail) - found >= 22:
            (size,) = struct.unpack_from("<I", tail, found + 12)
            if size > MAX_ZIP_DIRECTORY:
                raise _too_many()
        found = tail.rfind(_ZIP_END, 0, found)


def _zip_members(packed: zipfile.ZipFile) -> Sequence[_Member]:
    members = _Members()
    for info in packed.infolist():
        if not info.is_dir():
            kind = stat.S_IFMT(info.external_attr >> 16)
            members.add(
                info.filename, is_plain=kind in (0, stat.S_IFREG), open=_opener(packed, info)
            )
    return members.found


def _opener(packed: zipfile.ZipFile, info: zipfile.ZipInfo) -> Callable[[], BinaryIO]:
    return lambda: packed.open(info)  # type: ignore[return-value]


def _tar_members(packed: tarfile.TarFile) -> Sequence[_Member]:
    members = _Members()
    for number, info in enumerate(packed):
        if number >= MAX_MEMBERS:  # folders, too: the standard library keeps each
            raise _too_many()
        if not info.isdir():
            plain = info.type in (tarfile.REGTYPE, tarfile.AREGTYPE) and not info.issparse()
            members.add(info.name, is_plain=plain, open=_tar_opener(packed, info))
    return members.found


def _tar_opener(packed: tarfile.TarFile, info: tarfile.TarInfo) -> Callable[[], BinaryIO]:
    def opened() -> BinaryIO:
        file = packed.extractfile(info)
        assert file is not None  # noqa: S101 - a plain file has content
        return file  # type: ignore[return-value]

    return opened


class _Members:
    """Collects the files of an archive and refuses what no honest one holds."""

    def __init__(self) -> None:
        self.found: list[_Member] = []
        self._names: set[PurePosixPath] = set()

    def add(self, name: str, *, is_plain: bool, open: Callable[[], BinaryIO]) -> None:
        """Raises Rejected."""
        path = _clean(name)
        if not is_plain:
            raise _refused("the archive holds a link or something else that is no plain file")
        if path in self._names:
            raise _refused("a name stands twice in the archive")
        if len(self.found) >= MAX_MEMBERS:
            raise _too_many()
        self._names.add(path)
        self.found.append(_Member(path=path, open=open))


def _clean(name: str) -> PurePosixPath:
    """The path within the archive. Raises Rejected where it would lead out of it."""
    path = PurePosixPath(name)
    wrong = "\\" in name or "\0" in name or path.is_absolute() or ".." in path.parts
    if wrong or not path.parts or ":" in path.parts[0] or len(path.parts) > MAX_DEPTH:
        raise _refused("a path in the archive leads out of it, or too deep")
    return path


def _folder_with(members: Sequence[_Member], config: str) -> PurePosixPath:
    folders = sorted((len(m.path.parts), m.path.parent) for m in members if m.path.name == config)
    if not folders:
        raise _refused(f"there is no {config} in it")
    if len(folders) > 1 and folders[0][0] == folders[1][0]:
        raise _refused("it holds several adapters side by side; send one")
    return folders[0][1]


def _check_weights(files: Mapping[str, object], needed: str) -> None:
    if needed in files:
        return
    pickle = next((name for name in _PICKLES if name in files), None)
    if pickle is not None:
        raise _refused(
            f"its weights are {pickle}, a pickle, which is a program and is never read; save them "
            "with `save_pretrained(…, safe_serialization=True)`"
        )
    raise _refused(f"{needed} is missing")


def _copy(member: _Member, to: Path, *, most: int) -> None:
    """Counts what is read, whatever the archive says of the file's size."""
    left = most
    with member.open() as source, to.open("xb") as target:
        while chunk := source.read(_CHUNK):
            left -= len(chunk)
            if left < 0:
                raise Rejected(f"{to.name} is larger than {most} bytes", code="adapter_too_large")
            target.write(chunk)


def _too_many() -> Rejected:
    return _refused(f"the archive holds more than {MAX_MEMBERS} files")


def _refused(problem: str) -> Rejected:
    return Rejected(problem, code="adapter_files")
