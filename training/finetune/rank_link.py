"""The line between the run's own process and one that computes for it.

A process that computes says every second that it lives, from a thread of its own, so that silence
is a process that is stopped or gone and never one whose work is slow.
"""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import suppress

from adapters.prctl import killed_with_us

COMMAND = (sys.executable, "-m", "training.finetune.rank_process")
BEAT = 1.0
"""Seconds between two signs of life."""
SILENCE = 300.0
"""Seconds without any: an import from a slow disk may hold all threads of a process for a while."""
_ALIVE = b"{}\n"
LEAVING = 10.0
"""Seconds that a process has to end once its line is closed."""


class RankLost(RuntimeError):
    """A process that computes for the run has died, hangs, or failed; the run's own ends by it."""


class RankLink:
    """One process that computes. It dies with the thread that starts it."""

    def __init__(
        self, rank: int, *, command: Sequence[str] = COMMAND, silence: float = SILENCE
    ) -> None:
        """Ranks count from 1; 0 is the run's own process. The process is of its group."""
        self._rank = rank
        self._socket, theirs = socket.socketpair()
        self._socket.settimeout(silence)
        self._lines = self._socket.makefile("rb")
        with theirs:
            self._process: subprocess.Popen[bytes] = subprocess.Popen(
                killed_with_us(command), stdin=theirs.fileno()
            )

    @property
    def pid(self) -> int:
        return self._process.pid

    def send(self, line: bytes) -> None:
        """Raises RankLost."""
        try:
            self._socket.sendall(line)
        except OSError as error:
            raise self._lost("takes no orders") from error

    def answer(self) -> list[float] | None:
        """The next answer; None: memory ran out. Raises RankLost."""
        while True:
            try:
                line = self._lines.readline()
            except TimeoutError as error:
                raise self._lost("hangs: it gives no sign of life") from error
            except OSError:
                line = b""
            if not line.endswith(b"\n"):  # the end, or a line that a death cut off
                raise self._lost("left")
            told = json.loads(line)
            if "failed" in told:
                raise self._lost(f"failed with {told['failed']}")
            if "numbers" in told:
                numbers: list[float] | None = told["numbers"]
                return numbers

    def check(self) -> None:
        """Raises RankLost where the process has ended."""
        if self._process.poll() is not None:
            raise self._lost("left")

    def hang_up(self) -> None:
        """Tells the process to end, by closing its line."""
        self._lines.close()
        self._socket.close()

    def end(self) -> None:
        """Sees to it that the process is gone."""
        self.hang_up()
        try:
            self._process.wait(LEAVING)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()

    def _lost(self, why: str) -> RankLost:
        ended = ""
        try:  # one whose line is closed is about to end
            ended = f" (exit code {self._process.wait(BEAT)})"
        except subprocess.TimeoutExpired:
            self._process.kill()
        return RankLost(f"process {self._rank} that trains with this one {why}{ended}")


class OwnLink:
    """The other end, in the process that computes; its standard input."""

    def __init__(self) -> None:
        self._socket = socket.socket(fileno=os.dup(0))
        self._turn = threading.Lock()

    def __iter__(self) -> Iterator[bytes]:
        """The orders, until the line is closed."""
        with self._socket.makefile("rb") as lines:
            yield from lines

    def keep_telling(self, *, every: float = BEAT) -> None:
        """Says from now on that this process lives, once in `every` seconds."""
        threading.Thread(
            target=self._tell_for_ever, args=(every,), name="signs-of-life", daemon=True
        ).start()

    def answer(self, numbers: Sequence[float] | None) -> None:
        self._say(_line({"numbers": numbers}))

    def failed(self, error: BaseException) -> None:
        """Names the error; what it says stays in this process's log."""
        with suppress(OSError):
            self._say(_line({"failed": type(error).__name__}))

    def _tell_for_ever(self, every: float) -> None:
        pause = threading.Event()
        with suppress(OSError):  # nobody listens any more
            while not pause.wait(every):
                self._say(_ALIVE)  # a line that takes no memory, which may have run out

    def _say(self, line: bytes) -> None:
        with self._turn:
            self._socket.sendall(line)


def _line(told: object) -> bytes:
    return json.dumps(told).encode() + b"\n"
