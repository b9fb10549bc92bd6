"""The shape of a forced tool call, in place of vLLM's.

vLLM 0.32 asks for `{"name": …, "parameters": …}` and lets the model go on behind them with keys of
its own: a small base did until its answer's length ended it, and there was no call at all. The
gateway tries the same schema beside the engine before it admits a request
(`service.gateway.tools`).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

NO_PARAMETERS: Mapping[str, Any] = {"type": "object", "properties": {}}


def call_schema(name: str, params: Mapping[str, Any] | None) -> dict[str, Any]:
    """One call, as `vllm.tool_parsers.utils._get_tool_schema_from_name_and_params` takes it."""
    return {
        "properties": {
            "name": {"type": "string", "enum": [name]},
            "parameters": params or dict(NO_PARAMETERS),
        },
        "required": ["name", "parameters"],
        "additionalProperties": False,
    }
