"""Patterns are measured without being compiled."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.gateway.pattern_bounds import shape


@pytest.mark.parametrize(
    ("pattern", "nesting", "repetitions"),
    [
        ("abc", 0, 0),
        ("a{3}", 0, 3),
        ("a{2,5}", 0, 5),
        ("a{3,}", 0, 3),
        ("(a{2}b{3}){10}", 1, 60),
        ("(a{1,1000}){1,1000}", 1, 1_001_000),
        ("((a{50}){50}){50}", 2, 127_550),
        ("(a)(b)((c))", 2, 0),
        (r"\(\(\{3\}", 0, 0),
        ("[(((]{4}", 0, 4),
        ("[^])(]{4}", 0, 4),
        ("[]](a)", 1, 0),
        (r"[\]((](a{2})", 1, 2),
        ("a{b}c{,3}", 0, 3),
        ("a{ 2 , 9999999999999 }", 0, 9_999_999_999_999),
        ("((((", 4, 0),
        ("))))a{2}", 0, 2),
        ("[abc", 0, 0),
        ("a\\", 0, 0),
    ],
)
def test_the_shape_of_a_pattern(pattern: str, nesting: int, repetitions: int) -> None:
    found = shape(pattern)
    assert (found.nesting, found.repetitions) == (nesting, repetitions)


@given(st.text(alphabet="a(){}[]\\^0123456789,|*+?.", max_size=200))
def test_whatever_stands_in_a_pattern_it_is_measured(pattern: str) -> None:
    found = shape(pattern)
    assert 0 <= found.nesting <= pattern.count("(")
    assert found.repetitions >= 0
