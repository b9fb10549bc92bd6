"""What the registry costs: reading a revision, promoting, claiming, a heartbeat.

    python benchmarks/registry.py            a table, about a minute on two cores
    python benchmarks/registry.py --json     no table

The last line is one JSON object. `snapshot_ms_N` is what a replica pays for one revision (the look
at the revision, and what changed since the last one) with N versions there, on SQLite; the same
with `_postgres`. A revision must cost the same at 10 and at 10,000 versions: `snapshot_ratio` is
the worst of both databases. Everything is durable, as in production: SQLite with the journal that
is safe here, PostgreSQL with fsync. PostgreSQL is left out where Debian's is not installed.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console
from rich.table import Table
from sqlalchemy import insert, update

from adapters.domain.names import Alias, Digest, Unit, new_file_id, new_job_id
from adapters.domain.principals import SYSTEM
from adapters.domain.recipes import Hyperparameters
from adapters.domain.versions import Version
from adapters.registry import Registry
from adapters.registry.open import open_registry
from adapters.registry.ports import (
    Acknowledgement,
    NewFile,
    NewJob,
    NewVersion,
    ProcessId,
    Registration,
)
from adapters.registry.sql import schema
from adapters.registry.sql.database import Database
from benchmarks.machine import machine, versions
from tests.servers.postgres import binaries, running_postgres

_SUMMARY = "What the registry costs, on SQLite and on PostgreSQL."
SIZES = (10, 1_000, 10_000)
ROUNDS = 30
DURABLE = ("fsync=on", "synchronous_commit=on", "full_page_writes=on")
_UNIT, _ALIAS, _BASE = Unit("support"), Alias("support"), Digest("b" * 64)
_PROCESS = ProcessId(replica="replica-1", incarnation="one")
_EVIDENCE = {"scores": [0.123456] * 200}
"""About what a version of today carries: 2 KB."""


@dataclass(frozen=True, kw_only=True)
class Found:
    """Medians in milliseconds on one database."""

    snapshot: dict[int, float]
    first_read: dict[int, float]
    promote: float
    claim: float
    heartbeat: float

    @property
    def ratio(self) -> float:
        """What a revision costs with the most versions, over what it costs with the fewest."""
        return self.snapshot[max(SIZES)] / self.snapshot[min(SIZES)]


def main(words: Sequence[str] | None = None) -> int:
    """Measures both databases; the exit code says only whether that was possible."""
    parser = argparse.ArgumentParser(prog="registry.py", description=_SUMMARY)
    parser.add_argument("--json", action="store_true", help="nothing but the JSON object")
    args = parser.parse_args(words)
    about = {"machine": machine(), "versions": versions()}
    found = {name: measure(fresh) for name, fresh in _databases()}
    if not args.json:
        _print(found)
    print(json.dumps({**_keys(found), **about}))
    return 0


def _databases() -> Iterator[tuple[str, Callable[[], str]]]:
    """Each database's name, and what makes an empty one's URL."""
    with tempfile.TemporaryDirectory(prefix="registry-") as folder:
        names = (f"sqlite:///{Path(folder) / f'{number}.sqlite3'}" for number in range(100))
        yield "sqlite", lambda: next(names)
    if binaries() is None:
        _tell("PostgreSQL is not installed: SQLite only")
        return
    with running_postgres(settings=DURABLE) as server:
        yield "postgres", server.new_database


def measure(fresh: Callable[[], str]) -> Found:
    """Everything on one kind of database."""
    snapshot, first_read = {}, {}
    urls = {size: fresh() for size in SIZES}
    for size, url in urls.items():
        _tell(f"{size} versions")
        with closing(open_registry(url)) as registry:
            fill(url, size)
            snapshot[size] = median_ms(_revisions(registry))
            first_read[size] = median_ms(_first_reads(registry), rounds=5)
    with closing(open_registry(urls[max(SIZES)])) as registry:
        return Found(
            snapshot=snapshot,
            first_read=first_read,
            promote=median_ms(_promotions(registry)),
            claim=median_ms(_claims(registry)),
            heartbeat=median_ms(_heartbeats(registry)),
        )


def median_ms(steps: Iterator[None], *, rounds: int = ROUNDS) -> float:
    """Of the time between two yields: a step prepares, yields, is timed, and yields again."""
    taken = []
    for _ in range(rounds):
        next(steps)
        began = time.perf_counter()
        next(steps)
        taken.append((time.perf_counter() - began) * 1000.0)
    return round(statistics.median(taken), 3)


def fill(url: str, size: int) -> None:
    """Versions as a registry has them after years: retired, judged, with their evidence."""
    values = [
        {
            "adapter": "old",
            "number": number,
            "unit": _UNIT,
            "state": "retired",
            "digest": f"{number:064x}",
            "base_fingerprint": _BASE,
            "rank": 16,
            "size_bytes": 10_000_000,
            "created_at": float(number),
            "gates": [],
            "evidence": _EVIDENCE,
            "revision": number,
        }
        for number in range(1, size + 1)
    ]
    with closing(Database(url)) as database, database.write() as connection:
        connection.execute(insert(schema.versions), values)
        connection.execute(update(schema.revision).values(value=size))


def _revisions(registry: Registry) -> Iterator[None]:
    """One change each time, and what a replica that has seen everything before it reads."""
    seen = registry.routes.revision()
    while True:
        _publish(registry)
        yield
        if registry.routes.revision() > seen:
            seen = registry.routes.changes(seen).revision
        yield


def _first_reads(registry: Registry) -> Iterator[None]:
    while True:
        yield
        registry.routes.changes(-1)
        yield


def _promotions(registry: Registry) -> Iterator[None]:
    """Promote, acknowledge, flip, observe, complete: all that the registry does for one."""
    replicas = registry.replicas
    replicas.register(Registration(process=_PROCESS, base_fingerprint=_BASE, limits={}))
    while True:
        replicas.heartbeat(_PROCESS, ready=True, lease_seconds=15.0)
        version = _publish(registry)
        yield
        rollout = registry.rollouts.promote(
            _ALIAS, version.id, SYSTEM, unit=_UNIT, expected_generation=None
        )
        loaded = [Acknowledgement(version_id=version.id)]
        replicas.acknowledge(_PROCESS.replica, _PROCESS.incarnation, loaded)
        registry.rollouts.advance()
        replicas.observe(_PROCESS, registry.routes.revision())
        (complete,) = registry.rollouts.advance()
        yield
        if complete.id != rollout.id:
            raise RuntimeError("another rollout has moved")


def _claims(registry: Registry) -> Iterator[None]:
    while True:
        file = registry.files.add(
            NewFile(
                id=new_file_id(),
                unit=_UNIT,
                filename="train.jsonl",
                purpose="fine-tune",
                size_bytes=10,
                digest=Digest("d" * 64),
            ),
            by=SYSTEM,
        )
        job = NewJob(
            id=new_job_id(),
            unit=_UNIT,
            adapter="support",
            model="base",
            training_file=file.id,
            validation_file=None,
            seed=17,
            hyperparameters=Hyperparameters(),
        )
        registry.jobs.create(job, SYSTEM, idempotency_key=None)
        registry.jobs.accept(job.id, error=None)
        yield
        registry.jobs.claim(owner="trainer", lease_seconds=3600.0)
        yield


def _heartbeats(registry: Registry) -> Iterator[None]:
    while True:
        yield
        registry.replicas.heartbeat(_PROCESS, ready=True, lease_seconds=15.0)
        yield


def _publish(registry: Registry) -> Version:
    new = NewVersion(
        adapter="support",
        unit=_UNIT,
        digest=Digest("a" * 64),
        base_fingerprint=_BASE,
        rank=16,
        size_bytes=10_000_000,
        evidence=_EVIDENCE,
    )
    return registry.versions.publish(new, job_id=None, fence=None)


def _keys(found: dict[str, Found]) -> dict[str, float]:
    keys: dict[str, float] = {}
    for name, one in found.items():
        end = "" if name == "sqlite" else f"_{name}"
        keys |= {f"snapshot_ms_{size}{end}": one.snapshot[size] for size in SIZES}
        keys |= {f"first_read_ms_{size}{end}": one.first_read[size] for size in SIZES}
        keys[f"promote_ms_{name}"] = one.promote
        keys[f"claim_ms_{name}"] = one.claim
        keys[f"heartbeat_ms_{name}"] = one.heartbeat
    keys["snapshot_ratio"] = round(max(one.ratio for one in found.values()), 3)
    return keys


def _print(found: dict[str, Found]) -> None:
    table = Table("median of what", *found, title="the registry, in milliseconds")
    for size in SIZES:
        cells = [f"{one.snapshot[size]:.2f}" for one in found.values()]
        table.add_row(f"a revision, {size} versions", *cells)
    table.add_row("  most over fewest", *(f"{one.ratio:.2f}" for one in found.values()))
    for size in SIZES:
        cells = [f"{one.first_read[size]:.2f}" for one in found.values()]
        table.add_row(f"the first read, {size} versions", *cells)
    for name in ("promote", "claim", "heartbeat"):
        table.add_row(name, *(f"{getattr(one, name):.2f}" for one in found.values()))
    Console().print(table)


def _tell(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


if __name__ == "__main__":
    raise SystemExit(main())
