"""What a schema may cost is bounded by its structure."""

from __future__ import annotations

import json
import time
from contextlib import suppress
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from adapters.errors import InvalidRequest
from service.gateway.schema_bounds import MAX_DEPTH, MAX_VALUES, check_schema
from tests.hostile_schemas import FITTING, NO_GRAMMAR, TOO_MUCH, WORST, record, text

JSON = st.recursive(
    st.none() | st.booleans() | st.floats() | st.integers() | st.text(max_size=9),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(
                ["pattern", "$ref", "anyOf", "allOf", "items", "properties", "multipleOf",
                 "patternProperties", "minItems", "maxItems", "enum", "x"]
            ),
            inner,
            max_size=4,
        )
    ),
    max_leaves=30,
)  # fmt: skip


@pytest.mark.parametrize("name", TOO_MUCH)
def test_what_costs_too_much_is_refused_by_its_field(name: str) -> None:
    with pytest.raises(InvalidRequest) as refused:
        check_schema(TOO_MUCH[name], param="response_format")
    assert refused.value.param == refused.value.reason == "response_format"
    assert len(refused.value.message) < 200


@pytest.mark.parametrize("schema", [*WORST.values(), *FITTING, *NO_GRAMMAR.values()])
def test_what_is_within_the_bounds_passes(schema: dict[str, Any]) -> None:
    check_schema(schema, param="response_format")


def test_no_depth_overflows_our_own_stack() -> None:
    schema: dict[str, Any] = {}
    for _ in range(100_000):
        schema = {"properties": {"p": schema}}
    with pytest.raises(InvalidRequest, match=f"{MAX_DEPTH} levels"):
        check_schema(schema, param="response_format")


@pytest.mark.parametrize("schema", [{"enum": [0] * 10**6}, {"items": [{}] * 10**6}])
def test_looking_stops_at_the_bound_however_much_there_is(schema: dict[str, Any]) -> None:
    started = time.process_time()
    with pytest.raises(InvalidRequest, match=f"{MAX_VALUES} values"):
        check_schema(schema, param="response_format")
    assert time.process_time() - started < 0.5


@pytest.mark.parametrize("wrong", [None, True, 7, "{}", []])
def test_a_schema_is_an_object(wrong: object) -> None:
    with pytest.raises(InvalidRequest, match="must be a JSON object"):
        check_schema(wrong, param="response_format")


@pytest.mark.parametrize("where", ["items", "not", "contains", "then", "whatever"])
def test_a_bound_holds_wherever_its_keyword_stands(where: str) -> None:
    for inner in ({"maxItems": 10**6}, text("(" * 17 + ")" * 17), {"multipleOf": 10**6}):
        with pytest.raises(InvalidRequest):
            check_schema({where: [{where: inner}]}, param="response_format")


def test_a_property_may_be_called_like_a_keyword() -> None:
    names = ["pattern", "multipleOf", "$ref", "enum", "maxItems", "properties", "anyOf"]
    check_schema(record({name: {"type": "string"} for name in names}), param="response_format")


@pytest.mark.parametrize(
    ("multiple", "passes"),
    [(7, True), (0.01, True), (2.5, True), (997, True), (1009, False), (10**6, False),
     (10**4000, False), (-10, True), (-(10**400), False), (5e-324, True), (1000, True),
     (0.12345, False), (float("inf"), False), (1e300, False), (0, True), (-5, True)],
)  # fmt: skip
def test_a_multiple_counts_without_its_decimal_point(multiple: float, passes: bool) -> None:
    schema = {"type": "number", "multipleOf": multiple}
    if passes:
        check_schema(schema, param="response_format")
        return
    with pytest.raises(InvalidRequest, match="multiples"):
        check_schema(schema, param="response_format")


def test_a_reference_counts_with_all_that_it_leads_to() -> None:
    deep: dict[str, Any] = {"type": "string"}
    for _ in range(20):
        deep = {"items": deep}
    defined = {f"d/{at}~": deep for at in range(30)}
    references = [{"$ref": f"#/$defs/d~1{at}~0"} for at in range(30)]
    check_schema({"$defs": defined, "items": references[:5]}, param="response_format")
    with pytest.raises(InvalidRequest, match="one after the other"):
        check_schema({"$defs": defined, "items": references}, param="response_format")


@pytest.mark.parametrize("number", [10**4000, -(10**400), 1e308, float("nan"), float("inf")])
def test_a_number_of_any_length_is_measured(number: float) -> None:
    for key in ("maxItems", "minProperties"):
        with pytest.raises(InvalidRequest, match="by number"):
            check_schema({key: number}, param="response_format")


@settings(max_examples=300, deadline=None)
@given(JSON)
def test_whatever_is_sent_passes_or_is_refused_and_stays_as_it_was(schema: Any) -> None:
    before = repr(schema)
    with suppress(InvalidRequest):
        check_schema(schema, param="response_format")
    assert repr(schema) == before


def test_everyday_schemas_are_far_from_the_bounds() -> None:
    line = record({"sku": text("^[A-Z]{3}-[0-9]{6}$"), "count": {"type": "integer", "minimum": 1}})
    order = record(
        {
            "id": {"type": "string", "format": "uuid"},
            "mail": text(r"^[\w.+-]{1,64}@[\w-]{1,63}(\.[\w-]{1,63}){1,8}$"),
            "price": {"type": "number", "multipleOf": 0.01},
            "lines": {"type": "array", "items": line, "minItems": 1, "maxItems": 100},
            "note": {"anyOf": [{"type": "string", "maxLength": 4000}, {"type": "null"}]},
        }
    )
    schema = {"$defs": {f"Order{at}": json.loads(json.dumps(order)) for at in range(20)},
              **record({f"o{at}": {"$ref": f"#/$defs/Order{at}"} for at in range(20)})}  # fmt: skip
    check_schema(schema, param="response_format")
