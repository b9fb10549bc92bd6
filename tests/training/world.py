"""A small world for the trainer's tests: a registry, a store, a unit, files and jobs on disk."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from adapters.domain.jobs import Job
from adapters.domain.names import Digest, FileId, JobId, Unit, new_file_id, new_job_id
from adapters.domain.principals import SYSTEM, Principal, Role
from adapters.domain.recipes import Hyperparameters
from adapters.registry import Registry
from adapters.registry.open import open_registry
from adapters.registry.ports import NewFile, NewJob
from adapters.state_folder import StateFolder
from adapters.store.folder import FolderStore
from tests.empty_registry import new_state_folder
from tests.training.job.toy_replica import FINGERPRINT, ToyReplica
from training.job.order import Order

UNIT = Unit("support")
OWNER = Principal(id="key_1", role=Role.UNIT, unit=UNIT)


@dataclass(frozen=True)
class World:
    """Everything a trainer finds when it starts."""

    state: StateFolder
    units: Path
    registry: Registry
    store: FolderStore
    replica: ToyReplica

    def close(self) -> None:
        self.replica.close()
        self.registry.close()

    def upload(self, content: bytes) -> FileId:
        digest, size = self.store.put_file([content], max_bytes=1 << 24)
        file = NewFile(
            id=new_file_id(),
            unit=UNIT,
            filename="data.jsonl",
            purpose="fine-tune",
            size_bytes=size,
            digest=digest,
        )
        return self.registry.files.add(file, by=SYSTEM).id

    def add_job(
        self,
        content: bytes,
        validation: bytes | None = None,
        *,
        seed: int | None = 5,
        model: str = "tiny",
        **more: Any,
    ) -> JobId:
        """A job as the service stores a new one."""
        job = NewJob(
            id=new_job_id(),
            unit=UNIT,
            adapter="support",
            model=model,
            training_file=self.upload(content),
            validation_file=None if validation is None else self.upload(validation),
            seed=seed,
            hyperparameters=Hyperparameters(),
            **more,
        )
        return self.registry.jobs.create(job, OWNER, idempotency_key=None).id

    def add_queued_job(
        self,
        content: bytes,
        validation: bytes | None = None,
        **more: Any,
    ) -> JobId:
        job_id = self.add_job(content, validation, **more)
        self.registry.jobs.accept(job_id, error=None)
        return job_id

    def claim(self, *, lease_seconds: float = 60.0) -> Job:
        """The next job. With no seconds it is still ours until the next claim takes it over."""
        job = self.registry.jobs.claim(owner="test", lease_seconds=lease_seconds)
        assert job is not None
        return job

    def job(self, job_id: JobId) -> Job:
        return self.registry.jobs.get(job_id, SYSTEM)

    def report_ready(
        self, *, ready: bool = True, base: Digest = FINGERPRINT, **limits: Any
    ) -> None:
        """A replica comes, and goes on reporting until the world closes."""
        all_limits: dict[str, Any] = {"max_lora_rank": 64, "max_model_len": 256}
        all_limits |= {"engine": "toy 1", "dtype": "float32"} | limits
        self.replica.report(ready=ready, base=base, limits=all_limits)

    def published(self) -> list[str]:
        """The digests of the adapters in the store."""
        return [path.name for path in (self.state.artifacts / "adapters").iterdir()]

    def messages(self, job_id: JobId) -> list[str]:
        """What the job has told, oldest first."""
        page = self.registry.jobs.events(job_id, SYSTEM, after=None, limit=500)
        return [event.message for event in reversed(page.items)]


def make_world(folder: Path, gates: dict[str, Any] | None = None) -> World:
    units = folder / "units"
    units.mkdir(exist_ok=True)
    write_unit(units, gates=gates)
    state = new_state_folder(folder / "state")
    registry = open_registry(state.database_url)
    return World(
        state=state,
        units=units,
        registry=registry,
        store=FolderStore(state.artifacts),
        replica=ToyReplica(registry),
    )


def write_unit(
    units: Path, *, gates: dict[str, Any] | None = None, recipe: dict[str, Any] | None = None
) -> None:
    """The file of the unit `support`, anew."""
    policy = {"evaluation_examples": 20} | (gates or {})
    unit = {"unit": "support", "aliases": ["support"], "gates": policy, "recipe": recipe or {}}
    (units / "support.yaml").write_text(json.dumps(unit))


def jsonl(pairs: Iterable[tuple[str, str]]) -> bytes:
    """Question and answer pairs as an upload."""
    records = (
        {"messages": [{"role": "user", "content": q}, {"role": "assistant", "content": a}]}
        for q, a in pairs
    )
    return b"".join(json.dumps(record).encode() + b"\n" for record in records)


def data(count: int = 40, start: int = 0) -> bytes:
    """`count` examples, all different."""
    return jsonl((f"question {at}", f"answer {at}") for at in range(start, start + count))


def child_command(state: StateFolder, mode: str) -> Callable[[Order], Sequence[str]]:
    """The command line of a fake child of that mode."""

    def command(order: Order) -> Sequence[str]:
        child = "mortal_child" if mode == "mortal" else "fake_child"
        module = f"tests.training.worker.{child}"
        return [sys.executable, "-m", module, str(state.root), order.job_id, str(order.fence), mode]

    return command


class Troubled:
    """A port whose method `name` fails with each of `errors` in turn before it works."""

    def __init__(self, port: Any, name: str, *errors: Exception) -> None:
        self._port, self._name, self.errors = port, name, list(errors)

    def __getattr__(self, name: str) -> Any:
        if name == self._name and self.errors:
            return self._fail
        return getattr(self._port, name)

    def _fail(self, *_: Any, **__: Any) -> Any:
        raise self.errors.pop(0)


def wait_until(true: Callable[[], bool], *, within: float = 300.0) -> None:
    """Returns as soon as `true()`; fails the test after `within` seconds."""
    until = time.monotonic() + within
    while not true():
        assert time.monotonic() < until, "it did not become true in time"
        time.sleep(0.02)


def alive(pid: int) -> bool:
    """Whether a process runs (a zombie does not)."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except FileNotFoundError:
        return False
