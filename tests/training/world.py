"""A small world for the trainer's tests: a registry, a store, a unit, files and jobs on disk."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from adapters.domain.files import StoredFile
from adapters.domain.jobs import Job, JobStatus
from adapters.domain.names import Digest, FileId, JobId, Unit, new_file_id, new_job_id
from adapters.registry import Registry, ReplicaReport, open_registry
from adapters.state_folder import StateFolder
from adapters.store.folder import LocalStore
from training.starter import Order

FINGERPRINT = Digest("b" * 64)


@dataclass(frozen=True)
class World:
    """Everything a trainer finds when it starts."""

    state: StateFolder
    units: Path
    registry: Registry
    store: LocalStore

    def upload(self, content: bytes) -> FileId:
        digest, size = self.store.put_file([content], max_bytes=1 << 24)
        file = StoredFile(
            id=new_file_id(),
            unit=Unit("support"),
            filename="data.jsonl",
            purpose="fine-tune",
            size_bytes=size,
            digest=digest,
            created_at=time.time(),
        )
        self.registry.add_file(file)
        return file.id

    def add_job(self, content: bytes, validation: bytes | None = None, **changes: Any) -> JobId:
        """A job as the service stores a new one."""
        values: dict[str, Any] = {
            "id": new_job_id(),
            "unit": Unit("support"),
            "adapter": "support",
            "model": "tiny",
            "training_file": self.upload(content),
            "validation_file": None if validation is None else self.upload(validation),
            "status": JobStatus.VALIDATING_FILES,
            "created_at": time.time(),
            "created_by": "key_1",
            "seed": 5,
        }
        job = Job(**(values | changes))
        return self.registry.add_job(job).id

    def add_queued_job(self, content: bytes, validation: bytes | None = None) -> JobId:
        job_id = self.add_job(content, validation)
        self.registry.move_job(job_id, JobStatus.QUEUED, fence=None)
        return job_id

    def claim(self, *, lease_seconds: float = 60.0) -> Job:
        job = self.registry.claim_job(owner="test", now=time.time(), lease_seconds=lease_seconds)
        assert job is not None
        return job

    def job(self, job_id: JobId) -> Job:
        return self.registry.job(job_id, unit=None)

    def report_ready(self, *, fresh_for: float = 600.0, **limits: int) -> None:
        """A replica says that it is there; dated ahead, since nothing repeats it."""
        self.registry.report_replica(
            ReplicaReport(
                id="replica-1",
                at=time.time() + fresh_for,
                revision=0,
                loaded=frozenset(),
                ready=True,
                base_fingerprint=FINGERPRINT,
                limits={"max_lora_rank": 64, "max_model_len": 256} | limits,
            )
        )

    def published(self) -> list[str]:
        """The digests of the adapters in the store."""
        return [path.name for path in (self.state.artifacts / "adapters").iterdir()]

    def messages(self, job_id: JobId) -> list[str]:
        """What the job has told, oldest first."""
        page = self.registry.events(job_id, after=None, limit=500)
        return [event.message for event in reversed(page.items)]


def make_world(
    folder: Path, gates: dict[str, Any] | None = None, *, database_url: str | None = None
) -> World:
    units = folder / "units"
    units.mkdir(exist_ok=True)
    policy = {"evaluation_examples": 8} | (gates or {})
    unit = {"unit": "support", "aliases": ["support"], "gates": policy}
    (units / "support.yaml").write_text(json.dumps(unit))
    state = StateFolder(folder / "state").create()
    return World(
        state=state,
        units=units,
        registry=open_registry(database_url or state.database_url),
        store=LocalStore(state.artifacts),
    )


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
        module = "tests.training.fake_child"
        return [sys.executable, "-m", module, str(state.root), order.job_id, str(order.fence), mode]

    return command


class Troubled:
    """A registry whose method `name` fails with each of `errors` in turn before it works."""

    def __init__(self, registry: Registry, name: str, *errors: Exception) -> None:
        self._registry, self._name, self._errors = registry, name, list(errors)

    def __getattr__(self, name: str) -> Any:
        if name == self._name and self._errors:
            return self._fail
        return getattr(self._registry, name)

    def _fail(self, *_: Any, **__: Any) -> Any:
        raise self._errors.pop(0)


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
