"""What the installed vLLM offers, found once for all tests that ask."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="session")
def facts(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    base = tmp_path_factory.mktemp("base")
    (base / "config.json").write_text(json.dumps({"model_type": "llama", "dtype": "float32"}))
    run = subprocess.run(
        [sys.executable, "-m", "tests.contract.vllm_facts", str(base)],
        cwd=ROOT, capture_output=True, text=True, timeout=800,
    )  # fmt: skip
    assert run.returncode == 0, run.stderr[-3000:]
    found: dict[str, Any] = json.loads(run.stdout.strip().splitlines()[-1])
    return found
