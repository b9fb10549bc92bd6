"""Loaded by Schemathesis: what the words of our OpenAPI document look like."""

from __future__ import annotations

from typing import Any

import schemathesis
from hypothesis import strategies
from schemathesis.transport.serialization import Binary

LIFETIME = {"expires_after[anchor]", "expires_after[seconds]"}
LINE = '{"messages": [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]}\n'

schemathesis.openapi.format(
    "binary",
    strategies.integers(min_value=1, max_value=20).map(lambda rows: Binary((LINE * rows).encode())),
)


@schemathesis.hook
def map_body(_: Any, body: Any) -> Any:
    """What no schema can say, or none that is understood here: 3.0 is no whole number, a reason is
    one printable line, the weights of steps only grow, and half a lifetime is none.
    """
    if isinstance(body, dict):
        if len(LIFETIME & body.keys()) == 1:
            body = {name: value for name, value in body.items() if name not in LIFETIME}
        return {name: _mended(name, map_body(_, value)) for name, value in body.items()}
    if isinstance(body, list):
        return [map_body(_, value) for value in body]
    whole = isinstance(body, float) and body.is_integer()
    return int(body) if whole else body


def _mended(name: str, value: Any) -> Any:
    if name == "reason" and isinstance(value, str):
        return "".join(char for char in value if char.isprintable())
    if name == "steps" and isinstance(value, list):
        weights = [step.get("weight") if isinstance(step, dict) else None for step in value]
        if all(isinstance(weight, int | float) for weight in weights):
            return sorted(value, key=lambda step: step["weight"])
    return value
