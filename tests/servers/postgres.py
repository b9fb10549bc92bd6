"""A PostgreSQL server of a test session's own: real, on loopback, never root, gone afterwards."""

from __future__ import annotations

import os
import pwd
import secrets
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psycopg
import pytest

START_SECONDS = 30.0
_FASTER = ("fsync=off", "synchronous_commit=off", "full_page_writes=off", "max_connections=200")
"""Processes are killed here, machines are not."""


def binaries() -> Path | None:
    """Where initdb and postgres are; Debian keeps them out of PATH."""
    found = shutil.which("initdb")
    known = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"), reverse=True)
    executable = Path(found) if found else next(iter(known), None)
    return executable.resolve().parent if executable else None


def account() -> dict[str, Any]:
    """The user to run as: PostgreSQL refuses root. Empty where we are not root."""
    if os.geteuid() != 0:
        return {}
    for name in ("postgres", "nobody"):
        try:
            entry = pwd.getpwnam(name)
        except KeyError:
            continue
        return {"user": entry.pw_uid, "group": entry.pw_gid, "extra_groups": []}
    pytest.skip("there is no unprivileged account to run PostgreSQL as")


class PostgresServer:
    """One server with its data in a temporary folder; keeps its port and data over restarts."""

    def __init__(self, bindir: Path, *, settings: tuple[str, ...] = ()) -> None:
        self._bindir = bindir
        self._settings = (*_FASTER, *settings)
        self._who = account()
        # a unix socket's path holds 107 bytes
        self._folder = Path(tempfile.mkdtemp(prefix="pg-", dir="/tmp"))
        if self._who:
            os.chown(self._folder, self._who["user"], self._who["group"])
        self._port = _free_port()
        self._process: subprocess.Popen[bytes] | None = None
        self._run("initdb", "-D", self._data, "-U", "wardrobe", "-A", "trust", "-E", "UTF8",
                  "--no-locale", "--no-sync")  # fmt: skip

    @property
    def url(self) -> str:
        """The SQLAlchemy URL of the server's own database; tests take `new_database()`."""
        return self._url("postgres")

    def new_database(self, *, template: str | None = None) -> str:
        """The URL of a fresh database, made like the one whose URL is `template` if given."""
        name = f"t_{secrets.token_hex(6)}"
        like = f' TEMPLATE "{template.rsplit("/", 1)[1]}"' if template else ""
        with self._admin() as connection:
            connection.execute(f'CREATE DATABASE "{name}"{like}')
        return self._url(name)

    def drop_database(self, url: str) -> None:
        """Deletes a database that `new_database` made, whoever is connected to it."""
        name = url.rsplit("/", 1)[1]
        with self._admin() as connection:
            connection.execute(f'DROP DATABASE IF EXISTS "{name}" WITH (FORCE)')

    def start(self) -> None:
        """Starts the server and waits until it answers."""
        options = [word for setting in self._settings for word in ("-c", setting)]
        with (self._folder / "log").open("ab") as log:
            self._process = subprocess.Popen(
                [self._bindir / "postgres", "-D", self._data, "-p", str(self._port),
                 "-c", "listen_addresses=127.0.0.1", "-k", self._folder, *options],
                stdout=log, stderr=log, cwd=self._folder, env=_ENVIRONMENT, **self._who,
            )  # fmt: skip
        end = time.monotonic() + START_SECONDS
        while not self._answers():
            if self._process.poll() is not None or time.monotonic() > end:
                raise RuntimeError((self._folder / "log").read_text())
            time.sleep(0.05)

    def stop(self) -> None:
        """Ends the server as an administrator would: connections are cut, data is written."""
        self._end(signal.SIGINT)

    def kill(self) -> None:
        """Ends the server's processes at once, as a crash would."""
        # SIGQUIT: no shutdown checkpoint, so the next start recovers from the log; a SIGKILL of
        # the parent alone would leave children that hold the shared memory
        self._end(signal.SIGQUIT)

    def restart(self) -> None:
        """Stops and starts."""
        self.stop()
        self.start()

    def remove(self) -> None:
        """Stops the server and deletes its data."""
        self.stop()
        shutil.rmtree(self._folder, ignore_errors=True)

    @property
    def _data(self) -> Path:
        return self._folder / "data"

    def _url(self, database: str) -> str:
        return f"postgresql://wardrobe@127.0.0.1:{self._port}/{database}"

    @contextmanager
    def _admin(self) -> Iterator[psycopg.Connection[Any]]:
        with psycopg.connect(self.url, autocommit=True, connect_timeout=5) as connection:
            yield connection

    def _answers(self) -> bool:
        try:
            with self._admin():
                return True
        except psycopg.OperationalError:
            return False

    def _end(self, number: signal.Signals) -> None:
        if self._process is None:
            return
        self._process.send_signal(number)
        try:
            self._process.wait(20)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._process = None

    def _run(self, program: str, *arguments: object) -> None:
        subprocess.run(
            [self._bindir / program, *map(str, arguments)],
            check=True, capture_output=True, cwd=self._folder, env=_ENVIRONMENT, **self._who,
        )  # fmt: skip


_ENVIRONMENT = {"PATH": "/usr/bin:/bin", "LC_ALL": "C", "TZ": "UTC"}


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextmanager
def running_postgres(*, settings: tuple[str, ...] = ()) -> Iterator[PostgresServer]:
    """A started server; skips, and says why, where PostgreSQL is not installed."""
    bindir = binaries()
    if bindir is None:
        pytest.skip("PostgreSQL's server is not installed (apt-get install postgresql)")
    server = PostgresServer(bindir, settings=settings)
    try:
        server.start()
        yield server
    finally:
        server.remove()


@pytest.fixture(scope="session")
def postgres() -> Iterator[PostgresServer]:
    """The session's server, for tests that leave it running."""
    with running_postgres() as server:
        yield server
