"""A replica as `wardrobe serve` runs it: the real supervisor and fallback server, and the real
service in front of a simulated engine.
"""

from __future__ import annotations

import os
import signal
import ssl
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import httpx2

from adapters.domain.names import Alias
from adapters.domain.principals import SYSTEM
from adapters.registry.open import open_registry
from adapters.registry.ports import Acknowledgement, ProcessId, Registration
from service.engine.vital_signs import VitalSigns
from service.launch.child_process import descendants, processes
from tests.simulation.cluster import ADMIN_KEY, Cluster, cluster
from tests.simulation.replica import LOOK_SECONDS, WAIT_SECONDS, free_port

API_PROCESS = "tests.simulation.api_process"
SERVE = f"""
import sys
from adapters.settings import Settings
from service.launch.launcher import up
tell = lambda line: print(line, flush=True)
programs = {{"service": ("-m", "{API_PROCESS}")}}
sys.exit(up(Settings(), tell, trainer=False, show_keys=False, programs=programs))
"""


class Guarded:
    """One supervised replica, and what tests do to it and ask of it."""

    def __init__(self, house: Cluster, folder: Path) -> None:
        self.house = house
        self.port = free_port()
        certificate = house.settings.tls_cert
        self._scheme = "http" if certificate is None else "https"
        self._verify = certificate is not None and ssl.create_default_context(cafile=certificate)
        self.log = folder / "guarded.log"
        with self.log.open("wb") as file:
            self.popen = subprocess.Popen(
                [sys.executable, "-c", SERVE],
                env={**os.environ, **house.environment, "WARDROBE_PORT": str(self.port)},
                stdout=file,
                stderr=subprocess.STDOUT,
            )

    @property
    def url(self) -> str:
        return f"{self._scheme}://127.0.0.1:{self.port}"

    @property
    def said(self) -> str:
        """What the supervisor and its processes printed."""
        return self.log.read_text("utf-8", "replace")

    def service(self) -> int | None:
        """The process that has the engine now."""
        for pid in descendants({self.popen.pid}):
            if API_PROCESS.encode() in _command(pid) and pid != self.popen.pid:
                return pid
        return None

    def signal_service(self, number: signal.Signals) -> None:
        pid = wait_for(self.service, what="the service runs")
        os.kill(pid, number)

    def get(self, path: str) -> httpx2.Response:
        """With the admin's key, over a connection of its own."""
        return self._ask("GET", path)

    def post(self, path: str, **body: Any) -> httpx2.Response:
        return self._ask("POST", path, json=body)

    def _ask(self, method: str, path: str, **more: Any) -> httpx2.Response:
        return httpx2.request(
            method,
            self.url + path,
            headers=self.headers,
            timeout=60,
            trust_env=False,
            verify=self._verify,
            **more,
        )

    def chat(self, model: str, words: str) -> httpx2.Response:
        messages = [{"role": "user", "content": words}]
        return self.post("/v1/chat/completions", model=model, messages=messages)

    @property
    def headers(self) -> dict[str, str]:
        return {"Authorization": f"Bearer {ADMIN_KEY}"}

    def readiness(self) -> int | None:
        """The status of its probe; None where the process that had taken the connection died."""
        try:
            return self.get("/readyz").status_code
        except (httpx2.RemoteProtocolError, httpx2.ReadError):
            return None

    def wait_ready(self, *, seconds: float = 5 * WAIT_SECONDS) -> float:
        """Seconds until it is, however often its engine dies before."""
        began = time.monotonic()
        wait_for(
            lambda: self.readiness() == 200,
            what=f"ready: {self.log}",
            seconds=seconds,
        )
        return time.monotonic() - began

    def restarts(self) -> dict[str, int]:
        """By reason, those that happened."""
        with closing(VitalSigns(self.house.settings.state_folder.vital_signs)) as signs:
            return {reason: count for reason, count in signs.restarts.items() if count}

    def stop(self) -> int:
        self.popen.send_signal(signal.SIGTERM)
        return self.popen.wait(timeout=WAIT_SECONDS)


def wait_for(condition: Callable[[], Any], *, what: str, seconds: float = WAIT_SECONDS) -> Any:
    """The first true answer. A bound on hanging, not on speed."""
    deadline = time.monotonic() + seconds
    while not (found := condition()):
        assert time.monotonic() < deadline, what
        time.sleep(LOOK_SECONDS)
    return found


def make_live(house: Cluster, name: str) -> None:
    """A version promoted by a replica that has left since, whatever an engine would say of it."""
    alias, _, number = name.partition(":")
    settings = house.settings
    before = ProcessId(replica="long-ago", incarnation="1")
    with closing(open_registry(settings.registry_url)) as registry:
        version = registry.versions.get(alias, int(number), SYSTEM)
        registry.replicas.register(
            Registration(process=before, base_fingerprint=version.base_fingerprint, limits={})
        )
        registry.rollouts.promote(
            Alias(alias), version.id, SYSTEM, unit=version.unit, expected_generation=None
        )
        registry.replicas.acknowledge("long-ago", "1", [Acknowledgement(version_id=version.id)])
        registry.rollouts.advance()
        registry.replicas.observe(before, registry.routes.revision())
        registry.replicas.leave(before)
        registry.rollouts.advance()
        assert registry.routes.route(Alias(alias), version.unit).stable == version.id


@contextmanager
def guarded(
    folder: Path, *, before: Callable[[Cluster], None] = lambda _: None, **more: Any
) -> Iterator[Guarded]:
    """A ready one, stopped cleanly afterwards with nothing left behind."""
    with cluster(folder, replicas=0, aliases=("support", "sales"), **more) as house:
        before(house)
        replica = Guarded(house, folder)
        try:
            # it listens before it says so, and from then on nobody is refused
            wait_for(lambda: "starting service" in replica.said, what="it starts")
            replica.wait_ready()
            yield replica
            family = descendants({replica.popen.pid})
            assert replica.stop() == 0, replica.said
            assert not family & processes().keys()
        finally:
            for pid in descendants({replica.popen.pid}) | {replica.popen.pid}:
                if replica.popen.poll() is None:
                    os.kill(pid, signal.SIGKILL)
            replica.popen.wait(timeout=WAIT_SECONDS)


def _command(pid: int) -> bytes:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return b""
