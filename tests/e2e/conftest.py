"""One real service for the whole session: it takes most of a minute to start."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from adapters.domain.principals import SYSTEM
from adapters.domain.versions import Version
from tests.e2e.jobs import follow, start_job
from tests.e2e.stack import Stack, up


@pytest.fixture(scope="session")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    with up(tmp_path_factory.mktemp("e2e")) as started:
        yield started


@pytest.fixture(scope="session")
def first(stack: Stack) -> Version:
    """`support:1`, trained by a real job and live."""
    job = follow(stack, start_job(stack, "support"))
    assert job.status == "succeeded", job.error
    with stack.registry() as registry:
        return registry.versions.get("support", 1, SYSTEM)


@pytest.fixture(scope="session")
def second(stack: Stack, first: Version) -> Version:
    """Another version of support that answers differently."""
    return stack.variant(first, strength=0.25)
