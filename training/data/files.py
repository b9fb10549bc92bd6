"""A job's uploaded files → checked rows: where the registry, the store and the parser meet."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from adapters.domain.files import StoredFile
from adapters.domain.jobs import Job
from adapters.domain.names import FileId
from adapters.errors import InvalidFile, NotFound
from adapters.registry.ports import Files
from adapters.store import ArtifactStore
from training.data.checked_rows import CheckedRows, open_rows
from training.data.jsonl import refuse
from training.data.read import Rules, read_rows

FILE_PARAMS = ("training_file", "validation_file")


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

    @property
    def by_param(self) -> list[tuple[str, StoredFile]]:
        """By the parameter of the job that names them."""
        files = [("training_file", self.training)]
        return [*files, *([("validation_file", self.validation)] if self.validation else [])]


def find_files(job: Job, known: Files) -> JobFiles:
    """Raises InvalidFile naming the parameter whose file is gone."""
    validation = job.validation_file
    return JobFiles(
        training=_find(job.training_file, "training_file", job, known),
        validation=_find(validation, "validation_file", job, known) if validation else None,
    )


def check_files(files: JobFiles, store: ArtifactStore, rules: Rules, folder: Path) -> CheckedRows:
    """Every example of the files, parsed once: who comes again finds them in `folder`.

    Raises InvalidFile naming every mistake by its line, StorageFull, OSError.
    """
    made_from = {**files.digests, **rules.made_from}
    found = open_rows(folder, made_from)
    if found is not None:
        return found
    return read_rows(list(openers(files, store).items()), rules, folder, made_from)


def openers(files: JobFiles, store: ArtifactStore) -> dict[str, Callable[[], BinaryIO]]:
    """What opens each file, by the parameter that names it. They raise InvalidFile, Rejected."""
    return {param: _opener(file, param, store) for param, file in files.by_param}


def _opener(file: StoredFile, param: str, store: ArtifactStore) -> Callable[[], BinaryIO]:
    return lambda: _open(file, param, store)


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
