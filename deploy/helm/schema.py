"""Puts the product's own unit format into the chart's values.schema.json.

A unit in `values.yaml` is a unit file of `adapters.domain.units`, which alone says what may
stand in it.
Run after a change of that format; a test fails until then:

    python deploy/helm/schema.py
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from adapters.domain.units import UnitConfig

SCHEMA = Path(__file__).parent / "wardrobe" / "values.schema.json"
NAME = "^[a-z]([a-z0-9-]{0,38}[a-z0-9])?$"
"""`adapters.domain.names.is_name` as a pattern."""


def unit_definition() -> dict[str, Any]:
    """The schema of one value of `units`: a unit file without `unit`, which is its key."""
    whole = UnitConfig.model_json_schema()
    unit: dict[str, Any] = _plain(whole, whole["$defs"])
    del unit["properties"]["unit"]
    unit["required"].remove("unit")
    unit["properties"]["aliases"]["items"]["pattern"] = NAME
    return unit


def _plain(node: Any, definitions: dict[str, Any]) -> Any:
    """Without references, titles, defaults and nulls: what a file may say, nothing about Python."""
    if isinstance(node, list):
        return [_plain(item, definitions) for item in node]
    if not isinstance(node, dict):
        return node
    if "$ref" in node:
        return _plain(definitions[node["$ref"].rpartition("/")[2]], definitions)
    choices = [choice for choice in node.get("anyOf", []) if choice != {"type": "null"}]
    if len(choices) == 1:
        return _plain(choices[0], definitions)
    if "properties" in node:
        fields = node["properties"].items()
        kept = {
            key: node[key] for key in ("type", "additionalProperties", "required") if key in node
        }
        return kept | {"properties": {key: _plain(value, definitions) for key, value in fields}}
    dropped = ("title", "default", "description", "$defs")
    return {key: _plain(value, definitions) for key, value in node.items() if key not in dropped}


def with_unit(schema: dict[str, Any]) -> dict[str, Any]:
    """The chart's schema with the unit format as it is today."""
    return schema | {"definitions": schema["definitions"] | {"unit": unit_definition()}}


if __name__ == "__main__":
    written = json.loads(SCHEMA.read_text("utf-8"))
    SCHEMA.write_text(json.dumps(with_unit(written), indent=2) + "\n", "utf-8")
