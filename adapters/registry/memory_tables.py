"""What the `memory…` modules share: the tables, one lock over them, cutting a page."""

from __future__ import annotations

import copy
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TypeVar

from adapters.domain.files import StoredFile
from adapters.domain.jobs import Job, JobCheckpoint, JobEvent
from adapters.domain.names import Alias, FileId, JobId, Unit, VersionId
from adapters.domain.pages import Page
from adapters.domain.principals import Key
from adapters.domain.routes import Rollout, Route
from adapters.domain.versions import Version
from adapters.errors import NotFound
from adapters.registry.port import ReplicaReport

T = TypeVar("T")


@dataclass
class Tables:
    """The registry's tables; dictionaries keep the order of arrival."""

    revision: int = 0
    replicas: dict[str, ReplicaReport] = field(default_factory=dict)
    keys: dict[str, Key] = field(default_factory=dict)
    files: dict[FileId, StoredFile] = field(default_factory=dict)
    jobs: dict[JobId, Job] = field(default_factory=dict)
    job_by_idempotency_key: dict[tuple[Unit, str], JobId] = field(default_factory=dict)
    events: list[JobEvent] = field(default_factory=list)
    checkpoints: list[JobCheckpoint] = field(default_factory=list)
    versions: dict[VersionId, Version] = field(default_factory=dict)
    routes: dict[Alias, Route] = field(default_factory=dict)
    rollouts: dict[int, Rollout] = field(default_factory=dict)


class MemoryPart:
    """A part of the registry, on one set of tables."""

    def __init__(self) -> None:
        self._tables = Tables()
        self._lock = threading.Lock()

    @contextmanager
    def _transaction(self) -> Iterator[Tables]:
        """The tables, to this thread alone. A body that raises must not have written."""
        with self._lock:
            yield self._tables


def kept(value: T) -> T:
    """A copy, so that nobody outside holds what the tables hold."""
    return copy.deepcopy(value)


def page(items: Iterable[T], limit: int) -> Page[T]:
    """The first `limit` of `items`, copied."""
    found = list(items)
    return Page(items=kept(found[:limit]), has_more=len(found) > limit)


def following(items: list[T], is_cursor: Callable[[T], bool], after: str | None) -> list[T]:
    """What comes after the cursor in a list already in order. Raises NotFound."""
    if after is None:
        return items
    for position, item in enumerate(items):
        if is_cursor(item):
            return items[position + 1 :]
    raise NotFound("nothing to go on after", param="after")
