"""One real service for the whole session: it takes most of a minute to start."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from adapters.domain.principals import SYSTEM
from adapters.domain.versions import Version
from tests.e2e.jobs import lines
from tests.e2e.stack import Stack, up

SCRIPT = Path(__file__).with_name("written_for_openai.py")


DEEP = 150
"""Letters of a folder's name: too many for the address of a socket below it."""


@pytest.fixture(scope="session")
def stack() -> Iterator[Stack]:
    # pytest's own folders are too deep for the temporary files of a deep state folder
    with (
        tempfile.TemporaryDirectory(prefix="wr-", dir="/tmp") as name,
        up(Path(name), WARDROBE_STATE=str(Path(name, "s" * DEEP))) as started,
    ):
        yield started


@pytest.fixture(scope="session")
def told(stack: Stack) -> Mapping[str, Any]:
    """What a script prints that was written for OpenAI, here with another address and key."""
    files = []
    for name, content in (
        ("train", lines("support", "train", 400)),
        ("valid", lines("support", "valid", 80)),
    ):
        files.append(stack.folder / f"{name}.jsonl")
        files[-1].write_bytes(content)
    service = {"OPENAI_BASE_URL": f"{stack.url}/v1", "OPENAI_API_KEY": stack.key("support")}
    done = subprocess.run(
        [sys.executable, str(SCRIPT), "wardrobe-base", *map(str, files)],
        env={**os.environ, **service},
        capture_output=True,
        text=True,
        timeout=1800,
    )
    assert done.returncode == 0, done.stderr
    printed: dict[str, Any] = json.loads(done.stdout)
    return printed


@pytest.fixture(scope="session")
def first(stack: Stack, told: Mapping[str, Any]) -> Version:
    """`support:1`, trained by a real job and live."""
    assert told["model"] == "support:1"
    with stack.registry() as registry:
        return registry.versions.get("support", 1, SYSTEM)


@pytest.fixture(scope="session")
def second(stack: Stack, first: Version) -> Version:
    """Another version of support that answers differently."""
    return stack.variant(first, strength=0.25)
