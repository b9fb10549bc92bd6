"""Which versions saw a person's records: looks through what each was trained on and measured by.

Datasets hold tokens and questions, so their texts can be read back with the base's tokenizer; where
a person was replaced by a pseudonym, the unit's key tells which one it was.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from adapters.domain.data_policy import DataPolicy, Entity
from adapters.domain.datasets import Part
from adapters.domain.erasures import ErasedTerm
from adapters.domain.files import StoredFile
from adapters.domain.names import Digest, JobId, Unit
from adapters.domain.principals import Principal, Role
from adapters.domain.versions import Version, VersionState
from adapters.errors import InvalidRequest, NotFound, Rejected
from adapters.registry import Registry
from adapters.registry.origin import job_behind
from adapters.store import ArtifactStore
from training.data.directory import DirectoryFinder, read_directory
from training.data.erased import Erased, erased_term
from training.data.jsonl import MAX_LINE
from training.data.parts import StoredRows, rejected_of
from training.data.pseudonyms import Pseudonyms, subject_of, words_of
from training.data.stored_dataset import open_dataset
from training.data.tokenise import TEST_FILE

_PAGE = 100
_RETRAINED = (VersionState.LIVE, VersionState.CANDIDATE)


@dataclass(frozen=True, kw_only=True)
class Person:
    """What somebody is known by, ready to be looked for."""

    terms: frozenset[ErasedTerm]
    erased: Erased
    codes: frozenset[str]
    """Those of the pseudonyms that may stand in the place of a term."""

    def is_in(self, text: str) -> bool:
        """Whether a text has one of the terms, or a pseudonym of one."""
        return self.erased.hold(text) or any(f"-{code}]" in text for code in self.codes)


@dataclass(frozen=True, kw_only=True)
class Seen:
    """One version that saw the person's records."""

    version: Version
    job_id: JobId
    """The job whose data it is."""
    rows: tuple[str, ...]
    """Ids of the examples; none where only the version that it was made of has seen them."""
    through: str | None = None
    """That version, which was trained further or made weaker."""

    @property
    def to_retrain(self) -> bool:
        """Whether it answers somebody, or may."""
        return self.version.state in _RETRAINED and self.version.servable


@dataclass(frozen=True, kw_only=True)
class Records:
    """Everything that was found."""

    seen: tuple[Seen, ...]
    """The newest version first."""
    files: tuple[tuple[StoredFile, tuple[int, ...]], ...]
    """Uploads that hold the person, with the lines; their owner deletes them."""
    unread: tuple[str, ...]
    """Versions whose data cannot be read here: of another base, brought, or not kept any more."""


@dataclass(frozen=True, kw_only=True)
class Archive:
    """Where records are looked for, and how tokens of this base are read."""

    registry: Registry
    store: ArtifactStore
    base_fingerprint: Digest
    read: Callable[[Sequence[int]], str]


def person_of(words: Sequence[str], key: bytes, policy: DataPolicy, folder: Path) -> Person:
    """Terms as somebody has written them: names, addresses, numbers.

    Raises InvalidRequest where one has no words or too many.
    """
    terms = [erased_term(text, key) for text in words]
    if not terms or None in terms:
        raise InvalidRequest("give terms of 1 to 12 words, one on each line", param="terms")
    listed = (entry for name in policy.directories for entry in read_directory(folder / name))
    directory = DirectoryFinder(listed)
    subjects = {subject_of(entity, text) for text in words for entity in Entity}
    subjects |= {each for text in words for each in directory.subjects_of(words_of(text))}
    kept = frozenset(term for term in terms if term)
    codes = frozenset(map(Pseudonyms(key).code, subjects))
    return Person(terms=kept, erased=Erased(kept, key), codes=codes)


def find_records(archive: Archive, unit: Unit, person: Person) -> Records:
    """Looks through the data of all versions that are kept, and through the unit's uploads."""
    principal = Principal(id="system", role=Role.UNIT, unit=unit)
    seen: dict[str, Seen] = {}
    unread: dict[str, Version] = {}
    versions = list(_versions(archive.registry, principal))
    for version in reversed(versions):  # the oldest first: what others were made of
        job_id = job_behind(archive.registry, version, principal)
        before = _made_of(version)
        texts = None if job_id is None else _texts(archive, version, job_id)
        rows = dict.fromkeys(row for row, text in texts or () if person.is_in(text))
        through = before if before in seen else None
        if job_id is not None and (rows or through):
            seen[version.name] = Seen(
                version=version, job_id=job_id, rows=tuple(rows), through=through
            )
        elif texts is None or before in unread:
            unread[version.name] = version
    return Records(
        seen=tuple(each for each in reversed(seen.values()) if not each.version.collected_at),
        files=tuple(_files(archive, principal, person)),
        unread=tuple(name for name, each in reversed(unread.items()) if not each.collected_at),
    )


def _made_of(version: Version) -> str | None:
    """The version that it was trained further from, or is a weaker form of."""
    start = (version.evidence or {}).get("start") or {}
    return version.weaker_copy_of or start.get("version")


def _versions(registry: Registry, principal: Principal) -> Iterator[Version]:
    after = None
    while True:
        page = registry.versions.list(principal, adapter=None, after=after, limit=_PAGE)
        yield from page.items
        if not page.has_more:
            return
        after = page.items[-1].name


def _texts(archive: Archive, version: Version, job_id: JobId) -> Iterator[tuple[str, str]] | None:
    """(row id, text) of everything that a version was trained on and measured by."""
    digest = archive.registry.datasets.of_job(job_id)
    if not digest or version.base_fingerprint != archive.base_fingerprint:
        return None
    try:
        folder = archive.store.fetch_dataset(digest)
        if open_dataset(folder, digest) is None:
            return None
    except (NotFound, Rejected):
        return None
    return _texts_in(archive, folder)


def _texts_in(archive: Archive, folder: Path) -> Iterator[tuple[str, str]]:
    names = [name for part in (Part.TRAIN, Part.VALIDATION) for name in (part, rejected_of(part))]
    for name in names:
        if not (folder / f"{name}.ends.bin").is_file():
            continue
        rows = StoredRows(folder, name)
        for at, rendered in enumerate(rows):
            yield rows.row_id(at), archive.read(rendered.ids)
    with (folder / TEST_FILE).open(encoding="utf-8") as file:
        yield from (_row_and_text(line) for line in file)


def _row_and_text(line: str) -> tuple[str, str]:
    said = json.loads(line)
    return said["row"], json.dumps([said["prompt"], said["reference"]], ensure_ascii=False)


def _files(
    archive: Archive, principal: Principal, person: Person
) -> Iterator[tuple[StoredFile, tuple[int, ...]]]:
    after = None
    while True:
        page = archive.registry.files.list(
            principal, purpose=None, after=after, limit=_PAGE, newest_first=True
        )
        for file in page.items:
            try:
                content = archive.store.open_file(file.digest)
            except NotFound:
                continue
            with content:
                lines = tuple(_lines_with(content, person))
            if lines:
                yield file, lines
        if not page.has_more:
            return
        after = str(page.items[-1].id)


def _lines_with(content: BinaryIO, person: Person) -> Iterator[int]:
    number = 0
    while raw := content.readline(MAX_LINE):
        number += 1
        text = raw.decode("utf-8", "replace")
        if person.is_in(text) or ("\\" in text and person.is_in(_unescaped(text))):
            yield number


def _unescaped(line: str) -> str:
    """A JSON line with its escapes resolved; what is no JSON stays as it is."""
    try:
        return json.dumps(json.loads(line), ensure_ascii=False)
    except (ValueError, RecursionError):
        return line
