"""The registry in memory: the twin of `adapters.registry.sql` for fast tests.

One lock makes every method one transaction, and values are copied on their way in and out. It
lives as long as its process. Jobs are in `memory_jobs`, versions and routes in `memory_routes`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from adapters.domain.files import StoredFile
from adapters.domain.names import Digest, FileId, Unit
from adapters.domain.pages import Page
from adapters.domain.principals import Key
from adapters.errors import Conflict, NotFound
from adapters.registry.memory_jobs import MemoryJobs
from adapters.registry.memory_routes import MemoryRoutes, loading
from adapters.registry.memory_tables import Tables, following, kept, page
from adapters.registry.port import ReplicaReport, Snapshot


class MemoryRegistry(MemoryJobs, MemoryRoutes):
    """`Registry` for the threads of one process; see `adapters.registry.port`."""

    def revision(self) -> int:
        with self._transaction() as tables:
            return tables.revision

    def snapshot(self) -> Snapshot:
        with self._transaction() as tables:
            return Snapshot(
                revision=tables.revision,
                routes=dict(tables.routes),
                rollouts=tuple(loading(tables)),
                versions={v.id: v for v in kept(list(tables.versions.values())) if v.servable},
                keys=tuple(_not_revoked(tables)),
            )

    def report_replica(self, report: ReplicaReport) -> None:
        with self._transaction() as tables:
            tables.replicas[report.id] = kept(report)

    def replicas(self, *, newer_than: float) -> Sequence[ReplicaReport]:
        with self._transaction() as tables:
            fresh = [report for report in tables.replicas.values() if report.at > newer_than]
            return kept(sorted(fresh, key=lambda report: report.id))

    def forget_replica(self, replica_id: str) -> None:
        with self._transaction() as tables:
            tables.replicas.pop(replica_id, None)

    def add_keys(self, keys: Sequence[Key]) -> None:
        with self._transaction() as tables:
            known = [*tables.keys.values(), *keys]
            for name in ("id", "hash"):
                if len({getattr(key, name) for key in known}) < len(known):
                    raise Conflict("another change came first", code="already_exists")
            tables.keys |= {key.id: key for key in keys}
            tables.revision += bool(keys)

    def keys(self) -> Sequence[Key]:
        with self._transaction() as tables:
            return _not_revoked(tables)

    def find_key(self, hashed: str) -> Key | None:
        with self._transaction() as tables:
            return next((key for key in tables.keys.values() if key.hash == hashed), None)

    def revoke_key(self, key_id: str, *, at: float) -> None:
        with self._transaction() as tables:
            if key_id not in tables.keys:
                raise NotFound("no such key")
            if tables.keys[key_id].revoked_at is None:
                tables.keys[key_id] = replace(tables.keys[key_id], revoked_at=at)
                tables.revision += 1

    def add_file(self, file: StoredFile) -> None:
        with self._transaction() as tables:
            if file.id in tables.files:
                raise Conflict("another change came first", code="already_exists")
            tables.files[file.id] = file

    def file(self, file_id: FileId, *, unit: Unit | None) -> StoredFile:
        with self._transaction() as tables:
            return _find_file(tables, file_id, unit)

    def files(
        self,
        *,
        unit: Unit | None,
        purpose: str | None,
        after: str | None,
        limit: int,
        newest_first: bool,
    ) -> Page[StoredFile]:
        with self._transaction() as tables:
            mine = [file for file in tables.files.values() if unit in (None, file.unit)]
            ordered = mine[::-1] if newest_first else mine
            rest = following(ordered, lambda file: file.id == after, after)
            return page((file for file in rest if purpose in (None, file.purpose)), limit)

    def delete_file(self, file_id: FileId, *, unit: Unit | None) -> Digest | None:
        with self._transaction() as tables:
            digest = _find_file(tables, file_id, unit).digest
            for job in tables.jobs.values():
                if not job.status.finished and file_id in (job.training_file, job.validation_file):
                    raise Conflict("a job that is not finished uses this file", code="file_in_use")
            del tables.files[file_id]
            still_named = any(file.digest == digest for file in tables.files.values())
            return None if still_named else digest

    def close(self) -> None:
        """Nothing to let go of."""


def _find_file(tables: Tables, file_id: FileId, unit: Unit | None) -> StoredFile:
    file = tables.files.get(file_id)
    if file is None or unit not in (None, file.unit):
        raise NotFound("no such file")
    return file


def _not_revoked(tables: Tables) -> list[Key]:
    return [key for key in tables.keys.values() if key.revoked_at is None]
