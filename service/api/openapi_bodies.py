"""What the models of bodies do not say by themselves, for the OpenAPI document.

Types are strict and texts are checked by our own code, so a model's own schema allows too much.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pydantic import BaseModel

from adapters.domain.audit import MAX_REASON
from adapters.domain.canary_policy import MAX_MINUTES, MAX_STEPS
from adapters.domain.files import MAX_LIFETIME, MIN_LIFETIME
from adapters.domain.principals import OF_A_UNIT, OF_THE_WHOLE, Scope
from adapters.domain.units import UnitLimits
from service.api.adapters import Pin, Promote, Warm
from service.api.canaries import Scores, Start, StartShadow, Weight
from service.api.keys import CreateKey
from service.api.route_commands import Command, Why
from service.api.uploads import BeginUpload

Json = dict[str, Any]

NAME: Json = {"type": "string", "pattern": "^[a-z]([a-z0-9-]{0,38}[a-z0-9])?$"}
VERSION_NAME = "[a-z]([a-z0-9-]{0,38}[a-z0-9])?:[1-9][0-9]{0,8}"
_ANCHOR, _SECONDS = "expires_after[anchor]", "expires_after[seconds]"
A_FILE: Json = {
    "type": "object",
    "additionalProperties": False,
    "required": ["file", "purpose"],
    "properties": {
        "file": {"type": "string", "format": "binary"},
        "purpose": {"type": "string", "enum": ["fine-tune"]},
        _ANCHOR: {"type": "string", "enum": ["created_at"]},
        _SECONDS: {"type": "integer", "minimum": MIN_LIFETIME, "maximum": MAX_LIFETIME},
        "x_unit": NAME,
    },
    "dependentRequired": {_ANCHOR: [_SECONDS], _SECONDS: [_ANCHOR]},
}
"""The form of a file; its lifetime is said whole or not at all."""


def _of_a_key(schema: Json) -> Json:
    """A key is about one unit or about all, and its scopes are those of the one or the other."""
    shared = schema["properties"]
    names = {"type": "array", "minItems": 1, "maxItems": 64, "items": NAME}

    def variant(scopes: frozenset[Any], **more: Json) -> Json:
        listed = {"type": "array", "minItems": 1, "items": {"enum": sorted(scopes)}}
        listed |= {"maxItems": len(Scope)}
        properties = {"name": NAME, "scopes": listed, "expires_in": shared["expires_in"], **more}
        required = ["name", "scopes", *(["unit"] if more else [])]
        return {
            "type": "object",
            "additionalProperties": False,
            "properties": properties,
            "required": required,
        }

    of_a_unit = variant(OF_A_UNIT, unit=NAME, aliases=names, limits=shared["limits"])
    return {"oneOf": [of_a_unit, variant(OF_THE_WHOLE)]}


_OF_COMMANDS: Mapping[str, Json] = {
    "expected_generation": {"type": "integer", "minimum": 0, "maximum": 2**31 - 1},
    # any printable line will do; these are surely such
    "reason": {"type": "string", "maxLength": MAX_REASON, "pattern": "^[ -~]*$"},
    "version": {
        "anyOf": [
            {"type": "integer", "minimum": 1, "maximum": 999_999_999},
            {"type": "string", "pattern": f"^({VERSION_NAME}|[1-9][0-9]{{0,8}})$"},
        ]
    },
}
"""Fields of many commands: a version goes by its number or by its name."""


def _of_a_command(schema: Json) -> Json:
    told = {name: said for name, said in _OF_COMMANDS.items() if name in schema["properties"]}
    return {**schema, "properties": {**schema["properties"], **told}}


def _of_a_seen_command(schema: Json) -> Json:
    """The generation is asked for by name where it is missing."""
    required = [*schema.get("required", ()), "expected_generation"]
    return {**_of_a_command(schema), "required": required}


def _of_a_canary(schema: Json) -> Json:
    """A step that compares has a weight within 0 and 100."""
    whole = _of_a_seen_command(schema)
    weight = {"type": "number", "exclusiveMinimum": 0.0, "exclusiveMaximum": 100.0}
    step = {
        "type": "object",
        "additionalProperties": False,
        "required": ["weight"],
        "properties": {
            "weight": weight,
            "minutes": {"type": "number", "minimum": 0.0, "maximum": MAX_MINUTES},
        },
    }
    steps = {"type": "array", "maxItems": MAX_STEPS, "items": step}
    return {**whole, "properties": {**whole["properties"], "steps": steps}}


def _of_scores(schema: Json) -> Json:
    score = {
        "type": "object",
        "additionalProperties": False,
        "required": ["id", "version", "score"],
        "properties": {
            "id": {"type": "string", "pattern": "^[!-~]{1,128}$"},
            "version": {"type": "string", "pattern": f"^{VERSION_NAME}$"},
            "score": {"type": "number", "minimum": 0.0, "maximum": 1.0},
        },
    }
    scores = {**schema["properties"]["scores"], "items": score}
    return {**schema, "properties": {"scores": scores}}


def _of_an_upload(schema: Json) -> Json:
    """A unit may allow more or less; this is what it allows where it does not say."""
    most = UnitLimits().max_file_bytes
    size = {**schema["properties"]["bytes"], "maximum": most}
    return {**schema, "properties": {**schema["properties"], "bytes": size}}


REFINED: Mapping[type[BaseModel], Any] = {
    BeginUpload: _of_an_upload,
    CreateKey: _of_a_key,
    **dict.fromkeys((Pin, Promote, Warm, Why), _of_a_command),
    **dict.fromkeys((Command, StartShadow, Weight), _of_a_seen_command),
    Start: _of_a_canary,
    Scores: _of_scores,
}
"""What a model's own schema does not say."""
