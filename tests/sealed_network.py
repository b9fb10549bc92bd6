"""Runs a command where there is no network but loopback, and counts what tries to leave.

    python -m tests.sealed_network COMMAND WORD …    within a network namespace of its own

The kernel counts for each namespace what it found no route for, whoever sent it and in whichever
language: connections, datagrams, questions to name servers.
"""

from __future__ import annotations

import fcntl
import os
import socket
import struct
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

_NAMESPACE = ("unshare", "--map-root-user", "--net", "--")
_SET_FLAGS = 0x8914
_UP_AND_RUNNING = 0x1 | 0x40
_LEFT = {"IpOutNoRoutes", "Ip6OutNoRoutes", "UdpNoPorts", "Udp6NoPorts"}
"""A name server on loopback is gone too: its port is nobody's."""


def sealed(command: Sequence[str]) -> list[str]:
    """The command line that runs `command` so, under the process id that it is started with."""
    return [*_NAMESPACE, sys.executable, "-m", "tests.sealed_network", *command]


def why_not() -> str | None:
    """Why this machine gives no namespace of its own; None where it does."""
    try:
        tried = subprocess.run([*_NAMESPACE, "true"], capture_output=True, text=True, timeout=60)
    except FileNotFoundError:
        return "unshare (util-linux) is not installed"
    return tried.stderr.strip() or None if tried.returncode else None


def tried_to_leave(pid: int) -> int:
    """What the processes that share the namespace of `pid` have sent without a way to go."""
    return sum(count for name, count in _counts(Path(f"/proc/{pid}/net")) if name in _LEFT)


def _counts(net: Path) -> Iterator[tuple[str, int]]:
    lines = (net / "snmp").read_text().splitlines()
    for names, values in zip(lines[::2], lines[1::2], strict=True):
        protocol = names.partition(":")[0]
        for name, value in zip(names.split()[1:], values.split()[1:], strict=True):
            yield f"{protocol}{name}", int(value)
    ipv6 = net / "snmp6"
    for line in ipv6.read_text().splitlines() if ipv6.exists() else ():
        name, value = line.split()
        yield name, int(value)


def raise_loopback() -> None:
    """A new namespace has a loopback that is down."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as any_socket:
        request = struct.pack("16sh22x", b"lo", _UP_AND_RUNNING)
        fcntl.ioctl(any_socket, _SET_FLAGS, request)


if __name__ == "__main__":
    raise_loopback()
    os.execvp(sys.argv[1], sys.argv[1:])
