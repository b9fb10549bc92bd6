"""A process that computes for a run on one more device: `python -m training.finetune.rank_process`.

It keeps nothing that a run needs. It takes orders from its standard input, a socket, and ends when
that is closed; the run's own process (rank 0) has the loop, the optimizer and the checkpoints.
"""

from __future__ import annotations

import importlib
import sys

import structlog

from adapters.logs import configure_logs
from adapters.telemetry_off import turn_telemetry_off
from training.finetune.rank_link import OwnLink

_log = structlog.get_logger(__name__)


def main() -> int:
    turn_telemetry_off()
    configure_logs("INFO")
    link = OwnLink()
    link.keep_telling()  # before the slow imports
    try:
        importlib.import_module("training.finetune.rank").serve(link)
    except Exception as error:
        _log.exception("rank_crashed")
        link.failed(error)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
