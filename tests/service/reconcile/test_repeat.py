"""A repeated step: what its failures leave in the log."""

from __future__ import annotations

import pytest
import structlog
from prometheus_client import CollectorRegistry

from adapters.errors import StorageFull, Unavailable
from service.metrics import Metrics
from service.reconcile.repeat import Repeat


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (Unavailable("the registry cannot be used now", code="registry_unavailable"),
         "registry_unavailable"),
        (StorageFull("there is no room left for the registry; free some"), "storage_full"),
        (TimeoutError(), "timeout"),
    ],
)  # fmt: skip
async def test_an_outage_is_one_line_a_step_and_no_traceback(error: Exception, reason: str) -> None:
    (line,) = await _lines_of(error)
    assert (line["event"], line["owner"], line["reason"]) == ("step_failed", "tester", reason)
    assert "exc_info" not in line


async def test_what_nobody_foresaw_is_told_with_its_traceback() -> None:
    error = KeyError("a defect of ours")
    (line,) = await _lines_of(error)
    assert line["exc_info"] is error


async def _lines_of(error: Exception) -> list[structlog.typing.EventDict]:
    async def step() -> bool:
        raise error

    repeat = Repeat("tester", step, every=1.0, metrics=Metrics(CollectorRegistry()))
    with structlog.testing.capture_logs() as lines:
        assert not await repeat.attempt()
    return list(lines)
