"""What a request is drawn by, where its alias has a canary."""

from __future__ import annotations

from typing import Any

import pytest

from service.gateway.lots import MAX_CHARACTERS, lot_of


def lot(said: object, *headers: tuple[bytes, bytes]) -> str:
    return lot_of({"headers": list(headers)}, said, "req_1")


def test_a_header_of_ours_goes_before_the_user_and_the_user_before_the_conversation() -> None:
    said = {"prompt_cache_key": "talk", "user": "u", "safety_identifier": "s"}
    assert lot(said, (b"x-wardrobe-sticky", b"me")) == "header\0me"
    assert lot(said) == "safety_identifier\0s"
    assert lot({**said, "safety_identifier": None}) == "user\0u"
    assert lot({"prompt_cache_key": "talk"}) == "prompt_cache_key\0talk"


@pytest.mark.parametrize("said", [{}, {"user": ""}, {"user": 5}, {"user": ["a"]}, [], None, "x"])
def test_what_names_nothing_is_drawn_by_itself(said: Any) -> None:
    assert lot(said) == "request\0req_1"


def test_a_lot_is_no_longer_than_a_name() -> None:
    assert len(lot({"user": "a" * 10**6})) == MAX_CHARACTERS + len("user\0")
    assert len(lot({}, (b"x-wardrobe-sticky", b"\xff" * 10**5))) == MAX_CHARACTERS + len("header\0")
