"""A job's unit, read while the units folder may be in the middle of an edit.

A folder with a mistake in it is refused whole, whoever made it: a job of another unit waits, and is
told nothing of what stands in the folder.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import structlog

from adapters.domain.units import InvalidUnits, UnitConfig, load_units
from adapters.errors import Unavailable

PATIENCE = 600.0
"""Seconds, as for a service that is not ready."""

_log = structlog.get_logger(__name__)


def wait_for_unit(
    folder: Path,
    unit: str,
    *,
    clock: Callable[[], float],
    pause: Callable[[], None],
    patience: float = PATIENCE,
) -> UnitConfig:
    """The unit, once the folder can be read; `pause` waits a moment and may raise.

    Raises NotFound when there is no such unit, Unavailable after `patience` seconds.
    """
    until, logged = clock() + patience, False
    while True:
        try:
            return load_units(folder).get(unit)
        except InvalidUnits as error:
            if not logged:
                _log.error("units_unreadable", problems=error.problems)
                logged = True
            if clock() >= until:
                raise Unavailable(
                    "the trainer's settings could not be read; tell whoever runs Wardrobe, then "
                    "start the job again",
                    code="settings_unavailable",
                ) from None
        pause()
