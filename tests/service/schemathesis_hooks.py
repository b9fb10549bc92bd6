"""Loaded by Schemathesis: what the words of our OpenAPI document look like."""

from __future__ import annotations

from typing import Any

import schemathesis
from hypothesis import strategies
from schemathesis.transport.serialization import Binary

LINE = '{"messages": [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]}\n'

schemathesis.openapi.format(
    "binary",
    strategies.integers(min_value=1, max_value=20).map(lambda rows: Binary((LINE * rows).encode())),
)


@schemathesis.hook
def map_body(_: Any, body: Any) -> Any:
    """To JSON Schema 3.0 is a whole number; here types are taken at their word, and it is none."""
    if isinstance(body, dict):
        return {name: map_body(_, value) for name, value in body.items()}
    if isinstance(body, list):
        return [map_body(_, value) for value in body]
    whole = isinstance(body, float) and body.is_integer()
    return int(body) if whole else body
