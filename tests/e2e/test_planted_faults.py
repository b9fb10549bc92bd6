"""Adapters with a fault planted in them, brought through import and judged through the real engine.

Faults that a job would have to make are planted by `benchmarks/planted.py`: they take minutes.
"""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path

import openai
import pytest

from adapters.domain.gates import Outcome
from adapters.domain.principals import SYSTEM
from adapters.domain.versions import Version, VersionState
from benchmarks.faulty_adapters import Tensors, changed, faint, for_wider_base, zeroed
from service.cli.client import Client
from tests.e2e.stack import Stack, wait_for

pytestmark = pytest.mark.timeout(1800)


def client_of(stack: Stack) -> Client:
    return Client(stack.url, stack.key("support"))


def judged(stack: Stack, name: str) -> Version:
    """The version once its gates have spoken; the trainer looks for imports by itself."""
    adapter, _, number = name.partition(":")

    def found() -> Version | None:
        with stack.registry() as registry:
            version = registry.versions.get(adapter, int(number), SYSTEM)
        return version if version.gates else None

    version: Version = wait_for(found, seconds=1200, what=f"{name} is judged")
    return version


def test_an_import_that_does_next_to_nothing_is_rejected_by_effect_and_not_by_its_data(
    stack: Stack, first: Version, tmp_path: Path
) -> None:
    with client_of(stack) as client:
        archive = changed(client, first.name, tmp_path / "faint", faint)
        made = client.import_version("support", io.BytesIO(archive), "faint.tar")
    version = judged(stack, made["id"])
    outcomes = {gate.name: gate.outcome for gate in version.gates}
    assert outcomes["effect against base"] is Outcome.FAILED
    assert outcomes["fidelity"] is Outcome.PASSED, "the service computes what the trainer does"
    assert outcomes["data: overlap"] is Outcome.SKIPPED, "it was not made from that dataset"
    assert version.state is VersionState.REJECTED


@pytest.mark.parametrize(
    ("change", "why"),
    [(zeroed, "every delta is zero"), (for_wider_base, r"lora_A is \[16, 193\], not \[16, 192\]")],
)
def test_an_import_that_does_nothing_or_is_for_another_base_is_refused_with_the_reason(
    stack: Stack, first: Version, tmp_path: Path, change: Callable[[Tensors], Tensors], why: str
) -> None:
    with client_of(stack) as client:
        archive = changed(client, first.name, tmp_path / "adapter", change)
        with pytest.raises(openai.ConflictError, match=why):
            client.import_version("support", io.BytesIO(archive), "adapter.tar")
