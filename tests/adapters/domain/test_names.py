"""Names and ids."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

import adapters
from adapters.domain.names import (
    is_name,
    new_file_id,
    new_job_id,
    parse_version,
    split_version,
    version_name,
)
from adapters.errors import InvalidRequest

NAMES = st.from_regex(r"[a-z]([a-z0-9-]{0,38}[a-z0-9])?", fullmatch=True)


def test_the_package_is_ours_and_not_the_one_on_the_index() -> None:
    assert adapters.__doc__ is not None
    assert "Wardrobe" in adapters.__doc__


@given(NAMES)
def test_a_short_lower_case_word_is_a_name(text: str) -> None:
    assert is_name(text)


@pytest.mark.parametrize(
    "text",
    ["", "-a", "a-", "A", "1a", "a_b", "a.b", "a/b", "a:1", "..", "a" * 41, "ä", "a\n", "a b", "٣"],
)
def test_anything_else_is_none(text: str) -> None:
    assert not is_name(text)


@given(st.text())
def test_no_name_can_be_a_path_or_hide_anything(text: str) -> None:
    if is_name(text):
        assert re.fullmatch("[a-z0-9-]{1,40}", text)


@given(NAMES, st.integers(1, 999_999_999))
def test_a_versions_name_is_read_back(adapter: str, number: int) -> None:
    assert parse_version(version_name(adapter, number)) == (adapter, number)


@pytest.mark.parametrize(
    "text",
    ["support", "support:", "support:0", "support:01", "support:-1", ":1", "Support:1",
     "support:1:2", "support:1 ", "support:٣", "support:1\n", "support:1234567890"],
)  # fmt: skip
def test_what_looks_otherwise_is_no_version(text: str) -> None:
    assert split_version(text) is None
    with pytest.raises(InvalidRequest):
        parse_version(text)


@given(st.text(max_size=60))
def test_every_text_is_read_or_refused(text: str) -> None:
    parts = split_version(text)
    assert parts is None or version_name(*parts) == text


def test_ids_are_prefixed_and_never_the_same() -> None:
    for make, prefix in ((new_file_id, "file-"), (new_job_id, "ftjob-")):
        made = {str(make()) for _ in range(100)}
        assert len(made) == 100
        assert all(re.fullmatch(prefix + "[0-9a-f]{24}", text) for text in made)
