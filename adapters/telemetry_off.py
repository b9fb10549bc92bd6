"""Switches off every telemetry and every download of the libraries used.

Called before torch, transformers, TRL or vLLM are imported, and handed to every child process.
"""

from __future__ import annotations

import os

TELEMETRY_OFF = {
    "VLLM_NO_USAGE_STATS": "1",
    "VLLM_DO_NOT_TRACK": "1",
    "DO_NOT_TRACK": "1",
    "HF_HUB_DISABLE_TELEMETRY": "1",
    "HF_HUB_DISABLE_IMPLICIT_TOKEN": "1",
    "HF_HUB_DISABLE_XET": "1",
    "DISABLE_TELEMETRY": "1",
    "TRL_DISABLE_TELEMETRY": "1",
    "WANDB_DISABLED": "true",
    "WANDB_MODE": "disabled",
    "WANDB_ERROR_REPORTING": "false",
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "ANONYMIZED_TELEMETRY": "False",
    "TOKENIZERS_PARALLELISM": "false",
}

OFFLINE = {"HF_HUB_OFFLINE": "1", "TRANSFORMERS_OFFLINE": "1", "HF_DATASETS_OFFLINE": "1"}


def turn_telemetry_off(*, offline: bool = True) -> None:
    """Sets the switches in this process's environment; `offline` also forbids downloads."""
    os.environ.update(TELEMETRY_OFF)
    if offline:
        os.environ.update(OFFLINE)
