"""A Python process under strace: what the kernel was asked for, and harm to what it is asked."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest


def traced(options: list[str], script: str, *arguments: Path) -> subprocess.CompletedProcess[str]:
    """Runs `script` under strace; skips, and says why, where that is not possible."""
    if shutil.which("strace") is None:
        pytest.skip("strace is not installed")
    command = ["strace", "-f", "-qq", *options, sys.executable, "-B", "-c", script]
    done = subprocess.run(
        [*command, *map(str, arguments)], capture_output=True, text=True, timeout=60
    )
    if "ptrace" in done.stderr:
        pytest.skip(f"strace cannot trace here: {done.stderr.strip().splitlines()[0]}")
    return done


def synced(log: Path, script: str, *arguments: Path) -> list[str]:
    """The paths that `script` made durable, in order."""
    traced(["-y", "-e", "trace=fsync", "-o", str(log)], script, *arguments).check_returncode()
    calls = [line for line in log.read_text().splitlines() if "fsync(" in line]
    return [call.partition("<")[2].partition(">")[0] for call in calls]
