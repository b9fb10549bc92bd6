"""An issuer's keys, from a real server that behaves well or badly."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import rsa
from prometheus_client import CollectorRegistry

from adapters.errors import InvalidRequest, Unavailable
from adapters.settings import Settings
from service.metrics import Metrics
from service.tokens.issuer import KEY_TYPES, Issuer, issuer_of
from service.tokens.issuer_keys import MISS_SECONDS, STALE_SECONDS, IssuerKeys
from service.tokens.key_set import MAX_DOCUMENT, fetch_keys
from tests.service.identity_provider import AUDIENCE, TestIssuer, issuing, public_jwk


@pytest.fixture
def provider() -> Iterator[TestIssuer]:
    with issuing() as started:
        yield started


def named(provider: TestIssuer, **changes: Any) -> Issuer:
    made = issuer_of(
        Settings(oidc_issuer=provider.url, oidc_audience=AUDIENCE, oidc_algorithm="RS256")
    )
    assert made is not None
    return replace(made, **changes)


@pytest.mark.parametrize("algorithm", KEY_TYPES)
def test_keys_are_found_by_discovery_or_where_the_settings_say(algorithm: str) -> None:
    with issuing(algorithm) as provider:
        found = fetch_keys(named(provider, algorithm=algorithm))
        assert list(found) == ["one"]
        provider.documents.pop("/.well-known/openid-configuration")
        told = named(provider, algorithm=algorithm, keys_url=f"{provider.url}/keys")
        assert fetch_keys(told) == found


@pytest.mark.parametrize(
    "document",
    [
        404, 302, 500, b"", b"not json", b"[]", b"{}", {"keys": {}}, {"keys": []}, {"keys": ["x"]},
        b" " * (MAX_DOCUMENT + 2), b"[" * 100_000, {"keys": [{"kty": "RSA"}]},
    ],
    ids=lambda document: repr(document)[:24],
)  # fmt: skip
def test_what_is_no_key_set_is_none(provider: TestIssuer, document: Any) -> None:
    provider.documents["/keys"] = document
    with pytest.raises(Unavailable) as raised:
        fetch_keys(named(provider))
    assert raised.value.reason == "issuer_unavailable"


def test_no_redirect_is_followed(provider: TestIssuer) -> None:
    provider.documents["/moved"] = 302
    with pytest.raises(Unavailable):
        fetch_keys(named(provider, keys_url=f"{provider.url}/moved"))
    assert provider.asked == ["/moved"]


@pytest.mark.parametrize(
    "discovery",
    [
        {"issuer": "http://127.0.0.1:1", "jwks_uri": "…/keys"},
        {"issuer": "…", "jwks_uri": "http://169.254.169.254/keys"},
        {"issuer": "…", "jwks_uri": "file:///etc/passwd"},
        {"issuer": "…", "jwks_uri": ["…/keys"]},
        {"issuer": ["…"], "jwks_uri": "…/keys"},
        {"issuer": "…"},
    ],
)
def test_a_discovery_document_of_another_or_that_leads_elsewhere_is_not_believed(
    provider: TestIssuer, discovery: dict[str, Any]
) -> None:
    def said(value: Any) -> Any:
        return (
            [said(each) for each in value]
            if isinstance(value, list)
            else value.replace("…", provider.url)
        )

    told = {name: said(value) for name, value in discovery.items()}
    provider.documents["/.well-known/openid-configuration"] = told
    with pytest.raises(Unavailable):
        fetch_keys(named(provider))
    assert "/keys" not in provider.asked


def test_only_public_keys_of_the_algorithm_and_of_full_length_count(provider: TestIssuer) -> None:
    good = provider.keys["one"]
    short = rsa.generate_private_key(public_exponent=65537, key_size=1024)
    private = good.private_numbers()
    provider.documents["/keys"] = {
        "keys": [
            public_jwk(good, "good"),
            public_jwk(good, "for encryption", use="enc"),
            public_jwk(good, "of another algorithm", alg="RS512"),
            public_jwk(short, "short"),
            {**public_jwk(good, "with its secret"), "d": _number(private.d)},
            {"kty": "oct", "kid": "shared", "k": "c2VjcmV0"},
            {"kty": "RSA", "kid": "broken", "n": "!", "e": "AQAB"},
            {**public_jwk(good, "x"), "kid": 7},
            {**public_jwk(good, "x"), "kid": ""},
            {**public_jwk(good, "x"), "kid": "k" * 300},
        ]
    }
    assert set(fetch_keys(named(provider))) == {"good"}


def _number(value: int) -> str:
    from jwt.utils import to_base64url_uint

    return to_base64url_uint(value).decode()


@pytest.mark.parametrize(
    "settings",
    [
        {"oidc_issuer": "https://id.example"},
        {"oidc_issuer": "http://id.example", "oidc_audience": "x"},
        {"oidc_issuer": "ftp://id.example", "oidc_audience": "x"},
        {"oidc_issuer": "https://user:pw@id.example", "oidc_audience": "x"},
        {"oidc_issuer": "https://", "oidc_audience": "x"},
        {"oidc_issuer": "https://id.example", "oidc_audience": "x", "oidc_jwks_url": "file:///x"},
    ],
)
def test_an_issuer_that_is_half_said_or_not_secure_is_refused(settings: dict[str, Any]) -> None:
    with pytest.raises(InvalidRequest):
        issuer_of(Settings(**settings))


def test_without_an_issuer_there_are_no_tokens() -> None:
    assert issuer_of(Settings()) is None


class Hour:
    """A clock that a test moves."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


async def test_a_key_that_is_not_known_costs_one_look_now_and_then_however_many_ask() -> None:
    clock, looks = Hour(), []

    def fetch() -> dict[str, Any]:
        looks.append(clock.now)
        return {"one": "key"}

    keys = IssuerKeys(fetch, metrics=Metrics(CollectorRegistry()), clock=clock)
    await keys.step()
    assert keys.get("one") == "key"
    assert not any(keys.look_for_more() for _ in range(1000))
    clock.now += MISS_SECONDS
    assert all(keys.look_for_more() for _ in range(1000))
    await keys.step()
    assert not any(keys.look_for_more() for _ in range(1000))
    assert len(looks) == 2
    keys.close()


async def test_keys_outlive_an_outage_but_not_for_ever() -> None:
    clock, answers = Hour(), [{"one": "key"}]

    def fetch() -> dict[str, Any]:
        if not answers:
            raise Unavailable("away", code="issuer_unavailable")
        return answers.pop()

    keys = IssuerKeys(fetch, metrics=Metrics(CollectorRegistry()), clock=clock)
    assert not keys.readable
    await keys.step()
    with pytest.raises(Unavailable):
        await keys.step()
    assert keys.get("one") == "key"
    clock.now += STALE_SECONDS
    assert keys.get("one") is None
    keys.close()
