"""Writes the audit log's head into this process's log, so that it is kept outside the registry.

Whoever ships logs elsewhere has anchors by that: a log of changes whose end was cut off, or that
was made anew, does not fit them.
"""

from __future__ import annotations

from collections.abc import Callable

import structlog

from adapters.domain.audit import EMPTY
from adapters.registry.ports import Audit
from service.metrics import Metrics
from service.reconcile.registry_calls import RegistryCalls
from service.reconcile.repeat import Repeat

LOOK_SECONDS = 60.0
"""What was changed within it, and cut off again, no anchor shows."""

log = structlog.get_logger("wardrobe.audit")


class AuditHead:
    """Tells of a head that is new, in the one process of an engine that loads."""

    def __init__(self, *, audit: Audit, is_owner: Callable[[], bool], metrics: Metrics) -> None:
        self._audit = audit
        self._is_owner = is_owner
        self._metrics = metrics
        self._told = EMPTY
        self._calls = RegistryCalls("audit")
        self.repeat = Repeat("audit", self.step, every=LOOK_SECONDS, metrics=metrics)

    async def step(self) -> None:
        """One look."""
        if not self._is_owner():
            return
        head = await self._calls(self._audit.head)
        self._metrics.audit_entries.set(head.seq)
        if head != self._told:
            self._told = head
            log.info("audit_head", anchor=str(head))

    def close(self) -> None:
        """Lets go of the thread."""
        self._calls.close()
