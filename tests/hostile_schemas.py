"""Schemas that took a process or an event loop down, and the worst that our bounds let through."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

Schema = dict[str, Any]


def text(pattern: str) -> Schema:
    return {"type": "string", "pattern": pattern}


def record(properties: Mapping[str, Any]) -> Schema:
    """All of them must be there, and nothing else."""
    return {
        "type": "object",
        "properties": dict(properties),
        "required": list(properties),
        "additionalProperties": False,
    }


def chain(length: int) -> Schema:
    """Definitions that refer to the next one; each is an array of the one after it."""
    links = {f"d{at}": {"items": {"$ref": f"#/$defs/d{at + 1}"}} for at in range(length)}
    return {"$defs": {**links, f"d{length}": {"type": "string"}}, "$ref": "#/$defs/d0"}


def nested(levels: int) -> Schema:
    """Objects in objects."""
    schema: Schema = {"type": "string"}
    for level in range(levels):
        schema = record({f"p{level}": schema})
    return schema


PARENTHESES = "(" * 100_000 + "a" + ")" * 100_000

TOO_MUCH: Mapping[str, Schema] = {
    "a pattern of 100,000 parentheses": text(PARENTHESES),
    "the same as a patternProperties key": {"patternProperties": {PARENTHESES: {}}},
    "the same in propertyNames": {"type": "object", "propertyNames": text(PARENTHESES)},
    "30 patterns that repeat repetitions": record(
        {f"p{at}": text("^(a{1,1000}){1,1000}$") for at in range(30)}
    ),
    "300 of them": record({f"p{at}": text("^(a{1,1000}){1,1000}$") for at in range(300)}),
    "a pattern of 20,000 repetitions": text("(a?){10000}a{10000}"),
    "ten of 6,000": record(dict.fromkeys("abcdefghij", text("(a?){3000}a{3000}"))),
    "60 long patterns": {"patternProperties": {f"{'(a|b)' * 190}{at}": {} for at in range(60)}},
    "5,000 properties": {"properties": {f"p{at}": {"type": "string"} for at in range(5000)}},
    "1,500 properties": record({f"p{at}": {"type": "string"} for at in range(1500)}),
    "a million items": {"type": "array", "items": {"type": "string"}, "maxItems": 1_000_000},
    "items in items": {
        "type": "array", "minItems": 3000, "items": {"type": "array", "maxItems": 3000},
    },
    "multiples of 999,999,999": {"type": "integer", "multipleOf": 999_999_999},
    "multiples of three primes": {
        "allOf": [{"type": "integer", "multipleOf": prime} for prime in (97, 101, 103)]
    },
    "40,000 choices": {"enum": [f"v{at}" for at in range(40_000)]},
    "eight times three alternatives": {
        "allOf": [{"anyOf": [text(f"^.*{one}{at}.*$") for at in range(3)]} for one in "abcdefgh"]
    },
    "a chain of 2,000 definitions": chain(2000),
    "a chain of 500 definitions": chain(500),
    "60 nested objects": nested(60),
    "another machine's schema": {"$ref": "http://169.254.169.254/latest"},
    "the compiler's own options": {"x-guidance": {"item_separator": "(a{99}){99}"}},
}  # fmt: skip
"""Each is refused by its structure."""

NO_GRAMMAR: Mapping[str, Schema] = {
    "itself": {"$ref": "#"},
    "look-around": text("^(?=a)b$"),
    "a backreference": text(r"^(a)\1$"),
    "an unfinished pattern": text("(a"),
    "a keyword that is not supported": {"type": "array", "uniqueItems": True},
    "nothing": {"enum": []},
    "two types at once": {"allOf": [{"type": "string"}, {"type": "integer"}]},
    "an unknown type": {"type": "nonsense"},
    "a part that is not there": {"$ref": "#/$defs/nowhere"},
}
"""Each is within the bounds, and the compiler can do nothing with it."""

WORST: Mapping[str, Schema] = {
    "400 properties": record({f"p{at}": {"type": "string"} for at in range(400)}),
    "400 optional properties": {
        "properties": {f"p{at}": {"type": "string"} for at in range(400)},
        "additionalProperties": False,
    },
    "350 ranges": record(
        {f"p{at}": {"type": "integer", "minimum": at, "maximum": at * 999 + 7} for at in range(350)}
    ),
    "1,000 choices": {"enum": ["x" * 40 + str(at) for at in range(1000)]},
    "5,000 items": {"type": "array", "items": {"type": "string"}, "maxItems": 5000},
    "multiples of 997": {"type": "integer", "multipleOf": 997},
    "many states": text("^.*a.{1000}$"),
    "eight patterns of 6,000 repetitions": record(
        dict.fromkeys("abcdefgh", text("(a?){3000}a{3000}"))
    ),
    "repetitions in repetitions": text("^((a{1,20}){1,20}){1,20}$"),
    "200 patterns": record(
        {f"p{at}": text(f"[a-z]*x[a-z]{{{at % 40}}}y.*z") for at in range(200)}
    ),
    "16 by 16 alternatives": {
        "allOf": [
            {"anyOf": [record({"a": {"type": "string"}, f"c{at}": {"type": "integer"}})
                       for at in range(16)]}
            for _ in range(2)
        ]
    },
    "a chain of 100 definitions": chain(100),
    "14 nested objects": nested(14),
}  # fmt: skip
"""Each is just within the bounds."""

FITTING: Sequence[Schema] = (
    {"type": "string", "pattern": "^[a-z]+$", "maxLength": 4},
    {"allOf": [{"type": "string"}, {"enum": ["yes", "no"]}]},
    {
        "type": "object",
        "patternProperties": {"^a": {"type": "boolean"}},
        "properties": {"b": {"type": "integer", "minimum": 0, "maximum": 9}},
        "required": ["b"],
        "additionalProperties": False,
        "maxProperties": 1,
    },
    {"type": "string", "pattern": "^[^\\n\\r]{1,9}$"},
    record({"answer": {"type": "boolean"}}),
    {"type": "array", "items": {"enum": [1, 2]}, "minItems": 2, "maxItems": 2},
)
"""Of both kinds: those that vLLM's favourite compiler takes and those that it does not."""
