"""Opens the socket that the service listens on, and hands it to the processes that accept from it.

The supervisor opens it once and keeps it until its own end: all accept from this one socket, so
that whoever connects while an engine is dead waits in its queue and is refused by nobody. With
SO_REUSEPORT each process would have a queue of its own, and what waits in one dies with its
process.
"""

from __future__ import annotations

import os
import socket

from adapters.errors import Conflict, InvalidRequest

LISTENER = "WARDROBE_LISTENER"
"""Environment variable of a process that accepts: the number of the descriptor it has inherited."""
QUEUE = 2048
"""Connections that wait to be accepted, where the system allows as many (`somaxconn`)."""


def open_listener(host: str, port: int) -> socket.socket:
    """A listening socket. Raises Conflict when another program listens there, InvalidRequest for an
    unknown host or a port that is not ours to take.
    """
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    except socket.gaierror:
        raise InvalidRequest(f"{host} is no address of this machine") from None
    family, kind, protocol, _, address = found[0]
    listener = socket.socket(family, kind, protocol)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(address)
        listener.listen(QUEUE)
    except PermissionError:
        listener.close()
        raise InvalidRequest(f"port {port} needs root; choose one above 1023") from None
    except OSError as error:
        listener.close()
        raise Conflict(
            f"port {port} is in use on {host} ({error.strerror}); stop what uses it or choose "
            "another with --port (make: PORT=…)",
            code="port_in_use",
        ) from None
    return listener


def check_port(host: str, port: int) -> None:
    """Raises what `open_listener` raises, and lets go of the port again."""
    open_listener(host, port).close()


def inherited_listener() -> socket.socket | None:
    """The socket that whoever started this process has handed on; None where none was.

    Nothing that this process starts inherits it.
    """
    number = os.environ.get(LISTENER)
    if number is None:
        return None
    listener = socket.socket(fileno=int(number))
    listener.set_inheritable(False)
    return listener
