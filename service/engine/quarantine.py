"""Keeps a request away from the engine that has killed it twice.

A request leaves its digest in the record while the engine has it. What is still there when the
engine has died is a suspect. Innocents that were in flight beside the guilty one are suspects too,
and come back with it, for clients repeat what was cut off; so suspects reach the engine one after
the other, and one that is answered is none any more. A second death therefore finds the guilty one
alone. From then on it is refused, until it expires or is cleared.

The load of a version is recorded likewise: one whose load ends each engine would be loaded again by
the next, for ever.
"""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from adapters.errors import InvalidRequest, Rejected
from service.engine.byte_locks import EXCLUSIVE, try_lock, unlock
from service.engine.quarantine_record import DIGEST_BYTES, QuarantineRecord, Suspect

TURN_SECONDS = 2.0
"""How long a suspect has the engine without another one: what kills an engine does so early, and
the next in the queue is most likely innocent.
"""
LOOK_SECONDS = 0.05
LOAD_DEATHS = 3
"""As many in a row within the load of one version: whoever calls its alias is refused then, so one
more is needed than of a request.
"""


class Flight:
    """One request that the engine answers, from before it is sent until `end`."""

    __slots__ = ("_quarantine", "digest", "place", "suspected", "turn")

    def __init__(
        self, quarantine: Quarantine, digest: bytes, place: int | None, *, suspected: bool
    ) -> None:
        self._quarantine = quarantine
        self.digest = digest
        self.place = place
        self.suspected = suspected
        self.turn: Turn | None = None

    def end(self, *, answered: bool) -> None:
        """Whatever became of it, its caller has heard. `answered`: all of it, so that a suspect
        was innocent. Where the engine has died meanwhile, it stays recorded: it may be why.
        """
        self._quarantine._end(self, answered=answered)  # noqa: SLF001 - two halves of one thing


class Turn:
    """A suspect's turn; ending it twice is fine."""

    def __init__(self, end: Callable[[], None]) -> None:
        self._end: Callable[[], None] | None = end

    def end(self) -> None:
        """Lets the next suspect go."""
        end, self._end = self._end, None
        if end is not None:
            end()


class Quarantine:
    """One API process's view. All calls come from its event loop's thread."""

    def __init__(
        self,
        path: Path,
        *,
        key: bytes,
        alive: Callable[[], bool],
        process: int = 0,
        turn_seconds: float = TURN_SECONDS,
        clock: Callable[[], float] = time.time,
    ) -> None:
        """`key`: a secret that outlives the process. `alive`: whether the engine does.

        Raises OSError.
        """
        self._alive = alive
        self._turn_seconds = turn_seconds
        self._record = QuarantineRecord(path, clock=clock)
        # a keyed hash whose key is in it already: every request pays for it
        self._keyed = hashlib.blake2b(
            key=hmac.digest(key, b"wardrobe quarantine", "sha256"), digest_size=DIGEST_BYTES
        )
        self._free = list(self._record.places_of(process))
        # who is no suspect now becomes none in this process's life: it ends with the engine
        self._suspects = dict(self._record.places())
        self._queue = asyncio.Lock()

    def suspects(self) -> Sequence[Suspect]:
        """Those of all processes, the worst first."""
        return self._record.suspects()

    def close(self) -> None:
        """Lets go of the file; further calls are undefined."""
        self._record.close()

    def begin(self, content: bytes) -> Flight:
        """Records what the engine is about to be sent; no await and no system call.

        A suspect is recorded when its turn comes (`wait_for_turn`): who only waits kills nobody.
        Raises InvalidRequest (`request_quarantined`).
        """
        digest = self._digest(content)
        suspect = self._suspect(digest) if self._suspects else None
        if suspect is not None and suspect.quarantined:
            until = time.strftime("%H:%M:%S UTC", time.gmtime(suspect.expires_at))
            raise InvalidRequest(
                f"this request has ended the engine twice, and is refused until {until}; an "
                "operator may allow it earlier (`wardrobe engine quarantine clear`)",
                code="request_quarantined",
            )
        flight = self._flight(digest, suspected=suspect is not None)
        if flight.place is not None and suspect is None:
            self._record.put(flight.place, digest)
        return flight

    @contextmanager
    def loading(self, artifact: str) -> Iterator[None]:
        """Records that the engine loads this artifact while the body runs.

        Raises Rejected for one within whose load the last engines died.
        """
        digest = self._digest(b"load " + artifact.encode())
        suspect = self._suspect(digest)
        if suspect is not None and suspect.deaths >= LOAD_DEATHS:
            raise Rejected("the engine died each time that it loaded this version")
        flight = self._flight(digest, suspected=suspect is not None)
        if flight.place is not None:
            self._record.put(flight.place, digest)
        try:
            yield
        finally:  # whatever it says of the version, an engine that lives has not died of it
            flight.end(answered=self._alive())

    async def wait_for_turn(self, flight: Flight) -> None:
        """Waits until the engine has no other suspect of any process."""
        await self._queue.acquire()
        try:
            while not try_lock(self._record.file, EXCLUSIVE, 0):  # noqa: ASYNC110
                await asyncio.sleep(LOOK_SECONDS)
        except BaseException:
            self._queue.release()
            raise
        if flight.place is not None:
            self._record.put(flight.place, flight.digest)
        flight.turn = Turn(self._end_turn)
        asyncio.get_running_loop().call_later(self._turn_seconds, flight.turn.end)

    def _digest(self, content: bytes) -> bytes:
        keyed = self._keyed.copy()
        keyed.update(content)
        return keyed.digest()

    def _flight(self, digest: bytes, *, suspected: bool) -> Flight:
        place = self._free.pop() if self._free else None
        return Flight(self, digest, place, suspected=suspected)

    def _end_turn(self) -> None:
        unlock(self._record.file, 0)
        self._queue.release()

    def _suspect(self, digest: bytes) -> Suspect | None:
        place = self._suspects.get(digest)
        found = None if place is None else self._record.suspect(place)
        if found is not None and found.digest == digest:
            return found
        self._suspects.pop(digest, None)  # expired, or cleared here or by another process
        return None

    def _end(self, flight: Flight, *, answered: bool) -> None:
        if flight.place is not None and (answered or self._alive()):
            self._record.take(flight.place)
            self._free.append(flight.place)
        if flight.turn is not None:
            flight.turn.end()
        if flight.suspected and answered:
            self._suspects.pop(flight.digest, None)
            self._record.wipe(flight.digest)
