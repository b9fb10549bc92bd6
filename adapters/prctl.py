"""What a process asks of Linux about its parent and its orphans; elsewhere nothing is asked.

As a script (`prctl.py PARENT COMMAND…`) it becomes COMMAND, which the kernel kills when PARENT
dies. It imports nothing of ours, so that it starts with `python -I -S`.
"""

from __future__ import annotations

import ctypes
import os
import signal
import sys
from collections.abc import Sequence

_SET_PDEATHSIG = 1
_SET_CHILD_SUBREAPER = 36

# loaded here and not after a fork, where it could meet a lock that nobody holds any more
_LIBC = ctypes.CDLL(None, use_errno=True) if sys.platform == "linux" else None


def end_with_parent(parent: int, how: signal.Signals) -> bool:
    """Asks for the signal `how` when the parent dies; False where it has died already.

    The kernel means the parent's thread that started us, not its process.
    """
    if _LIBC is None:
        return True
    _LIBC.prctl(_SET_PDEATHSIG, how, 0, 0, 0)
    return os.getppid() == parent


def adopt_orphans() -> None:
    """Makes what our children leave behind ours instead of init's."""
    if _LIBC is not None:
        _LIBC.prctl(_SET_CHILD_SUBREAPER, 1, 0, 0, 0)


def killed_with_us(command: Sequence[str]) -> list[str]:
    """The words that start `command` so that it dies with the thread that starts it.

    A `preexec_fn` would do it too, but is not safe in a process with threads.
    """
    return [sys.executable, "-I", "-S", __file__, str(os.getpid()), *command]


def _main(arguments: Sequence[str]) -> None:
    parent, command = int(arguments[0]), list(arguments[1:])
    if not end_with_parent(parent, signal.SIGKILL):
        sys.exit(1)
    os.execvp(command[0], command)  # noqa: S606


if __name__ == "__main__":
    _main(sys.argv[1:])
