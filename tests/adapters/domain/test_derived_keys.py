"""One secret, a key for each purpose."""

from __future__ import annotations

import hashlib
import hmac

import pytest
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from adapters.domain.derived_keys import Purpose, derive

SECRET = b"p" * 32


@pytest.mark.parametrize("purpose", Purpose)
def test_keys_are_derived_as_the_standard_says(purpose: Purpose) -> None:
    standard = HKDF(algorithm=SHA256(), length=32, salt=None, info=purpose.encode())
    assert derive(SECRET, purpose) == standard.derive(SECRET)


def test_no_two_purposes_share_a_key_and_none_is_the_secret() -> None:
    made = {derive(SECRET, purpose) for purpose in Purpose}
    assert len(made | {SECRET}) == len(Purpose) + 1
    assert made.isdisjoint(derive(b"q" * 32, purpose) for purpose in Purpose)


@pytest.mark.parametrize("purpose", Purpose)
def test_what_is_made_for_a_purpose_is_nothing_under_the_secret_itself(purpose: Purpose) -> None:
    text = b"the same text"
    assert hmac.digest(derive(SECRET, purpose), text, "sha256") != hmac.digest(
        SECRET, text, hashlib.sha256
    )
