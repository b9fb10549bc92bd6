"""The audit log's head in this process's log: each new one once, by one process."""

from __future__ import annotations

from pathlib import Path

from prometheus_client import CollectorRegistry
from structlog.testing import capture_logs

from adapters.registry.open import open_registry
from service.metrics import Metrics
from service.reconcile.audit_head import AuditHead
from tests.adapters.registry.values import a_key


async def test_a_head_that_is_new_is_told_once(tmp_path: Path) -> None:
    registry = open_registry(f"sqlite:///{tmp_path / 'registry.sqlite3'}")
    prometheus = CollectorRegistry()
    owner = False
    telling = AuditHead(audit=registry.audit, is_owner=lambda: owner, metrics=Metrics(prometheus))
    with capture_logs() as logged:
        await telling.step()  # an empty log has nothing to anchor
        registry.keys.add([a_key("key_1")])
        await telling.step()  # another process tells of it
        owner = True
        for _ in range(3):
            await telling.step()
        registry.keys.add([a_key("key_2")])
        await telling.step()
    told = [line["anchor"] for line in logged if line["event"] == "audit_head"]
    assert [anchor.partition(":")[0] for anchor in told] == ["1", "2"]
    assert told[-1] == str(registry.audit.head())
    assert prometheus.get_sample_value("wardrobe_audit_entries") == 2.0
    telling.close()
    registry.close()
