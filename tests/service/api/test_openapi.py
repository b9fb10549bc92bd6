"""The OpenAPI document says what bodies and queries may hold: all of it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from pydantic import BaseModel

from service.api.adapters import Pin, Promote, Warm
from service.api.canaries import Scores, Start, StartShadow, Weight
from service.api.job_requests import CreateJob
from service.api.keys import CreateKey, RotateKey
from service.api.openapi import document
from service.api.route_commands import Command, Why

DOCUMENT = document()


def schema_at(path: str) -> dict[str, Any]:
    """Of what is posted there."""
    content = DOCUMENT["paths"][path]["post"]["requestBody"]["content"]
    found: dict[str, Any] = content["application/json"]["schema"]
    return found


def names_in(schema: dict[str, Any]) -> set[str]:
    """Every field of a body, whichever of its forms has it."""
    return {name for form in schema.get("oneOf", [schema]) for name in form.get("properties", {})}


@pytest.mark.parametrize(
    ("path", "model"),
    [
        ("/v1/fine_tuning/jobs", CreateJob),
        ("/v1/keys", CreateKey),
        ("/v1/keys/{key_id}/rotate", RotateKey),
        ("/v1/keys/{key_id}/revoke", Why),
        ("/v1/adapters/{alias}/promote", Promote),
        ("/v1/adapters/{alias}/rollback", Command),
        ("/v1/adapters/{alias}/warm", Warm),
        ("/v1/adapters/{alias}/canary", Start),
        ("/v1/adapters/{alias}/canary/weight", Weight),
        ("/v1/adapters/{alias}/canary/scores", Scores),
        ("/v1/adapters/{alias}/shadow", StartShadow),
        ("/v1/adapters/{alias}/versions/{number}/pin", Pin),
    ],
)
def test_every_field_that_a_body_may_have_is_told(path: str, model: type[BaseModel]) -> None:
    fields = {field.alias or name for name, field in model.model_fields.items()}
    assert names_in(schema_at(path)) == fields


def references(value: Any) -> Iterator[str]:
    if isinstance(value, dict):
        if "$ref" in value:
            yield value["$ref"]
        for each in value.values():
            yield from references(each)
    elif isinstance(value, list):
        for each in value:
            yield from references(each)


def test_everything_that_is_referred_to_is_there() -> None:
    named = set(references(DOCUMENT))
    assert named
    there = {f"#/components/schemas/{name}" for name in DOCUMENT["components"]["schemas"]}
    assert named <= there
