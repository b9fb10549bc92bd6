"""Stands in for vLLM's own `tests/utils.py`: its servers are the service that runs already.

Copied there, and loaded as a plugin of the pytest that runs vLLM's tests. It collects those tests
that ask a server, and writes down what became of each.
"""

from __future__ import annotations

import inspect
import json
import os
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import openai
import pytest
import requests

URL = os.environ["WARDROBE_TESTED_URL"]
KEY = os.environ["WARDROBE_TESTED_KEY"]
OUTCOMES = Path(os.environ["WARDROBE_TESTED_OUTCOMES"])
SERVER = "RemoteOpenAIServer"
CHOSEN = "getfixturevalue"
BELOW = "tests/entrypoints/openai/"

# what else vLLM's tests import from there
ROCM_EXTRA_ARGS: list[str] = []
VLLM_PATH = Path(__file__).parents[1]
requires_fp8 = pytest.mark.skip("needs a GPU")


def multi_gpu_only(**_: object) -> pytest.MarkDecorator:
    return pytest.mark.skip("needs several GPUs")


class RemoteOpenAIServer:
    """Answers what vLLM's class of this name does, for a server that is there whatever is asked."""

    DUMMY_API_KEY = KEY

    def __init__(self, *_: object, **__: object) -> None:
        self.url_root = URL

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: object, trace: TracebackType | None
    ) -> None:
        pass

    def url_for(self, *parts: str) -> str:
        return "/".join((self.url_root, *parts))

    def get_client(self, **options: Any) -> openai.OpenAI:
        return openai.OpenAI(**self._options(options))

    def get_async_client(self, **options: Any) -> openai.AsyncOpenAI:
        return openai.AsyncOpenAI(**self._options(options))

    def _options(self, given: dict[str, Any]) -> dict[str, Any]:
        mine = {"base_url": self.url_for("v1"), "api_key": KEY, "max_retries": 0, "timeout": 120}
        return mine | given


class _WithKey(requests.Session):
    """What asks without the SDK sends no key, for vLLM asks for none."""

    def __init__(self) -> None:
        super().__init__()
        self.headers["Authorization"] = f"Bearer {KEY}"


requests.sessions.Session = _WithKey  # type: ignore[misc]


def _asks_a_server(item: pytest.Item) -> bool:
    """Whether the test or a fixture of it names the server: the others test vLLM's own code."""
    if not isinstance(item, pytest.Function):
        return False
    fixtures = item._fixtureinfo.name2fixturedefs.values()
    code = [item.function, *(one.func for several in fixtures for one in several)]
    # a fixture may choose among servers by their names
    return any(word in inspect.getsource(one) for one in code for word in (SERVER, CHOSEN))


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    chosen = [item for item in items if _asks_a_server(item)]
    config.hook.pytest_deselected(items=[item for item in items if item not in chosen])
    items[:] = chosen


def pytest_collectreport(report: pytest.CollectReport) -> None:
    if report.failed:
        _write(report, "failed")


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    """A test is what its call became, or its set-up or its end where one of these went wrong."""
    if report.when == "call" or not report.passed:
        _write(report, report.outcome)


def _write(report: pytest.TestReport | pytest.CollectReport, outcome: str) -> None:
    crash = getattr(report.longrepr, "reprcrash", None)
    why = crash.message if crash is not None else report.longreprtext
    why = why.partition("\n")[0][:400]
    line = {"test": report.nodeid.removeprefix(BELOW), "outcome": outcome, "why": why}
    with OUTCOMES.open("a") as file:
        file.write(json.dumps(line) + "\n")
