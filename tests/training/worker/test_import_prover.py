"""What was imported is evaluated while no job waits."""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from adapters.domain.gates import Outcome
from adapters.domain.names import Digest
from adapters.domain.versions import IMPORT, Version
from adapters.registry import Registry
from adapters.registry.open import open_registry
from tests.adapters.registry.values import (
    BASE,
    OTHER_BASE,
    a_build,
    a_gate,
    fence_of,
    published,
    running,
)
from tests.clock import Clock
from training.worker.import_prover import LOOK_SECONDS, ImportProver


@pytest.fixture
def registry(tmp_path: Path) -> Iterator[Registry]:
    with closing(open_registry(f"sqlite:///{tmp_path / 'registry.sqlite3'}")) as opened:
        yield opened


def prover(
    registry: Registry,
    clock: Clock,
    told: Path,
    *,
    command: Callable[[str], Sequence[str]] | None = None,
    stopping: threading.Event | None = None,
) -> ImportProver:
    """Whose evaluations append the version's name to a file."""
    script = f"import sys; open({str(told)!r}, 'a').write(sys.argv[1] + ' ')"
    return ImportProver(
        versions=registry.versions,
        datasets=registry.datasets,
        command=command or (lambda name: [sys.executable, "-c", script, name]),
        environment=os.environ,
        stopping=stopping or threading.Event(),
        clock=clock,
    )


def brought(registry: Registry, **changes: Any) -> Version:
    return published(registry, evidence={IMPORT: {"by": "key_9"}}, **changes)


def a_test_part(registry: Registry) -> None:
    job = running(registry)
    registry.datasets.record(job.id, Digest("d" * 64), fence=fence_of(job))
    registry.versions.publish(a_build(), job_id=job.id, fence=fence_of(job))


def test_each_import_is_evaluated_once_and_nothing_else_is(
    registry: Registry, clock: Clock, tmp_path: Path
) -> None:
    told = tmp_path / "told"
    proving = prover(registry, clock, told)
    first = brought(registry)
    assert not proving.step({BASE}), "there is nothing to measure it by"
    a_test_part(registry)
    published(registry)
    judged, failed = brought(registry), brought(registry)
    registry.versions.judge_again(judged.id, [a_gate()], evidence={})
    registry.versions.judge_again(failed.id, [a_gate(passed=False)], evidence={})
    brought(registry, base_fingerprint=OTHER_BASE)
    assert not proving.step({BASE}), "it has just looked"
    clock.now += LOOK_SECONDS
    assert proving.step({BASE})
    assert not proving.step({BASE})
    assert told.read_text().split() == [first.name]


def test_one_that_could_not_be_measured_is_evaluated_once_there_is_a_test_part(
    registry: Registry, clock: Clock, tmp_path: Path
) -> None:
    version = brought(registry)
    unmeasured = replace(a_gate(), outcome=Outcome.ERROR)
    registry.versions.judge_again(version.id, [a_gate(), unmeasured], evidence={})
    a_test_part(registry)
    assert prover(registry, clock, tmp_path / "told").step({BASE})
    assert (tmp_path / "told").read_text().split() == [version.name]


def test_an_evaluation_that_hangs_ends_with_the_trainer(
    registry: Registry, clock: Clock, tmp_path: Path
) -> None:
    brought(registry)
    a_test_part(registry)
    stopping = threading.Event()
    stopping.set()
    sleeping = [sys.executable, "-c", "import time; time.sleep(600)"]
    proving = prover(
        registry, clock, tmp_path / "told", command=lambda _: sleeping, stopping=stopping
    )
    assert proving.step({BASE})
