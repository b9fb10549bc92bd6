"""What vLLM logs holds nobody's content once the service has met a caller."""

from __future__ import annotations

import io
import logging
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from service.engine.content_free_logs import WITHHELD, ContentFreeRecords, outline

SECRET = "my salary is 90000"


@pytest.fixture
def starting(tmp_path: Path) -> Path:
    path = tmp_path / "starting"
    path.touch()
    return path


@pytest.fixture
def written(starting: Path) -> Iterator[io.StringIO]:
    """What loggers write while our factory makes their records."""
    factory, root, text = logging.getLogRecordFactory(), logging.getLogger(), io.StringIO()
    handler = logging.StreamHandler(text)
    logging.setLogRecordFactory(ContentFreeRecords(factory, starting))
    root.addHandler(handler)
    yield text
    root.removeHandler(handler)
    logging.setLogRecordFactory(factory)


def log_everything(log: logging.Logger) -> None:
    """Content in each place where vLLM puts it."""
    log.warning("LLMatcher error: %s after %d tokens", SECRET, 7)
    log.warning("throughput: %.1f tokens/s, %s", 12.345, True)
    log.warning(f"Dumping input data: {SECRET}")  # noqa: G004 - as in other people's code
    log.warning("Request: %s".replace("Request", SECRET))
    log.warning("shutting down")
    log.warning({"prompt": SECRET})
    log.warning("%(prompt)s", {"prompt": SECRET})
    log.warning("stack", stack_info=True)
    try:
        try:
            raise KeyError(SECRET)
        except KeyError as error:
            raise ValueError(f"bad grammar: {SECRET}") from error
    except ValueError:
        log.exception("Failed to compile grammar for request %s", "req_1")


def test_while_the_service_starts_everything_is_said(written: io.StringIO) -> None:
    log_everything(logging.getLogger("vllm.start"))
    assert written.getvalue().count(SECRET) > 6


def test_from_the_first_caller_on_only_constants_numbers_and_places_are(
    written: io.StringIO, starting: Path
) -> None:
    starting.unlink()
    log_everything(logging.getLogger("vllm.serve"))
    logging.getLogger("vllm.serve").warning("%d", SECRET)  # what logging itself would quote
    said = written.getvalue()
    assert SECRET not in said
    assert "LLMatcher error: … after 7 tokens" in said
    assert "throughput: 12.3 tokens/s, True" in said
    assert "shutting down" in said
    assert "Failed to compile grammar for request …" in said
    assert said.count(WITHHELD) == 3
    assert "builtins.KeyError" in said
    assert "builtins.ValueError" in said
    assert f"{Path(__file__).name}" in said


def test_it_stays_that_way(written: io.StringIO, starting: Path) -> None:
    log = logging.getLogger("vllm.later")
    starting.unlink()
    log.warning("first")
    starting.touch()
    log.warning(f"later: {SECRET}")  # noqa: G004 - as in other people's code
    assert SECRET not in written.getvalue()


def test_an_error_is_told_without_its_words_whatever_its_chain() -> None:
    try:
        try:
            raise KeyError(SECRET)
        except KeyError:
            raise RuntimeError(SECRET)  # noqa: B904 - as in other people's code
    except RuntimeError as error:
        error.add_note(SECRET)
        told = outline(error)
    assert SECRET not in told
    assert told.splitlines()[-1] == "builtins.RuntimeError"
    assert "builtins.KeyError" in told


def test_every_process_of_vllm_gets_it_from_the_environment(starting: Path) -> None:
    words = (
        "import logging; from importlib.metadata import entry_points;"
        "[one.load()() for one in entry_points(group='vllm.general_plugins', name='wardrobe')];"
        "logging.getLogger('vllm.x').warning('a prompt'.upper())"
    )
    for there, expected in ((True, "A PROMPT"), (False, WITHHELD)):
        if not there:
            starting.unlink()
        done = subprocess.run(
            [sys.executable, "-c", words], env={"WARDROBE_STARTING": str(starting)},
            capture_output=True, text=True, timeout=60, check=True,
        )  # fmt: skip
        assert done.stderr.strip() == expected


def test_what_ends_a_thread_or_a_process_is_told_without_its_words(starting: Path) -> None:
    words = (
        "import threading; from service.engine.content_free_logs import install; install()\n"
        "def fail(): raise ValueError('a prompt'.upper())\n"
        "one = threading.Thread(target=fail); one.start(); one.join(); fail()"
    )
    for there, times in ((True, 2), (False, 0)):
        if not there:
            starting.unlink()
        done = subprocess.run(
            [sys.executable, "-c", words], env={"WARDROBE_STARTING": str(starting)},
            capture_output=True, text=True, timeout=60,
        )  # fmt: skip
        assert done.returncode == 1
        assert done.stderr.count("A PROMPT") == times
        assert done.stderr.count("ValueError") == 2


def test_an_engine_that_cannot_even_be_imported_says_what_it_lacks(tmp_path: Path) -> None:
    """It has met no caller yet; types and places alone tell nobody which library is missing."""
    package = tmp_path / "vllm" / "entrypoints" / "cli"
    package.mkdir(parents=True)
    for folder in (package, package.parent, package.parent.parent):
        (folder / "__init__.py").touch()
    lacks = "libcuda.so.1: cannot open shared object file"
    (package / "serve.py").write_text(f"raise ImportError({lacks!r})\n")
    done = subprocess.run(
        [sys.executable, "-m", "service.engine.vllm_engine"],
        env={
            **os.environ,
            "PYTHONPATH": os.pathsep.join(map(str, (tmp_path, Path.cwd()))),
            "WARDROBE_STATE": str(tmp_path / "state"),
        },
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1
    assert f"ImportError: {lacks}" in done.stderr
