"""Bearer tokens of a real issuer, through the real service: good ones, and every bad one."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx2
import jwt
import openai
import pytest
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from adapters.domain.principals import Scope
from adapters.errors import InvalidRequest, NotPermitted
from service.tokens.holders import MAX_TOKEN
from service.tokens.roles import granted, parse_stands
from tests.service.identity_provider import AUDIENCE, TestIssuer, issuing, new_key, part
from tests.service.world import World, running
from tests.simulation.engine import BASE

HELLO = {"model": BASE, "messages": [{"role": "user", "content": "hi"}]}


@pytest.fixture(scope="module")
def provider() -> Iterator[TestIssuer]:
    with issuing() as started:
        yield started


@pytest.fixture(scope="module")
def world(provider: TestIssuer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    state = tmp_path_factory.mktemp("tokens") / "state"
    named: dict[str, Any] = {"oidc_issuer": provider.url, "oidc_audience": AUDIENCE}
    with running(state, **named) as started:
        wait_until(lambda: ask(started, provider.token()).status_code == 200)
        yield started


def ask(world: World, token: str, path: str = "/v1/models") -> httpx2.Response:
    return httpx2.get(world.url + path, headers={"Authorization": f"Bearer {token}"})


def wait_until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_a_token_does_what_its_roles_say(world: World, provider: TestIssuer) -> None:
    token = provider.token()
    headers = {"Authorization": f"Bearer {token}"}
    answered = httpx2.post(f"{world.url}/v1/chat/completions", json=HELLO, headers=headers)
    assert answered.status_code == 200
    assert ask(world, token, "/v1/files").status_code == 403
    training = provider.token(roles=["wardrobe:support:train", "other:admin", 7, None])
    assert ask(world, training, "/v1/files").status_code == 200
    assert ask(world, training).status_code == 403
    assert ask(world, provider.token(roles="wardrobe:admin"), "/v1/keys").status_code == 200
    assert ask(world, provider.token(roles=["wardrobe:metrics"]), "/v1/keys").status_code == 403


def test_a_keys_holder_is_found_as_before(world: World) -> None:
    assert ask(world, world.key("support")).status_code == 200
    assert ask(world, world.key("admin"), "/v1/keys").status_code == 200


def test_a_holder_has_a_name_without_a_person_in_it(world: World, provider: TestIssuer) -> None:
    holders = world.runtime.swap.tokens
    assert holders is not None
    first, again, other = (
        holders.principal(provider.token(**claims).encode())
        for claims in ({}, {"exp": int(time.time()) + 60}, {"sub": "other@example.com"})
    )
    assert first is not None
    assert again is not None
    assert other is not None
    assert first.id == again.id != other.id
    assert first.id.startswith("user_")
    assert "person" not in first.id
    assert len(first.id) <= 64


@pytest.mark.parametrize("roles", [None, [], ["admin"], [["wardrobe:admin"]], {"a": 1}, 7, "x"])
def test_a_token_without_a_role_here_may_nothing(
    world: World, provider: TestIssuer, roles: Any
) -> None:
    refused = ask(world, provider.token(roles=roles))
    assert refused.status_code == 403
    assert refused.json()["error"]["code"] == "insufficient_permissions"


def test_a_token_for_a_unit_that_is_not_there_is_not_known(
    world: World, provider: TestIssuer
) -> None:
    assert ask(world, provider.token(roles=["wardrobe:legal:infer"])).status_code == 401


NOW = int(time.time())


def bad_tokens(provider: TestIssuer) -> Iterator[tuple[str, str]]:
    """Every way to be no token of this issuer's for this service, with its name."""
    good, key = provider.token(), provider.keys["one"]
    head, body, signature = good.split(".")
    claims = provider.claims()
    public = key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)

    def forged(header: dict[str, Any], secret: bytes = public) -> str:
        import hashlib
        import hmac

        signed = f"{part({'typ': 'JWT', 'kid': 'one', **header})}.{part(claims)}"
        return f"{signed}.{part(hmac.digest(secret, signed.encode(), hashlib.sha256))}"

    stranger = new_key("RS256")
    jwk = {"kty": "RSA", "kid": "one"}
    yield "alg none", f"{part({'alg': 'none', 'typ': 'JWT', 'kid': 'one'})}.{body}."
    yield "alg None", f"{part({'alg': 'None', 'typ': 'JWT', 'kid': 'one'})}.{body}.{signature}"
    yield "HS256 with the public key", forged({"alg": "HS256"})
    yield "HS256 said to be RS256", forged({"alg": "RS256"})
    yield "no signature", f"{head}.{body}."
    yield "another signature", f"{head}.{body}.{signature[:-4]}AAAA"
    yield "another body", f"{head}.{part({**claims, 'sub': 'root'})}.{signature}"
    yield "a stranger's key", provider.token(key=stranger)
    yield "a stranger's key in jwk", provider.token(key=stranger, header={"jwk": jwk})
    for name in ("jku", "x5u"):
        header = {name: f"{provider.url}/evil"}
        yield f"a stranger's key at {name}", provider.token(key=stranger, header=header)
    yield "a stranger's chain", provider.token(key=stranger, header={"x5c": ["AAAA"]})
    yield "crit", provider.token(header={"crit": ["exp"]})
    yield "another alg", jwt.encode(claims, key, "RS512", {"kid": "one"})
    yield "no kid", f"{part({'alg': 'RS256', 'typ': 'JWT'})}.{body}.{signature}"
    for kid in (7, None, ["one"], "", "../one", "one\x00"):
        yield f"kid {kid!r}", _signed(provider, _parts({"typ": "JWT", "kid": kid}, claims))
    for kind in ("", "JWE", "logout+jwt", 7, None):
        yield f"typ {kind!r}", _signed(provider, _parts({"typ": kind, "kid": "one"}, claims))
    wrong: list[dict[str, Any]] = [
        {"iss": "https://evil.example"}, {"iss": [provider.url]}, {"iss": provider.url + "/"},
        {"iss": None}, {"aud": "another"}, {"aud": None}, {"aud": []}, {"aud": ["another"]},
        {"aud": [AUDIENCE, 7]}, {"aud": {"wardrobe": 1}}, {"sub": None}, {"sub": ""}, {"sub": 7},
        {"sub": "x" * 2000}, {"exp": None}, {"exp": NOW - 3600}, {"exp": "soon"}, {"exp": True},
        {"exp": str(NOW + 900)}, {"exp": [NOW + 900]}, {"exp": 1e400}, {"exp": 10**400},
        {"nbf": NOW + 3600}, {"nbf": "x"}, {"iat": NOW + 3600}, {"iat": "x"}, {"iat": True},
    ]  # fmt: skip
    for change in wrong:
        written = part({n: v for n, v in {**claims, **change}.items() if v is not None})
        yield f"claims {str(change)[:40]}", _signed(provider, f"{head}.{written}")
    yield "claims that are a list", _signed(provider, f"{head}.{part([1])}")
    yield "claims that nest", _signed(provider, f"{head}.{part(b'[' * 3000)}")
    yield "claims that are no text", _signed(provider, f"{head}.{part(bytes([0xFF, 0xFE]))}")
    yield "two parts", f"{head}.{body}"
    yield "four parts", f"{good}.x"
    yield "five parts", f"{head}.{body}.x.y.z"
    yield "too long", provider.token(pad="x" * MAX_TOKEN)
    yield "empty parts", "eyJ.."
    yield "no base64", "eyJ!.eyJ!.!"


def _parts(header: dict[str, Any], claims: dict[str, Any]) -> str:
    return f"{part({'alg': 'RS256', **header})}.{part(claims)}"


def _signed(provider: TestIssuer, text: str) -> str:
    from cryptography.hazmat.primitives.asymmetric.padding import PKCS1v15
    from cryptography.hazmat.primitives.hashes import SHA256

    return f"{text}.{part(provider.keys['one'].sign(text.encode(), PKCS1v15(), SHA256()))}"


def test_no_bad_token_is_taken_and_none_leads_anywhere(world: World, provider: TestIssuer) -> None:
    told = set()
    for name, token in bad_tokens(provider):
        answer = ask(world, token)
        assert answer.status_code == 401, (name, answer.text[:200])
        told.add(answer.text)
        assert "person@example.com" not in answer.text
    assert len(told) <= 2
    assert {path for path in provider.asked if path not in provider.documents} == set()
    assert ask(world, provider.token()).status_code == 200


def test_a_key_that_the_issuer_takes_into_use_is_found_and_one_that_it_ends_is_not_believed(
    tmp_path: Path,
) -> None:
    with issuing() as provider:
        named: dict[str, Any] = {"oidc_issuer": provider.url, "oidc_audience": AUDIENCE}
        with running(tmp_path / "state", **named) as world:
            before = provider.token()
            wait_until(lambda: ask(world, before).status_code == 200)
            provider.keys = {"two": new_key("RS256")}
            provider.publish()
            tokens = world.runtime.swap.tokens
            assert tokens is not None
            tokens.keys._looked_at -= 3600.0  # as if it was long ago
            after = provider.token(kid="two")
            first = ask(world, after)
            assert (first.status_code, first.json()["error"]["code"]) == (503, "issuer_unavailable")
            assert int(first.headers["retry-after"]) >= 1
            wait_until(lambda: ask(world, after).status_code == 200)
            assert ask(world, before).status_code == 401


def test_an_issuer_that_is_slow_holds_up_nobody(tmp_path: Path) -> None:
    with issuing() as provider:
        provider.pause_seconds = 3.0
        named: dict[str, Any] = {"oidc_issuer": provider.url, "oidc_audience": AUDIENCE}
        with running(tmp_path / "state", **named) as world:
            began = time.monotonic()
            assert ask(world, world.key("support")).status_code == 200
            assert ask(world, provider.token()).status_code == 503
            assert time.monotonic() - began < 2.0


@pytest.mark.parametrize(
    ("roles", "unit", "scopes"),
    [
        (["wardrobe:support:infer"], "support", {Scope.INFER}),
        (
            ["wardrobe:support:infer", "wardrobe:support:train"],
            "support",
            {Scope.INFER, Scope.TRAIN},
        ),
        (["wardrobe:metrics"], None, {Scope.METRICS}),
        (["wardrobe:admin", "wardrobe:support:infer"], None, {Scope.ADMIN, Scope.INFER}),
        (["wardrobe:support:infer", "wardrobe:metrics"], "support", {Scope.INFER, Scope.METRICS}),
    ],
)
def test_roles_grant_what_they_say(roles: Any, unit: str | None, scopes: set[Scope]) -> None:
    assert granted(roles) == {unit: frozenset(scopes)}


@pytest.mark.parametrize(
    "roles",
    [
        ["wardrobe:support:admin"], ["wardrobe:support:metrics"], ["wardrobe:infer"],
        ["wardrobe:Support:infer"], ["wardrobe:../x:infer"], ["wardrobe::infer"], ["wardrobe:"],
        ["wardrobe:support:everything"],
        ["wardrobe:admin"] * 300, ["Wardrobe:admin"], ["wardrobe:admin:"],
    ],
)  # fmt: skip
def test_what_is_no_role_grants_nothing(roles: Any) -> None:
    with pytest.raises(NotPermitted):
        granted(roles)


def test_roles_of_several_units_are_granted_unit_by_unit() -> None:
    roles = ["wardrobe:support:infer", "wardrobe:sales:read", "wardrobe:metrics"]
    assert granted(roles) == {
        "support": {Scope.INFER, Scope.METRICS},
        "sales": {Scope.READ, Scope.METRICS},
    }
    assert granted([*roles, "wardrobe:admin"]).keys() == {None}


def test_a_group_grants_what_the_settings_say_that_it_stands_for() -> None:
    stands = parse_stands('{"ml": ["wardrobe:support:infer", "wardrobe:hr:read"], "none": []}')
    assert granted(["ml", "others"], stands) == {"support": {Scope.INFER}, "hr": {Scope.READ}}
    for nothing in (["others"], ["none"], [["ml"]], {"ml": 1}):
        with pytest.raises(NotPermitted):
            granted(nothing, stands)


@pytest.mark.parametrize(
    "text",
    ["ml", "[]", "7", '{"ml": "wardrobe:admin"}', '{"ml": ["admin"]}', '{"ml": [7]}',
     '{"ml": ["wardrobe:support:admin"]}', '{"ml": [["wardrobe:admin"]]}'],
)  # fmt: skip
def test_settings_that_say_no_roles_are_refused_at_the_start(text: str) -> None:
    with pytest.raises(InvalidRequest, match="WARDROBE_OIDC_ROLES"):
        parse_stands(text)


def test_a_token_for_several_units_asks_as_the_one_that_it_names(
    world: World, provider: TestIssuer
) -> None:
    token = provider.token(roles=["wardrobe:support:read", "wardrobe:sales:read"])

    def units(**project: str) -> set[str]:
        client = world.client(api_key=token, **project)
        listed = client.get("/units", cast_to=object)
        return {unit["id"] for unit in listed["data"]}

    assert units(project="support") == {"support"}
    assert units(project="sales") == {"sales"}
    for wrong in ({}, {"project": "hr"}, {"project": ""}):
        with pytest.raises(openai.PermissionDeniedError, match="OpenAI-Project"):
            units(**wrong)
