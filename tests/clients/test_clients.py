"""Other people's clients get answers, calls and typed values from the real service.

Each runs in a process and an environment of its own (`make clients`); without these, none is tried.
Calls and types are forced, so that what is tried is the service and not how much a base of a few
million parameters understands.
"""

from __future__ import annotations

import json
import os
import shlex
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from service.engine.vllm_arguments import GRAMMAR_BACKEND
from tests.e2e.stack import ROOT, Stack, up

PYTHON = ROOT / ".venv-clients" / "bin" / "python"
HERE = Path(__file__).parent
NODE = HERE / "node"
CLIENTS = sorted((HERE / "python").glob("*_client.py"))

COMPACT = {"backend": GRAMMAR_BACKEND, "disable_any_whitespace": True}
"""Between the words of its JSON so small a base puts blanks by chance, up to the end of its tokens:
one in some hundred calls was cut off."""

pytestmark = [pytest.mark.clients, pytest.mark.engine, pytest.mark.timeout(1200)]


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    words = shlex.join(["--structured-outputs-config", json.dumps(COMPACT)])
    with up(tmp_path_factory.mktemp("clients"), WARDROBE_ENGINE_ARGS=words) as started:
        yield started


def run(stack: Stack, *command: str | Path, cwd: Path) -> None:
    environment = {
        **os.environ,
        "OPENAI_BASE_URL": f"{stack.url}/v1",
        "OPENAI_API_BASE": f"{stack.url}/v1",
        "OPENAI_API_KEY": stack.key("support"),
        "MODEL": "wardrobe-base",
        "DO_NOT_TRACK": "1",
        "OPENAI_AGENTS_DISABLE_TRACING": "1",
        "LITELLM_LOCAL_MODEL_COST_MAP": "True",
    }
    done = subprocess.run(
        [*map(str, command)], cwd=cwd, env=environment, capture_output=True, text=True, timeout=600
    )
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-6000:]
    assert done.stdout.strip().endswith("done")


@pytest.mark.parametrize("client", CLIENTS, ids=lambda path: path.stem.removesuffix("_client"))
def test_a_python_client_works(client: Path, stack: Stack) -> None:
    run(stack, PYTHON, client, cwd=client.parent)


@pytest.mark.skipif(
    shutil.which("node") is None or not (NODE / "node_modules" / "openai").is_dir(),
    reason="there is no node here, or npm could not install its clients",
)
def test_the_clients_of_node_work(stack: Stack) -> None:
    run(stack, "node", "clients.mjs", cwd=NODE)
