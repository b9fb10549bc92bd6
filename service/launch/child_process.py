"""Runs one supervised process, and ends it with everything that it has started.

A child leads a session of its own, so Ctrl-C in the terminal reaches only the supervisor, and a
signal to the leader is its own business to pass on (vLLM's engine core must outlive the first
SIGTERM, or no running answer could finish). What the child leaves when it dies is found by its
session, or because it was handed to us as its subreaper, and killed before a next start.
"""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from adapters.prctl import end_with_parent
from adapters.waiting import wait_until

KEPT_LOGS = 5
CLEANING_SECONDS = 2.0
KILL_SECONDS = 10.0
"""For the kernel to take away what was killed."""
_LOOK_SECONDS = 0.02


class Guard(Protocol):
    """Watches one supervised process from outside; asked and told by the supervisor alone."""

    def starting(self) -> None:
        """A process is about to be started; none of the one before is left."""
        ...

    def hangs(self) -> bool:
        """Whether it has to be ended, because it does nothing any more. Asked all the time."""
        ...

    def recovered(self) -> bool:
        """Whether it has worked as it should for so long that its end counts as its first."""
        ...

    def ended(self, code: int, *, hung: bool, delay: float) -> None:
        """It has ended, and is started again in `delay` seconds."""
        ...

    def stopping(self) -> None:
        """The supervisor is told to end, and asks the process to."""
        ...

    def stopped(self) -> None:
        """It is gone, on purpose."""
        ...


@dataclass(frozen=True, kw_only=True)
class ProcessSpec:
    """What to run, and where its output goes; `log=None` passes it through."""

    name: str
    command: Sequence[str]
    environment: Mapping[str, str]
    log: Path | None
    patience: float = 10.0
    """Seconds between SIGTERM and SIGKILL."""
    quotable: Path | None = None
    """While this file is there, its log may be quoted; None is always."""
    inherits: Sequence[int] = ()
    """Descriptors of ours that it keeps, under their numbers."""
    guard: Guard | None = None
    """Who watches it from outside; None: only its end is noticed."""

    @property
    def may_be_quoted(self) -> bool:
        return self.quotable is None or self.quotable.exists()


class Process:
    """A started process. Must be started from a thread that lives as long as we do (the main one):
    the kernel's parent-death signal is bound to the starting thread.
    """

    def __init__(self, spec: ProcessSpec, popen: subprocess.Popen[bytes]) -> None:
        self.spec = spec
        self.started_at = time.monotonic()
        self._popen = popen

    @classmethod
    def start(cls, spec: ProcessSpec) -> Process:
        """Raises OSError when the program cannot be run or its log not be written."""
        output = spec.log.open("ab") if spec.log else None
        try:
            popen = subprocess.Popen(
                list(spec.command),
                env=dict(spec.environment),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT if output else None,
                start_new_session=True,
                pass_fds=tuple(spec.inherits),
                preexec_fn=_die_with(os.getpid()),  # noqa: PLW1509 - no threads in the supervisor
            )
        finally:
            if output:
                output.close()
        return cls(spec, popen)

    @property
    def pid(self) -> int:
        return self._popen.pid

    def exit_code(self) -> int | None:
        """None while it runs; minus the signal's number where one ended it."""
        return self._popen.poll()

    def ask_to_stop(self) -> None:
        """SIGTERM to the leader alone; already gone is fine."""
        if self.exit_code() is None:
            self._popen.terminate()

    def wait(self, seconds: float) -> bool:
        """Whether it has ended within so long."""
        try:
            self._popen.wait(timeout=max(0.0, seconds))
        except subprocess.TimeoutExpired:
            return False
        return True

    def kill(self) -> None:
        """SIGKILL to the leader and all it started; returns when they are gone."""
        doomed = {self.pid}
        began = time.monotonic()

        def gone() -> bool:
            # gathered before each blow: the children of a dead process are ours, not its own
            doomed.update(descendants(doomed))
            if self.exit_code() is None:
                self._popen.kill()
            _end_all(doomed - {self.pid}, since=began)
            return self.exit_code() is not None and not doomed & processes().keys()

        wait_until(gone, seconds=KILL_SECONDS, every=_LOOK_SECONDS)


def end(pid: int) -> None:
    """SIGKILL, and reaped where it is our child; already gone is fine."""
    with suppress(ProcessLookupError, PermissionError):
        os.kill(pid, signal.SIGKILL)
    with suppress(ChildProcessError):
        os.waitpid(pid, os.WNOHANG)


def _end_all(pids: Iterable[int], *, since: float) -> None:
    """`end` for each; those that clean up after the others get `CLEANING_SECONDS` for it."""
    cleaning = time.monotonic() < since + CLEANING_SECONDS
    for pid in pids:
        if not (cleaning and _cleans_up(pid)):
            end(pid)


def _cleans_up(pid: int) -> bool:
    """Whether it is Python's resource tracker: it ends by itself when all that it serves are dead.

    Until then it holds the names of their shared memory and semaphores, which nobody else removes.
    """
    try:
        return b"multiprocessing.resource_tracker" in Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return False


def end_orphans(known: frozenset[int]) -> None:
    """Kills children of ours that we did not start, what a dead child left; returns when gone."""
    began = time.monotonic()

    def gone() -> bool:
        found = _orphans(known)
        _end_all(found, since=began)
        return not found

    wait_until(gone, seconds=KILL_SECONDS, every=_LOOK_SECONDS)


def reap_orphans(known: frozenset[int]) -> None:
    """Notices the end of such children, and leaves alone those that still work."""
    for pid, seen in _orphans(known).items():
        if seen.ended:
            end(pid)


def _orphans(known: frozenset[int]) -> dict[int, Seen]:
    return {
        pid: seen
        for pid, seen in processes().items()
        if seen.parent == os.getpid() and pid not in known
    }


@dataclass(frozen=True)
class Seen:
    """A process as /proc shows it."""

    parent: int
    session: int
    ended: bool
    """A zombie: only its parent has yet to notice."""


def processes() -> dict[int, Seen]:
    """Every process of this machine that can be seen; empty where there is no /proc."""
    seen: dict[int, Seen] = {}
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            # pid (name) state ppid pgrp session …; the name may hold spaces and brackets
            fields = path.read_text().rpartition(")")[2].split()
        except OSError:
            continue
        seen[int(path.parent.name)] = Seen(
            parent=int(fields[1]), session=int(fields[3]), ended=fields[0] == "Z"
        )
    return seen


def descendants(leaders: set[int]) -> set[int]:
    """Members of the sessions these lead, and what all of them started."""
    seen = processes()
    found = {pid for pid, one in seen.items() if one.session in leaders or pid in leaders}
    while more := {pid for pid, one in seen.items() if one.parent in found} - found:
        found |= more
    return found


def rotate(log: Path) -> None:
    """`service.log` → `service.log.1` → … and the oldest goes; nothing where there is none."""
    if not log.exists() or log.stat().st_size == 0:
        return
    for number in range(KEPT_LOGS - 1, 0, -1):
        older = log.with_name(f"{log.name}.{number}")
        if older.exists():
            older.replace(log.with_name(f"{log.name}.{number + 1}"))
    log.replace(log.with_name(f"{log.name}.1"))


def tail(log: Path, lines: int) -> list[str]:
    """The last lines of a log; none where it cannot be read."""
    try:
        with log.open("rb") as file:
            file.seek(max(0, log.stat().st_size - 32_768))
            return file.read().decode("utf-8", "replace").splitlines()[-lines:]
    except OSError:
        return []


def _die_with(parent: int) -> Callable[[], None]:
    """Runs in the child before exec: SIGTERM when the parent dies, at once if it already has."""

    def prepare() -> None:
        if not end_with_parent(parent, signal.SIGTERM):
            os._exit(1)

    return prepare
