"""Shares what one engine holds, and who uses it, between the API processes in front of it.

One file that every process maps, made anew for each life of an engine:

    0        the loader's lock (one byte)
    4 KiB    ids of what the engine holds: 1,024 slots of 8 bytes
    12 KiB   ids of what each process waits for: 64 processes, 256 slots of 8 bytes each
    140 KiB  a record of 32 bytes per version id: last use, last failure, state, reason

A process holds a shared lock on a version's record while it has at least one lease of it. Who
unloads takes the exclusive lock without waiting, and gives up where somebody holds it. The kernel
drops the locks of a process that was killed. Locks belong to an open file description: the loader
takes its own from a second one, so that the leases of its own process count as well.

All of one process's calls come from its event loop's thread.
"""

from __future__ import annotations

import mmap
import os
import struct
import time
from array import array
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from adapters.domain.names import VersionId
from adapters.errors import EngineUnavailable
from service.engine.byte_locks import EXCLUSIVE, SHARED, is_free, try_lock, unlock
from service.engine.shared_file import open_shared

INCARNATION = "WARDROBE_INCARNATION"
"""Environment variable of an engine's processes: the random name of this life of it."""
MAX_HELD = 1024
MAX_PROCESSES = 64
MAX_WAITING = 256
"""Versions that one process waits for at once: more than are loaded before who waits gives up. Who
asks sees to it that no unit has more than its share.
"""
MAX_VERSION_ID = 2**20
"""Records of 32 MiB. A million versions are those of fifty a day, for fifty years."""

_HELD, _WAITING, _RECORDS = 4096, 12 * 1024, 140 * 1024
_RECORD = 32
_SIZE = _RECORDS + _RECORD * MAX_VERSION_ID
_USED, _FAILED_AT, _STATE, _REASON = 0, 8, 16, 17
_ID, _TIME = struct.Struct("q"), struct.Struct("d")
_ABSENT, _RESIDENT, _FAILED = 0, 1, 2


class Reason(StrEnum):
    """Why a version cannot be served: a closed set, safe as a label."""

    ARTIFACT_DAMAGED = "artifact_damaged"
    """A file of it is missing or differs from its digest."""
    ARTIFACT_MISSING = "artifact_missing"
    """The store does not have it."""
    STORE_UNAVAILABLE = "store_unavailable"
    """The store does not answer, or has no room for a copy."""
    ENGINE_REFUSED = "engine_refused"
    """The engine does not take it, or nothing of it took effect."""
    ENGINE_UNAVAILABLE = "engine_unavailable"
    """The engine does not answer."""
    NO_SLOT = "no_slot"
    """Every slot of the engine is taken: raise WARDROBE_MAX_CPU_LORAS or serve fewer aliases."""
    BASE_MISMATCH = "base_mismatch"
    """It was trained on another base model than the one served: train it anew."""
    LOAD_FAILED = "load_failed"
    """Something that nobody foresaw; the log tells."""
    SIGNATURE_MISSING = "signature_missing"
    """Nobody has signed it, and signatures are required."""
    SIGNATURE_UNTRUSTED = "signature_untrusted"
    """A key has signed it that is not trusted here."""
    SIGNATURE_INVALID = "signature_invalid"
    """Its signature is of something else."""


_REASONS = tuple(Reason)


@dataclass(frozen=True, kw_only=True)
class Failure:
    """Why a version is not resident, and when that was last found (monotonic seconds)."""

    reason: Reason
    at: float


class SharedResidency:
    """One process's view of its engine."""

    def __init__(
        self, path: Path, *, process: int = 0, clock: Callable[[], float] = time.monotonic
    ) -> None:
        """Makes the file where needed. `clock`: one that all processes share. Raises OSError."""
        if not 0 <= process < MAX_PROCESSES:
            raise ValueError(f"an engine has at most {MAX_PROCESSES} API processes")
        self._leases = open_shared(path, _SIZE)
        self._loader = open_shared(path, _SIZE)
        self._map = mmap.mmap(self._leases, _SIZE)
        self._asks = _WAITING + process * MAX_WAITING * _ID.size
        self._clock = clock
        self._asked: dict[VersionId, int] = {}
        self._owner = False

    def close(self) -> None:
        """Lets go of every lock; further calls are undefined."""
        self._map.close()
        os.close(self._leases)
        os.close(self._loader)

    # -- leases: the request path

    def hold(self, version_id: VersionId) -> bool:
        """Keeps a resident version from being unloaded. False where it is not resident, or is
        being unloaded right now.

        The state is read after the lock is taken, and who unloads writes it before letting go of
        its own: what this says stays true until `drop`.
        """
        record = _record(version_id)
        if not try_lock(self._leases, SHARED, record):
            return False
        if self._map[record + _STATE] == _RESIDENT:
            return True
        unlock(self._leases, record)
        return False

    def drop(self, version_id: VersionId) -> None:
        """Gives up what `hold` took."""
        unlock(self._leases, _record(version_id))

    def note_use(self, version_id: VersionId) -> None:
        """The version is used, or wanted, now."""
        _TIME.pack_into(self._map, _record(version_id) + _USED, self._clock())

    # -- what everybody may know

    def is_resident(self, version_id: VersionId) -> bool:
        """Whether the engine holds it."""
        return self._map[_record(version_id) + _STATE] == _RESIDENT

    def resident(self) -> frozenset[VersionId]:
        """Everything that the engine holds and that answers."""
        return frozenset(version for version in self._held() if self.is_resident(version))

    def last_use(self, version_id: VersionId) -> float:
        """When any process last used it; 0 for never."""
        return float(_TIME.unpack_from(self._map, _record(version_id) + _USED)[0])

    def failure(self, version_id: VersionId) -> Failure | None:
        """Why it cannot be served, as far as was found."""
        record = _record(version_id)
        if self._map[record + _STATE] != _FAILED:
            return None
        at = float(_TIME.unpack_from(self._map, record + _FAILED_AT)[0])
        return Failure(reason=_REASONS[self._map[record + _REASON]], at=at)

    # -- asking the loader

    def ask(self, version_id: VersionId) -> None:
        """Says that this process waits for a version. Raises EngineUnavailable when it waits for
        too many already.
        """
        if version_id in self._asked:
            return
        taken = set(self._asked.values())
        free = next((slot for slot in range(MAX_WAITING) if slot not in taken), None)
        if free is None:
            raise EngineUnavailable("too many versions wait to be loaded", param="model")
        self._asked[version_id] = free
        _ID.pack_into(self._map, self._asks + free * _ID.size, version_id)

    def withdraw(self, version_id: VersionId) -> None:
        """It waits no longer."""
        slot = self._asked.pop(version_id, None)
        if slot is not None:
            _ID.pack_into(self._map, self._asks + slot * _ID.size, 0)

    def asked(self) -> frozenset[VersionId]:
        """What any process waits for."""
        return frozenset(self._ids(_WAITING, MAX_PROCESSES * MAX_WAITING))

    # -- the loader's side

    def own(self) -> bool:
        """Whether this process is the engine's loader, or has become it now.

        The lock lasts as long as the process: who has it keeps it.
        """
        self._owner = self._owner or try_lock(self._loader, EXCLUSIVE, 0)
        return self._owner

    def leased(self, versions: Iterable[VersionId]) -> frozenset[VersionId]:
        """Those of `versions` that some process holds a lease of at the moment."""
        return frozenset(v for v in versions if not is_free(self._loader, _record(v)))

    @contextmanager
    def unused(self, version_id: VersionId) -> Iterator[bool]:
        """Keeps everybody from taking a lease while the body runs. Gives False when one is held."""
        record = _record(version_id)
        free = try_lock(self._loader, EXCLUSIVE, record)
        try:
            yield free
        finally:
            if free:
                unlock(self._loader, record)

    def begin_load(self, version_id: VersionId) -> None:
        """The engine is about to be given a version: it may hold it from here on."""
        if version_id not in self._held():
            ids = list(_ID.iter_unpack(self._map[_HELD : _HELD + MAX_HELD * _ID.size]))
            free = next(slot for slot, (held,) in enumerate(ids) if not held)
            _ID.pack_into(self._map, _HELD + free * _ID.size, version_id)

    def note_resident(self, version_id: VersionId) -> None:
        """The engine holds it, and it answered as it should."""
        self._map[_record(version_id) + _STATE] = _RESIDENT

    def note_failed(self, version_id: VersionId, reason: Reason) -> None:
        """It could not be made resident."""
        record = _record(version_id)
        _TIME.pack_into(self._map, record + _FAILED_AT, self._clock())
        self._map[record + _REASON] = _REASONS.index(reason)
        self._map[record + _STATE] = _FAILED  # last: whoever sees it reads the reason
        self._free_slot(version_id)

    def begin_unload(self, version_id: VersionId) -> None:
        """It no longer answers; the engine may still hold it."""
        self._map[_record(version_id) + _STATE] = _ABSENT

    def note_unloaded(self, version_id: VersionId) -> None:
        """The engine no longer holds it."""
        self._free_slot(version_id)

    def forget_failure(self, version_id: VersionId) -> None:
        """What was found of it no longer holds."""
        if self._map[_record(version_id) + _STATE] == _FAILED:
            self._map[_record(version_id) + _STATE] = _ABSENT

    def left_behind(self) -> frozenset[VersionId]:
        """What a loader that died was loading or unloading: the engine may hold it."""
        return frozenset(version for version in self._held() if not self.is_resident(version))

    def _held(self) -> list[VersionId]:
        return self._ids(_HELD, MAX_HELD)

    def _ids(self, start: int, count: int) -> list[VersionId]:
        found = array("q", self._map[start : start + count * _ID.size])
        return [VersionId(number) for number in filter(None, found)]

    def _free_slot(self, version_id: VersionId) -> None:
        ids = list(_ID.iter_unpack(self._map[_HELD : _HELD + MAX_HELD * _ID.size]))
        for slot, (held,) in enumerate(ids):
            if held == version_id:
                _ID.pack_into(self._map, _HELD + slot * _ID.size, 0)


def _record(version_id: VersionId) -> int:
    if not 0 < version_id < MAX_VERSION_ID:
        raise EngineUnavailable("there are more versions than one engine can tell apart")
    return _RECORDS + version_id * _RECORD
