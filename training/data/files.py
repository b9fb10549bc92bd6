"""A job's uploaded files → checked rows: where the registry, the store and the parser meet."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from adapters.domain.files import StoredFile
from adapters.domain.jobs import Job
from adapters.domain.names import FileId
from adapters.domain.units import UnitLimits
from adapters.errors import InvalidFile, NotFound
from adapters.registry.ports import Files
from adapters.store import ArtifactStore
from adapters.store.staging import room_needed
from training.data.checked_rows import CheckedRows, open_rows, write_rows
from training.data.jsonl import Bounds, DataLine, iterate_examples, refuse


@dataclass(frozen=True, kw_only=True)
class JobFiles:
    """A job's files as the registry knows them; the validation file is the owner's to bring."""

    training: StoredFile
    validation: StoredFile | None

    @property
    def digests(self) -> dict[str, str]:
        """What a version's evidence keeps of its data."""
        files = {"training": self.training, "validation": self.validation}
        return {name: str(file.digest) for name, file in files.items() if file is not None}


def find_files(job: Job, known: Files) -> JobFiles:
    """Raises InvalidFile naming the parameter whose file is gone."""
    validation = job.validation_file
    return JobFiles(
        training=_find(job.training_file, "training_file", job, known),
        validation=_find(validation, "validation_file", job, known) if validation else None,
    )


def check_files(
    files: JobFiles, store: ArtifactStore, limits: UnitLimits, folder: Path
) -> CheckedRows:
    """Every example of the files, parsed once: who comes again finds them in `folder`.

    Raises InvalidFile naming every mistake by its line, StorageFull, OSError.
    """
    made_from = {**files.digests, "bounds": [limits.min_examples, limits.max_examples]}
    found = open_rows(folder, made_from)
    if found is not None:
        return found
    with room_needed():
        return write_rows(folder, made_from, _lines(files, store, limits))


def _lines(
    files: JobFiles, store: ArtifactStore, limits: UnitLimits
) -> Iterator[tuple[DataLine, bool]]:
    """Each example, and whether the validation file holds it."""
    for param, file, bounds in _parts(files, limits):
        with _open(file, param, store) as content:
            for line in iterate_examples(content, param=param, bounds=bounds):
                yield line, param == "validation_file"


def _parts(files: JobFiles, limits: UnitLimits) -> list[tuple[str, StoredFile, Bounds]]:
    training = Bounds(min_examples=limits.min_examples, max_examples=limits.max_examples)
    parts = [("training_file", files.training, training)]
    if files.validation is not None:
        parts.append(
            ("validation_file", files.validation, Bounds(max_examples=limits.max_examples))
        )
    return parts


def _find(file_id: FileId, param: str, job: Job, known: Files) -> StoredFile:
    try:
        return known.get(file_id, job.principal)
    except NotFound:
        raise _gone(file_id, param) from None


def _open(file: StoredFile, param: str, store: ArtifactStore) -> BinaryIO:
    try:
        return store.open_file(file.digest)
    except NotFound:
        raise _gone(file.id, param) from None


def _gone(file_id: FileId, param: str) -> InvalidFile:
    return refuse(param, f"{file_id} is not there any more; upload it again and start a new job")
