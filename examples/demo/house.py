"""The demo's house: a fresh state folder, and `wardrobe up` running in it until it is stopped."""

from __future__ import annotations

import json
import os
import shutil
import socket
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from adapters.brought_keys import BROUGHT
from adapters.errors import Conflict, WardrobeError
from adapters.settings import Settings
from adapters.state_folder import StateFolder
from examples.demo.callers import ANSWER_SECONDS
from service.cli.client import Client
from service.engine.listener import check_port
from service.launch.child_process import Process, ProcessSpec, descendants, processes, tail
from service.launch.launcher import is_ready
from service.launch.supervisor import STARTING_AGAIN

MARKER = ".made-by-wardrobe-demo"
STILL_SECONDS = 1200.0
"""Without a word in any log while the service starts: it never will. A slow machine may take its
time, so nothing else is timed."""
MAX_RESTARTS = 5
"""Starts of a service that ended by itself before it was ready once."""
READY_SECONDS = 10.0
STOP_SECONDS = 180.0


class DemoFailed(WardrobeError):
    """The demo did not show what it should."""

    code = "demo_failed"


def fresh_folder(folder: Path) -> StateFolder:
    """An empty state folder in place of an earlier demo's. Raises Conflict for anybody else's."""
    if folder.exists() and any(folder.iterdir()):
        if not (folder / MARKER).is_file():
            raise Conflict(f"{folder} is not a demo's folder; name another with --state")
        with StateFolder(folder).lock("up"):
            shutil.rmtree(folder)
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    (folder / MARKER).touch()
    return StateFolder(folder.absolute())


def choose_port(settings: Settings) -> int:
    """The configured port, or a free one where that is taken."""
    try:
        check_port(settings.host, settings.port)
    except Conflict:
        with socket.socket() as probe:
            probe.bind((settings.host, 0))
            return int(probe.getsockname()[1])
    return settings.port


def environment_for(settings: Settings) -> dict[str, str]:
    """Ours and what is set, for `wardrobe up` to find out the rest as it does for anybody.

    The demo's folder holds registry, artifacts and keys of its own, whatever its caller uses.
    """
    environment: Mapping[str, str] = {**os.environ, **settings.given_environment()}
    elsewhere = BROUGHT | {"WARDROBE_DATABASE_URL", "WARDROBE_ARTIFACTS"}
    return {name: value for name, value in environment.items() if name not in elsewhere}


@dataclass(frozen=True, kw_only=True)
class House:
    """A running `wardrobe up`."""

    folder: StateFolder
    url: str
    process: Process

    @classmethod
    def open(cls, folder: StateFolder, settings: Settings) -> House:
        """Starts it; `wait_until_ready` comes next."""
        port = choose_port(settings)
        settings = settings.model_copy(update={"state": folder.root, "port": port})
        process = Process.start(
            ProcessSpec(
                name="up",
                command=[sys.executable, "-m", "service.cli", "up"],
                environment=environment_for(settings),
                log=folder.root / "up.log",
            )
        )
        return cls(folder=folder, url=settings.url, process=process)

    def wait_until_ready(
        self, tick: Callable[[], None], *, still_seconds: float = STILL_SECONDS
    ) -> None:
        """Calls `tick` and waits while the logs grow. Raises DemoFailed with their end."""
        written, since = -1, 0.0
        # keys first: where another service took the port meanwhile, its readiness is not ours
        while not (self.folder.keys.is_file() and is_ready(self.url, timeout=READY_SECONDS)):
            tick()
            size = self._written()
            if size != written:
                written, since = size, time.monotonic()
            still = time.monotonic() - since > still_seconds
            if self.process.exit_code() is not None or still or self._restarts() > MAX_RESTARTS:
                raise DemoFailed("the service did not start:\n  " + "\n  ".join(self.last_words()))
            time.sleep(0.25)

    def _written(self) -> int:
        """Bytes of the logs: they grow while something goes on."""
        return sum(log.stat().st_size for log in self._logs() if log.exists())

    def _restarts(self) -> int:
        up_log, _ = self._logs()
        lines = tail(up_log, 100)
        return sum("service" in line and STARTING_AGAIN in line for line in lines)

    def _logs(self) -> tuple[Path, Path]:
        return self.folder.root / "up.log", self.folder.logs / "service.log"

    def check(self) -> None:
        """Raises DemoFailed with the end of the log when `wardrobe up` has ended by itself."""
        code = self.process.exit_code()
        if code is not None:
            raise DemoFailed(
                f"`wardrobe up` has ended with {code}:\n  " + "\n  ".join(self.last_words())
            )

    def last_words(self) -> list[str]:
        """The ends of the logs."""
        return [line for log in self._logs() for line in tail(log, 8)]

    def client(self, unit: str | None = None) -> Client:
        """As a unit, or as the admin."""
        keys = json.loads(self.folder.keys.read_text("utf-8"))
        key = keys["units"][unit] if unit else keys["admin"]
        return Client(self.url, key, timeout=ANSWER_SECONDS)

    def close(self) -> frozenset[int]:
        """Stops everything; the answer names processes that are still there.

        By SIGTERM: where the demo runs in a script's background, the shell has SIGINT ignored.
        Raises DemoFailed when `wardrobe up` does not end well.
        """
        everything = frozenset(descendants({self.process.pid}))
        self.process.ask_to_stop()
        ended = self.process.wait(STOP_SECONDS)
        left = everything & processes().keys()
        self.process.kill()
        if not ended or self.process.exit_code() != 0:
            raise DemoFailed(
                f"`wardrobe up` ended with {self.process.exit_code()}, not 0:\n  "
                + "\n  ".join(tail(self.folder.root / "up.log", 5))
            )
        return left
