"""A job's uploaded files → examples: where the registry, the store and the parser meet."""

from __future__ import annotations

from dataclasses import dataclass
from typing import BinaryIO

from adapters.domain.files import StoredFile
from adapters.domain.jobs import Job
from adapters.domain.names import FileId
from adapters.domain.units import UnitLimits
from adapters.errors import InvalidFile, NotFound
from adapters.registry.ports import Files
from adapters.store import ArtifactStore
from training.data.jsonl import Bounds, DataLine, iterate_examples, read_examples, refuse
from training.data.split import Trace, trace


@dataclass(frozen=True, kw_only=True)
class JobFiles:
    """A job's files as the registry knows them; no validation file means a held-out split."""

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
    files: JobFiles, store: ArtifactStore, limits: UnitLimits
) -> tuple[list[Trace], list[Trace] | None]:
    """(training, validation): parses all files and keeps digests only. Raises InvalidFile."""
    checked: list[list[Trace]] = []
    for param, file, bounds in _parts(files, limits):
        with _open(file, param, store) as content:
            lines = iterate_examples(content, param=param, bounds=bounds)
            checked.append([trace(line) for line in lines])
    return checked[0], checked[1] if len(checked) > 1 else None


def load_files(
    files: JobFiles, store: ArtifactStore, limits: UnitLimits
) -> tuple[list[DataLine], list[DataLine] | None]:
    """(training, validation) examples. Raises InvalidFile."""
    loaded: list[list[DataLine]] = []
    for param, file, bounds in _parts(files, limits):
        with _open(file, param, store) as content:
            loaded.append(read_examples(content, param=param, bounds=bounds))
    return loaded[0], loaded[1] if len(loaded) > 1 else None


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
