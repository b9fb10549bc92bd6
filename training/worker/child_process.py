"""A child process that cannot outlive its parent, and whose whole group can be ended."""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Mapping, Sequence
from contextlib import suppress

from adapters.prctl import killed_with_us

_KILL_PATIENCE = 10.0
"""Seconds for the kernel to take away a killed process; more means it hangs in a device."""


class Child:
    """One running command, leader of its own process group. Used by the thread that started it:

    the kernel's parent-death signal follows the thread, not the process.
    """

    def __init__(self, process: subprocess.Popen[bytes]) -> None:
        self._process = process

    @property
    def pid(self) -> int:
        return self._process.pid

    def ended(self, *, within: float) -> int | None:
        """The exit code (negative: the signal), or None when `within` seconds were not enough."""
        try:
            return self._process.wait(within)
        except subprocess.TimeoutExpired:
            return None

    def order(self, line: bytes) -> bool:
        """Hands a waiting command its one line of input; whether it was there to take it."""
        pipe = self._process.stdin
        if pipe is None or self._process.poll() is not None:
            return False
        with suppress(BrokenPipeError), pipe:
            pipe.write(line)
            return True
        return False

    def ask_to_stop(self) -> None:
        """SIGTERM to the leader, which knows how to stop at a good point."""
        self._process.send_signal(signal.SIGTERM)

    def kill(self) -> bool:
        """SIGKILL to the whole group, also when the leader is gone; whether it could be reaped."""
        with suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        reaped = self.ended(within=_KILL_PATIENCE) is not None
        if self._process.stdin is not None:
            with suppress(BrokenPipeError):
                self._process.stdin.close()
        return reaped


def start(
    command: Sequence[str], environment: Mapping[str, str], *, ordered: bool = False
) -> Child:
    """Starts `command` in a new process group; its output goes where ours goes.

    One that is `ordered` later reads standard input; any other finds it empty.
    """
    return Child(
        subprocess.Popen(
            killed_with_us(command),
            env=dict(environment),
            stdin=subprocess.PIPE if ordered else subprocess.DEVNULL,
            process_group=0,
        )
    )


def describe_exit(code: int) -> str:
    """An exit code in words, for an event and a log line."""
    if code >= 0:
        return f"ended with exit code {code}"
    known = {number.value: number.name for number in signal.Signals}
    name = known.get(-code, f"signal {-code}")  # real-time signals have no names
    return f"was killed by {name}" + (" (out of memory?)" if name == "SIGKILL" else "")
