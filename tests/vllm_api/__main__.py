"""`make vllmtests`: vLLM's own API tests against a real service on the embedded base.

The tests are those of the installed version. They come from its source distribution into a
temporary folder, get our names for models, and ask `wardrobe up` with one adapter trained and
live. `expected.toml` lists what fails by design; whatever else fails is an error, and so is what
is listed and passes.

    python -m tests.vllm_api                 all of them
    python -m tests.vllm_api -k logprobs     pytest's own options, for a look at some
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import pytest

from tests.e2e.jobs import follow, start_job
from tests.e2e.stack import Stack, up
from tests.vllm_api.adaptation import ADAPTER, BASE, adapt
from tests.vllm_api.sdist import API_TESTS, fetch_tests, installed
from tests.vllm_api.verdict import LIST, Expected, Outcome, complaints, read_expected

HERE = Path(__file__).parent


def main(options: Sequence[str]) -> int:
    """Runs them and says what is otherwise than the list says; 1 where anything is."""
    release, expected = installed(), read_expected(LIST.read_text())
    with tempfile.TemporaryDirectory(prefix="vllm-tests-") as temporary:
        folder = Path(temporary)
        prepare(release, folder)
        gone = [file for file in expected.left_out if not (folder / API_TESTS / file).is_file()]
        if gone:
            raise SystemExit(f"{LIST.name} leaves out what is not there: {', '.join(gone)}")
        with up(folder / "service") as stack:
            options = [*(f"--ignore={API_TESTS}{file}" for file in expected.left_out), *options]
            outcomes = run(stack, folder, options)
    return report(release, outcomes, expected, partial=bool(sys.argv[1:]))


def prepare(release: str, folder: Path) -> None:
    """Writes the adapted tests of this release to `folder`/tests."""
    for name in ("service", "scratch"):
        (folder / name).mkdir()
    fetch_tests(release, folder)
    for path in folder.glob("tests/**/*.py"):
        path.write_text(adapt(path.read_text()))
    shutil.copy(HERE / "stand_in.py", folder / "tests" / "utils.py")


def run(stack: Stack, folder: Path, options: Sequence[str]) -> list[Outcome]:
    """What became of each test. They look the tokenizer up by the base's name, as a folder."""
    job = follow(stack, start_job(stack, ADAPTER))
    if job.status != "succeeded":
        raise SystemExit(f"no adapter to ask: the job {job.status}: {job.error}")
    (folder / BASE).symlink_to(base_folder(stack))
    written = folder / "outcomes.jsonl"
    environment = {
        **stack.environment,
        "PYTHONPATH": str(folder),
        "TMPDIR": str(folder / "scratch"),
        "WARDROBE_TESTED_URL": stack.url,
        "WARDROBE_TESTED_KEY": stack.key(ADAPTER),
        "WARDROBE_TESTED_OUTCOMES": str(written),
    }
    command = [
        *(sys.executable, "-m", "pytest", "-c", os.devnull, "--rootdir", str(folder)),
        *("-p", "tests.utils", "-p", "no:cacheprovider", "--continue-on-collection-errors"),
        *("-W", "ignore", "--timeout", "300", "--tb", "line", *options, API_TESTS),
    ]
    done = subprocess.run(command, cwd=folder, env=environment, check=False)
    if done.returncode not in (pytest.ExitCode.OK, pytest.ExitCode.TESTS_FAILED):
        raise SystemExit(f"pytest gave up with {done.returncode}")
    return [Outcome(**json.loads(line)) for line in written.read_text().splitlines()]


def base_folder(stack: Stack) -> Path:
    """Where the base lies that the service serves."""
    command = [sys.executable, "-m", "training.base", "tiny", "--json"]
    made = subprocess.run(command, env=stack.environment, stdout=subprocess.PIPE, check=True)
    return Path(json.loads(made.stdout.decode().splitlines()[-1])["path"]).absolute()


def report(release: str, outcomes: Sequence[Outcome], expected: Expected, *, partial: bool) -> int:
    """Prints what came out; 1 where that is otherwise than the list says."""
    counts = Counter(one.outcome for one in outcomes)
    print(f"vLLM {release}: " + ", ".join(f"{n} {word}" for word, n in sorted(counts.items())))
    if release != expected.vllm:
        print(f"the list is of vLLM {expected.vllm}: each difference is to be looked up anew")
    wrong = complaints(outcomes, expected, partial=partial)
    print("\n".join(wrong) or f"as {LIST.name} says")
    return 1 if wrong else 0


if __name__ == "__main__":
    # a shell's background job has SIGINT ignored, and so would the service that it ends
    signal.signal(signal.SIGINT, signal.default_int_handler)
    sys.exit(main(sys.argv[1:]))
