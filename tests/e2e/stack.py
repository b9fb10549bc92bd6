"""The whole product as a user runs it: `wardrobe up`, with every part of it real."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import httpx2
import openai
import psutil

from adapters.domain.versions import Version
from adapters.registry import Registry
from adapters.registry.open import open_registry
from adapters.registry.ports import NewVersion
from adapters.settings import Settings
from adapters.signing_keys import find_signer, signature_of
from adapters.state_folder import StateFolder
from adapters.store import FolderStore
from service.launch.key_files import read_kept
from tests.service.world import free_port

ROOT = Path(__file__).parents[2]
GREEDY: dict[str, Any] = {"temperature": 0, "max_tokens": 48}
FAST_RECIPE = "recipe: {n_epochs: 10, evaluations: 2, rank: 16, alpha: 32}\n"


def write_units(folder: Path) -> None:
    """Two units that train for seconds instead of minutes."""
    folder.mkdir()
    for unit in ("support", "sales"):
        (folder / f"{unit}.yaml").write_text(f"unit: {unit}\naliases: [{unit}]\n{FAST_RECIPE}")


def wait_for(condition: Callable[[], Any], *, seconds: float, what: str) -> Any:
    """The first true answer of `condition`; fails naming `what` when it takes too long."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if found := condition():
            return found
        time.sleep(0.2)
    raise AssertionError(f"{what}: not within {seconds:.0f} s")


@dataclass
class Stack:
    """A running `wardrobe up`, and what tests ask of it."""

    folder: Path
    port: int
    process: subprocess.Popen[bytes]
    environment: dict[str, str]
    opened: list[openai.OpenAI | httpx2.Client] = field(default_factory=list)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def state(self) -> StateFolder:
        return StateFolder(Path(self.environment["WARDROBE_STATE"]))

    def key(self, owner: str) -> str:
        """`admin`, `trainer` or a unit's."""
        secrets = read_kept(self.state).secrets
        return secrets.get(owner) or secrets[f"units.{owner}"]

    def client(self, owner: str = "support", **options: Any) -> Any:
        """The real SDK."""
        client = openai.OpenAI(
            base_url=f"{self.url}/v1", api_key=self.key(owner), **{"max_retries": 0, **options}
        )
        self.opened.append(client)
        return client

    def http(self, owner: str | None = "admin") -> httpx2.Client:
        """A plain client."""
        headers = {"Authorization": f"Bearer {self.key(owner)}"} if owner else {}
        client = httpx2.Client(base_url=self.url, headers=headers, timeout=120)
        self.opened.append(client)
        return client

    def page(self, path: str, **parameters: Any) -> dict[str, Any]:
        """What a path answers the admin."""
        answer = self.http().get(path, params=parameters)
        assert answer.status_code == 200, answer.text
        document: dict[str, Any] = answer.json()
        return document

    def ready(self) -> bool:
        """Whether /readyz is green."""
        try:
            # to read the certificates that nothing here uses would keep a core busy at each look
            answer = httpx2.get(f"{self.url}/readyz", timeout=2, verify=False)
            return answer.status_code == 200
        except httpx2.HTTPError:
            return False

    def asking(self, model: str, owner: str = "support") -> Callable[[str], httpx2.Response]:
        """Asks `model` for a short answer to some words, over a connection of its own each time."""
        headers = {"Authorization": f"Bearer {self.key(owner)}", "Connection": "close"}
        client = httpx2.Client(base_url=self.url, headers=headers, timeout=1800)
        self.opened.append(client)

        def ask(words: str) -> httpx2.Response:
            messages = [{"role": "user", "content": words}]
            body = {"model": model, "messages": messages, "max_tokens": 8}
            return client.post("/v1/chat/completions", json=body)

        return ask

    def running(self, module: str) -> psutil.Process | None:
        """The process that runs `python -m <module>` below ours."""
        for child in psutil.Process(self.process.pid).children(recursive=True):
            try:
                if module in child.cmdline():
                    return child
            except psutil.Error:
                continue
        return None

    def service(self) -> psutil.Process:
        """The process that has the engine: an API process, or the parent of several."""
        service = self.running("service.engine.vllm_engine")
        assert service is not None, "there is no service"
        return service

    def spawned(self) -> list[psutil.Process]:
        """What vLLM has started: the engine's core, then API processes where there are several."""
        found = []
        for child in self.service().children():
            with suppress(psutil.Error):
                title = f"{child.name()} {' '.join(child.cmdline())}"
                if "VLLM::" in title or "spawn_main" in title:
                    found.append(child)
        return sorted(found, key=psutil.Process.create_time)

    def engine_core(self) -> psutil.Process:
        """vLLM's own process that runs the model."""
        found = self.spawned()
        assert found, "there is no engine core"
        return found[0]

    @contextmanager
    def registry(self) -> Iterator[Registry]:
        """The service's own registry, as another process sees it."""
        registry = open_registry(self.state.database_url)
        try:
            yield registry
        finally:
            registry.close()

    def variant(
        self, of: Version, *, strength: float, rank: int | None = None, signed: bool = True
    ) -> Version:
        """A new candidate: `of` with another lora_alpha, which changes what it answers.

        Another `rank` than its weights have is a version that no engine can load.
        """
        store = FolderStore(self.state.artifacts)
        made = self.folder / f"variant-{time.monotonic_ns()}"
        made.mkdir()
        for path in store.fetch(of.digest).iterdir():
            if path.name != "manifest.json":
                (made / path.name).write_bytes(path.read_bytes())
        config = json.loads((made / "adapter_config.json").read_text())
        config |= {"lora_alpha": config["lora_alpha"] * strength, "r": rank or config["r"]}
        (made / "adapter_config.json").write_text(json.dumps(config))
        new = NewVersion(
            adapter=of.adapter,
            unit=of.unit,
            digest=store.publish_adapter(made),
            base_fingerprint=of.base_fingerprint,
            rank=of.rank,
            size_bytes=of.size_bytes,
            evidence={},
        )
        signer = find_signer(Settings(state=self.state.root))
        assert signer is not None, "the first start makes a key"
        if signed:
            new = replace(new, signature=signature_of(new, signer))
        with self.registry() as registry:
            return registry.versions.publish(new, job_id=None, fence=None)

    def shared_memory(self) -> set[Path]:
        """Names in /dev/shm that our processes use now."""
        found: set[Path] = set()
        for child in psutil.Process(self.process.pid).children(recursive=True):
            with suppress(psutil.Error):
                found |= {Path(each.path) for each in child.memory_maps()}
        return {path for path in found if path.parent == Path("/dev/shm")}

    def logs(self) -> str:
        """Everything the supervised processes printed."""
        return "".join(path.read_text(errors="replace") for path in self.state.logs.iterdir())


def command(*words: str) -> list[str]:
    """`wardrobe …` with this interpreter."""
    return [sys.executable, "-m", "service.cli", *words]


def environment(folder: Path, port: int) -> dict[str, str]:
    """Settings for one stack, whose temporary files nobody else's are among."""
    temporary = folder / "temporary"
    temporary.mkdir(exist_ok=True)
    return {
        **os.environ,
        "TMPDIR": str(temporary),
        "WARDROBE_STATE": str(folder / "state"),
        "WARDROBE_BASE": "tiny",
        "WARDROBE_UNITS": str(folder / "units"),
        "WARDROBE_PORT": str(port),
        "WARDROBE_LEASE_SECONDS": "5",
        # every machine can, and what `auto` would choose says nothing of the setting
        "WARDROBE_TRAIN_PRECISION": "float32",
    }


def start(folder: Path, port: int, **settings: str) -> Stack:
    """`wardrobe up` on its way."""
    chosen = {**environment(folder, port), **settings}
    with (folder / "up.log").open("wb") as log:
        process = subprocess.Popen(command("up"), cwd=ROOT, env=chosen, stdout=log, stderr=log)
    return Stack(folder, port, process, chosen)


@contextmanager
def up(folder: Path, **settings: str) -> Iterator[Stack]:
    """A stack from `wardrobe up` to a clean Ctrl-C, with nothing left behind."""
    if not (folder / "units").exists():
        write_units(folder / "units")
    stack = start(folder, free_port(), **settings)
    process = stack.process
    try:
        wait_for(stack.ready, seconds=1800, what="`wardrobe up` is ready")
        yield stack
    finally:
        for client in stack.opened:
            client.close()
        family = psutil.Process(process.pid).children(recursive=True)
        shared = stack.shared_memory()
        process.send_signal(signal.SIGINT)
        code = process.wait(600)
        left = [child for child in family if child.is_running() and child.status() != "zombie"]
        assert code == 0, (folder / "up.log").read_text()
        assert left == []
        assert [path for path in shared if path.exists()] == []
        assert list(Path(stack.environment["TMPDIR"]).iterdir()) == []
        assert not stack.state.temporary.exists()
