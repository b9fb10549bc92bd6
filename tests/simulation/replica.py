"""A replica as operating system processes, which tests kill, stop and start again.

They are forked from a process that has imported everything, so that a start costs what the service
does and not what Python does. With one API process the simulated engine is within it. With several,
the engine has a process of its own and they share one listening socket, as with vLLM's
`--api-server-count`; as with vLLM, the end of one of them is the end of the replica.
"""

from __future__ import annotations

import http.client
import json
import multiprocessing
import os
import secrets
import shutil
import signal
import socket
import tempfile
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from multiprocessing.context import ForkServerProcess
from pathlib import Path

from service.engine.shared_residency import INCARNATION
from tests.simulation import api_process, remote

WAIT_SECONDS = 120.0
"""A bound on hanging, not on speed."""
LOOK_SECONDS = 0.02


class ReplicaFailed(Exception):
    """A replica did not do what it was told."""


def free_port() -> int:
    """A port nobody listens on at the moment."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@dataclass(kw_only=True)
class Replica:
    """One replica; `environment` holds its `WARDROBE_*` and `SIMULATED_*`."""

    name: str
    environment: Mapping[str, str]
    logs: Path
    api_processes: int = 1
    port: int = field(default_factory=free_port)
    processes: list[ForkServerProcess] = field(default_factory=list)
    starts: int = 0
    _folder: Path | None = None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def running(self) -> bool:
        """All of its processes are there."""
        return bool(self.processes) and all(p.is_alive() for p in self.processes)

    @property
    def pid(self) -> int:
        """Of its last API process. Raises ReplicaFailed when it does not run."""
        if not self.processes or (pid := self.processes[-1].pid) is None:
            raise ReplicaFailed(f"{self.name} does not run")
        return pid

    @property
    def log(self) -> Path:
        """What all of its processes wrote, all starts together."""
        return self.logs / f"{self.name}.log"

    def start(self) -> None:
        """Starts it; `wait_ready` waits for it."""
        self.stop()  # where one of several processes has ended, the others are still there
        self.starts += 1
        life = {INCARNATION: secrets.token_hex(8)}
        if self.api_processes == 1:
            self.processes = [self._spawn(api_process.main, life)]
            return
        # a Unix socket's path holds 107 bytes, which a test's own folder may exceed
        self._folder = Path(tempfile.mkdtemp(prefix="simulated-"))
        engine = {
            **life,
            "SIMULATED_SOCKET": str(self._folder / "engine"),
            "SIMULATED_PROCESSES": str(self.api_processes),
        }
        with socket.create_server(("127.0.0.1", self.port)) as listening:
            self.processes = [self._spawn(remote.main, engine)] + [
                self._spawn(
                    api_process.main,
                    {**engine, "SIMULATED_PROCESS": str(number)},
                    listening=listening,
                )
                for number in range(self.api_processes)
            ]

    def wait_ready(self, seconds: float = WAIT_SECONDS) -> float:
        """Waits until all API processes are ready and says how long it took.

        Raises ReplicaFailed.
        """
        began = time.monotonic()
        ready: set[int] = set()
        while len(ready) < self.api_processes:
            ready |= self._ready()
            if not self.running:
                raise ReplicaFailed(f"{self.name} ended instead of becoming ready: {self.tail()}")
            if time.monotonic() - began > seconds:
                raise ReplicaFailed(f"{self.name} is not ready after {seconds:g} s: {self.tail()}")
            time.sleep(0 if ready else LOOK_SECONDS)
        return time.monotonic() - began

    def kill(self) -> None:
        """SIGKILL to all of it at once."""
        self._signal(signal.SIGKILL)
        self._reap()

    def terminate(self) -> None:
        """SIGTERM, and a wait for its clean exit."""
        self._signal(signal.SIGTERM)
        if self.api_processes > 1:  # the engine does not drain: it goes when nobody needs it
            for process in self.processes[1:]:
                process.join(WAIT_SECONDS)
        self._reap()

    def pause(self) -> None:
        """Stops its clock: it answers nothing and reports nothing, and does not know."""
        self._signal(signal.SIGSTOP)

    def resume(self) -> None:
        """Goes on after `pause`."""
        self._signal(signal.SIGCONT)

    def kill_one(self, index: int) -> None:
        """SIGKILL to one process: 0 is the engine's, where it has its own."""
        self.processes[index].kill()
        self.processes[index].join(WAIT_SECONDS)

    def stop(self) -> None:
        """Whatever state it is in, it is gone afterwards."""
        if self.processes:
            self.resume()
            self.kill()

    def tail(self) -> str:
        """The end of its log."""
        return self.log.read_text("utf-8", "replace")[-2000:] if self.log.exists() else ""

    def _ready(self) -> set[int]:
        """The number of the API process that answers this time, if it is ready."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=5)
        try:
            connection.request("GET", "/readyz")
            answer = connection.getresponse()
            return {json.loads(answer.read())["process"]} if answer.status == 200 else set()
        except (OSError, http.client.HTTPException):
            return set()
        finally:
            connection.close()

    def _spawn(
        self,
        main: Callable[[], None],
        more: Mapping[str, str],
        *,
        listening: socket.socket | None = None,
    ) -> ForkServerProcess:
        environment = {**self.environment, "WARDROBE_PORT": str(self.port), **more}
        context = multiprocessing.get_context("forkserver")
        context.set_forkserver_preload(["pytest", api_process.__name__, remote.__name__])
        process = context.Process(
            target=_become, args=(main, environment, self.log, listening), daemon=True
        )
        process.start()
        return process

    def _signal(self, number: signal.Signals) -> None:
        for process in self.processes:
            if process.is_alive() and process.pid is not None:
                os.kill(process.pid, number)

    def _reap(self) -> None:
        if self.api_processes > 1:
            self.processes[0].kill()
        for process in self.processes:
            process.join(WAIT_SECONDS)
        self.processes = []
        if self._folder is not None:
            shutil.rmtree(self._folder, ignore_errors=True)
            self._folder = None


def _become(
    main: Callable[[], None],
    environment: Mapping[str, str],
    log: Path,
    listening: socket.socket | None,
) -> None:
    """In the new process: takes up its environment, its log and its group, and runs."""
    os.setsid()
    with log.open("ab") as file:
        os.dup2(file.fileno(), 1)
        os.dup2(file.fileno(), 2)
    os.environ.update(environment)
    if listening is not None:
        os.environ["SIMULATED_LISTEN_FD"] = str(listening.detach())
    main()
