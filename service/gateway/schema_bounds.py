"""Bounds a caller's JSON schema by its structure, before anything native sees it.

A schema becomes a grammar, and a grammar costs memory and time in processes that all units share:
`maxItems: 1000000` is 20 bytes and took llguidance 6 s and 1.2 GB, a chain of 640 nested
definitions ended its process, 100,000 nested parentheses ended xgrammar's. What follows is counted
with one walk that does not recurse, in the whole document and wherever a keyword stands: a bound
that reads a schema's meaning could be led around it. `tests/service/gateway/test_schema_bounds.py`
holds the numbers to what llguidance really takes.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

import pydantic_core

from adapters.errors import InvalidRequest
from service.gateway.pattern_bounds import measure

MAX_BYTES = 64 * 1024
MAX_DEPTH = 32
"""Of nested JSON; two or three levels of it are one of the schema."""
MAX_VALUES = 5_000
MAX_PROPERTIES = 400
"""Optional ones stand side by side in one row of llguidance's parser, which holds 2,000 items and
needs four for each."""
MAX_CHOICES = 1_000
"""Values of `enum`."""
MAX_ALTERNATIVES = 256
"""Members of `anyOf`, `oneOf` and `allOf`."""
MAX_COMBINATIONS = 512
"""What all alternatives make together where `allOf` combines them: they are multiplied out."""
MAX_COUNTED = 5_000
"""Sum of `maxItems` and its like: each item is a symbol of the grammar."""
MAX_MULTIPLE = 1_000
"""Product of all `multipleOf`, without their decimal points: an automaton of as many states."""
MAX_CHARACTERS = 16_000
"""Of all patterns together: this module scans them, on the event loop."""
MAX_REPETITIONS = 50_000
"""Of all patterns together; see `service.gateway.pattern_bounds`."""
MAX_REFERENCES = 256
MAX_REACH = 400
"""JSON levels of the document and of all that is referred to, one after the other."""

OPTIONS = "x-guidance"
"""llguidance's own, some of them patterns: whatever stands there is no caller's to say."""

_COUNTED = (
    "minItems", "maxItems", "minContains", "maxContains", "minProperties", "maxProperties",
)  # fmt: skip
_NAMED = ("properties", "patternProperties", "dependentSchemas", "dependencies")
_ALTERNATIVES = ("anyOf", "oneOf")
_COMBINING = ("allOf", "anyOf", "oneOf", "$ref", "if")


@dataclass(frozen=True)
class Walked:
    """A document's containers, each before what it holds, and how many levels are below each."""

    objects: Sequence[Mapping[str, Any]]
    heights: Mapping[int, int]
    """By `id`, of containers that `root` keeps alive."""
    root: Mapping[str, Any]


def check_schema(schema: object, *, param: str) -> None:
    """Raises InvalidRequest that names the bound and `param`; anything within them passes."""
    try:
        _check(schema)
    except _TooMuch as much:
        code = param if param == "response_format" else None
        raise InvalidRequest(f"the schema {much}", param=param, code=code) from None


class _TooMuch(Exception):
    """What a schema has too much of."""


def _check(schema: object) -> None:
    if not isinstance(schema, dict):
        raise _TooMuch("must be a JSON object")
    walked = _walk(schema)
    if any(OPTIONS in one for one in walked.objects):
        raise _TooMuch(f"may not hold `{OPTIONS}`")
    if len(pydantic_core.to_json(schema)) > MAX_BYTES:
        raise _TooMuch(f"may have at most {MAX_BYTES} bytes")
    _check_counts(walked.objects)
    _check_combinations(walked.objects)
    _check_numbers(walked.objects)
    _check_patterns(walked.objects)
    _check_references(walked)


def _walk(root: dict[str, Any]) -> Walked:
    """Bounds depth and number of values on the way, so that it ends soon whatever it is given."""
    containers: list[Any] = []
    parents: list[int] = []
    todo: list[tuple[Any, int, int]] = [(root, -1, 1)]
    seen = 0
    while todo:
        value, parent, level = todo.pop()
        if not isinstance(value, dict | list):
            continue
        seen += len(value)
        if seen > MAX_VALUES:
            raise _TooMuch(f"may hold at most {MAX_VALUES} values")
        if level > MAX_DEPTH:
            raise _TooMuch(f"may be nested at most {MAX_DEPTH} levels deep")
        containers.append(value)
        parents.append(parent)
        children = value.values() if isinstance(value, dict) else value
        todo.extend((child, len(containers) - 1, level + 1) for child in children)
    levels = [1] * len(containers)
    for at in range(len(containers) - 1, 0, -1):  # a parent always stands before its children
        levels[parents[at]] = max(levels[parents[at]], levels[at] + 1)
    return Walked(
        objects=[value for value in containers if isinstance(value, dict)],
        heights={id(value): height for value, height in zip(containers, levels, strict=True)},
        root=root,
    )


def _check_counts(objects: Sequence[Mapping[str, Any]]) -> None:
    for what, keys, most in (
        ("properties", _NAMED, MAX_PROPERTIES),
        ("values of `enum`", ("enum",), MAX_CHOICES),
        ("alternatives", ("allOf", *_ALTERNATIVES), MAX_ALTERNATIVES),
    ):
        if sum(len(value) for value in _held(objects, keys, (dict, list))) > most:
            raise _TooMuch(f"may have at most {most} {what} in all")


def _held(
    objects: Iterable[Mapping[str, Any]], keys: Sequence[str], kinds: tuple[type, ...]
) -> Iterator[Any]:
    """Values of these keys that are of these kinds; another is for the grammar's compiler."""
    for one in objects:
        for key in keys:
            value = one.get(key)
            if isinstance(value, kinds) and not isinstance(value, bool):
                yield value


def _check_combinations(objects: Sequence[Mapping[str, Any]]) -> None:
    if not any(_combines(one) for one in objects):
        return
    lengths = (max(1, len(value)) for value in _held(objects, _ALTERNATIVES, (list,)))
    if _product(lengths, MAX_COMBINATIONS) > MAX_COMBINATIONS:
        raise _TooMuch(
            f"may combine its alternatives in at most {MAX_COMBINATIONS} ways: it has `allOf`, or "
            "alternatives beside each other, and they are multiplied out"
        )


def _combines(one: Mapping[str, Any]) -> bool:
    parts = one.get("allOf")
    several = isinstance(parts, list) and len(parts) > 1
    return several or sum(key in one for key in _COMBINING) > 1


def _product(factors: Iterable[int], most: int) -> int:
    """Stops once it is over `most`: the whole of it may have thousands of digits."""
    product = 1
    for factor in factors:
        product *= factor
        if product > most:
            break
    return product


def _check_numbers(objects: Sequence[Mapping[str, Any]]) -> None:
    counted = sum(_whole(value) for value in _held(objects, _COUNTED, (int, float)))
    if counted > MAX_COUNTED:
        raise _TooMuch(f"may ask for at most {MAX_COUNTED} items or properties by number")
    digits = (_digits(value) for value in _held(objects, ("multipleOf",), (int, float)))
    if _product(digits, MAX_MULTIPLE) > MAX_MULTIPLE:
        raise _TooMuch(f"may ask for multiples of at most {MAX_MULTIPLE}, its digits in all")


def _whole(value: float) -> float:
    """Its size; a whole number may have more digits than a float can hold."""
    return abs(value) if isinstance(value, int) or math.isfinite(value) else math.inf


def _digits(value: float) -> int:
    """`0.25` → 25, `7` → 7: the automaton counts in units of the last digit."""
    if _whole(value) > MAX_MULTIPLE:
        return MAX_MULTIPLE + 1
    number = Decimal(repr(value)).normalize().as_tuple()
    digits = int("".join(map(str, number.digits)))
    return max(1, digits * int(10 ** max(int(number.exponent), 0)))


def _check_patterns(objects: Sequence[Mapping[str, Any]]) -> None:
    patterns = [*_held(objects, ("pattern",), (str,))]
    for named in _held(objects, ("patternProperties",), (dict,)):
        patterns.extend(named)
    if sum(map(len, patterns)) > MAX_CHARACTERS:
        raise _TooMuch(f"may have patterns of at most {MAX_CHARACTERS} characters in all")
    shapes = [measure(pattern, refuse=_TooMuch) for pattern in patterns]
    if sum(shape.repetitions for shape in shapes) > MAX_REPETITIONS:
        raise _TooMuch(f"may ask for at most {MAX_REPETITIONS} repetitions in its patterns in all")


def _check_references(walked: Walked) -> None:
    references = set(_held(walked.objects, ("$ref", "$dynamicRef", "$recursiveRef"), (str,)))
    if any(not reference.startswith("#") for reference in references):
        raise _TooMuch("may refer only to parts of itself (`#/…`)")
    if len(references) > MAX_REFERENCES:
        raise _TooMuch(f"may refer to at most {MAX_REFERENCES} parts of itself")
    whole = walked.heights[id(walked.root)]
    reach = whole + sum(walked.heights.get(id(_target(walked.root, one)), 0) for one in references)
    if reach > MAX_REACH:
        raise _TooMuch(
            f"may be at most {MAX_REACH} levels deep, all the parts that it refers to one after "
            "the other"
        )


def _target(root: Mapping[str, Any], reference: str) -> Any:
    """What a JSON pointer names; the whole document where it names nothing that is here."""
    found: Any = root
    for word in reference.removeprefix("#").split("/")[1:]:
        key = word.replace("~1", "/").replace("~0", "~")
        if isinstance(found, dict) and key in found:
            found = found[key]
        elif isinstance(found, list) and key.isdecimal() and int(key[:9]) < len(found):
            found = found[int(key[:9])]
        else:
            return root
    return found
