"""The record of what an engine answers, and of what engines died of.

One file in the state folder that every process maps, and that outlives them:

    0       a lock (one byte): whose turn it is
    4 KiB   digests of what is in flight: 64 processes, 1,024 requests each
    then    suspects: digest, deaths, time of the last

A request's digest stands there while the engine has it (`service.engine.quarantine`). What is still
there when the engine has died may be what it died of: a suspect.

The digests are keyed and of what the engine is sent: nobody learns a request from one. Nothing is
flushed to the disk, because a process's death loses nothing of a mapped file; a power cut may.
"""

from __future__ import annotations

import mmap
import os
import struct
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from service.engine.shared_file import open_shared
from service.engine.shared_residency import MAX_PROCESSES

DEATHS = 2
"""As many, with the same request in flight, are no accident."""
KEPT_SECONDS = 3600.0
"""How long a suspect is remembered and a request is refused, from its last death."""
MAX_IN_FLIGHT = 1024
"""Of one process; more are answered, and not recorded."""
MAX_SUSPECTS = 1024

DIGEST_BYTES = 16
_NOBODY = bytes(DIGEST_BYTES)
_IN_FLIGHT = 4096
_OF_A_PROCESS = MAX_IN_FLIGHT * DIGEST_BYTES
_SUSPECTS = _IN_FLIGHT + MAX_PROCESSES * _OF_A_PROCESS
_SUSPECT = struct.Struct(f"{DIGEST_BYTES}sqd")
_SIZE = _SUSPECTS + MAX_SUSPECTS * _SUSPECT.size


@dataclass(frozen=True, kw_only=True)
class Suspect:
    """A request that was in flight when the engine died."""

    digest: bytes
    deaths: int
    last_death: float
    """Seconds since 1970."""

    @property
    def id(self) -> str:
        """How a person names it."""
        return self.digest.hex()

    @property
    def quarantined(self) -> bool:
        """Whether it is refused."""
        return self.deaths >= DEATHS

    @property
    def expires_at(self) -> float:
        """When it is forgotten, in seconds since 1970."""
        return self.last_death + KEPT_SECONDS


def after_death(
    suspects: Iterable[Suspect], in_flight: Iterable[bytes], *, now: float
) -> tuple[Suspect, ...]:
    """Who is suspected after a death that found `in_flight`; the worst and newest, where too many.

    However often a request was in flight, it counts once.
    """
    known = {one.digest: one for one in suspects if one.expires_at > now}
    for digest in set(in_flight):
        deaths = known[digest].deaths + 1 if digest in known else 1
        known[digest] = Suspect(digest=digest, deaths=deaths, last_death=now)
    ranked = sorted(known.values(), key=lambda one: (-one.deaths, -one.last_death, one.digest))
    return tuple(ranked[:MAX_SUSPECTS])


class QuarantineRecord:
    """The file, for the supervisor, the API processes and people."""

    def __init__(self, path: Path, *, clock: Callable[[], float] = time.time) -> None:
        """Makes it where needed. `clock`: seconds since 1970. Raises OSError."""
        self.file = open_shared(path, _SIZE)
        self._map = mmap.mmap(self.file, _SIZE)
        self._clock = clock

    def close(self) -> None:
        """Lets go of it; further calls are undefined."""
        self._map.close()
        os.close(self.file)

    # -- a request, by the process that sends it

    @staticmethod
    def places_of(process: int) -> range:
        """Where the requests of an API process stand."""
        first = _IN_FLIGHT + process * _OF_A_PROCESS
        return range(first, first + _OF_A_PROCESS, DIGEST_BYTES)

    def put(self, place: int, digest: bytes) -> None:
        """The engine gets it now."""
        self._map[place : place + DIGEST_BYTES] = digest

    def take(self, place: int) -> None:
        """The engine is done with it."""
        self._map[place : place + DIGEST_BYTES] = _NOBODY

    # -- suspects

    def settle(self) -> None:
        """No engine runs, and none has ended cleanly since the last call: what was in flight is
        suspected.
        """
        found = {digest for digest in self._in_flight() if digest != _NOBODY}
        if not found:
            return
        self._write(after_death(self._all(), found, now=self._clock()))
        self.forgive()

    def forgive(self) -> None:
        """What was in flight was cut off on purpose."""
        self._map[_IN_FLIGHT:_SUSPECTS] = bytes(_SUSPECTS - _IN_FLIGHT)

    def suspects(self) -> Sequence[Suspect]:
        """Those that still count, the worst first."""
        now = self._clock()
        return [one for one in self._all() if one.expires_at > now]

    def clear(self, ids: Iterable[str] | None = None) -> int:
        """Forgets these, or all; answers how many. Running processes take notice at once."""
        wanted = None if ids is None else set(ids)
        chosen = [one for one in self.suspects() if wanted is None or one.id in wanted]
        for one in chosen:
            self.wipe(one.digest)
        return len(chosen)

    def suspect(self, place: int) -> Suspect | None:
        """Who stands there and still counts."""
        found = self._at(place)
        return found if found is not None and found.expires_at > self._clock() else None

    def places(self) -> Mapping[bytes, int]:
        """Where each suspect stands, by digest."""
        return {one.digest: place for place, one in self._standing()}

    def wipe(self, digest: bytes) -> None:
        """Forgets one suspect; not there is fine."""
        place = self.places().get(digest)
        if place is not None:
            self._map[place : place + _SUSPECT.size] = bytes(_SUSPECT.size)

    def _at(self, place: int) -> Suspect | None:
        digest, deaths, at = _SUSPECT.unpack_from(self._map, place)
        return None if digest == _NOBODY else Suspect(digest=digest, deaths=deaths, last_death=at)

    def _standing(self) -> Iterator[tuple[int, Suspect]]:
        for place in range(_SUSPECTS, _SIZE, _SUSPECT.size):
            found = self._at(place)
            if found is not None:
                yield place, found

    def _all(self) -> Sequence[Suspect]:
        return [one for _, one in self._standing()]

    def _in_flight(self) -> Iterator[bytes]:
        for place in range(_IN_FLIGHT, _SUSPECTS, DIGEST_BYTES):
            yield self._map[place : place + DIGEST_BYTES]

    def _write(self, suspects: Sequence[Suspect]) -> None:
        self._map[_SUSPECTS:_SIZE] = bytes(_SIZE - _SUSPECTS)
        for number, one in enumerate(suspects):
            place = _SUSPECTS + number * _SUSPECT.size
            _SUSPECT.pack_into(self._map, place, one.digest, one.deaths, one.last_death)
