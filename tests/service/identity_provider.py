"""A real identity provider for tests: it publishes keys over HTTP and signs tokens."""

from __future__ import annotations

import base64
import json
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import jwt
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from jwt.algorithms import ECAlgorithm, OKPAlgorithm, RSAAlgorithm

AUDIENCE = "wardrobe"


def new_key(algorithm: str) -> Any:
    """A private key that signs by this algorithm."""
    if algorithm.startswith("ES"):
        return ec.generate_private_key(ec.SECP256R1() if algorithm == "ES256" else ec.SECP384R1())
    if algorithm == "EdDSA":
        return ed25519.Ed25519PrivateKey.generate()
    return rsa.generate_private_key(public_exponent=65537, key_size=2048)


def public_jwk(key: Any, kid: str, **more: Any) -> dict[str, Any]:
    """What an issuer publishes of its key."""
    public = key.public_key()
    kinds: list[tuple[type[Any], Any]] = [
        (rsa.RSAPublicKey, RSAAlgorithm),
        (ec.EllipticCurvePublicKey, ECAlgorithm),
        (ed25519.Ed25519PublicKey, OKPAlgorithm),
    ]
    (made,) = [
        each.to_jwk(public, as_dict=True) for kind, each in kinds if isinstance(public, kind)
    ]
    return {**made, "kid": kid, "use": "sig", **more}


@dataclass
class TestIssuer:
    """The provider; what it publishes, and how it behaves, is a test's to change."""

    __test__ = False

    algorithm: str = "RS256"
    url: str = ""
    documents: dict[str, Any] = field(default_factory=dict)
    """Path → JSON object, or bytes, or a status."""
    asked: list[str] = field(default_factory=list)
    pause_seconds: float = 0.0

    def __post_init__(self) -> None:
        self.keys = {"one": new_key(self.algorithm)}

    def publish(self) -> None:
        """The discovery document, and the keys as they are now."""
        self.documents["/.well-known/openid-configuration"] = {
            "issuer": self.url,
            "jwks_uri": f"{self.url}/keys",
        }
        self.documents["/keys"] = {"keys": [public_jwk(k, kid) for kid, k in self.keys.items()]}

    def claims(self, **changes: Any) -> dict[str, Any]:
        """A token's for a quarter of an hour; a None leaves a claim out."""
        now = int(time.time())
        said = {
            "iss": self.url, "aud": AUDIENCE, "sub": "person@example.com", "iat": now,
            "exp": now + 900, "roles": ["wardrobe:support:infer", "wardrobe:support:base"],
            **changes,
        }  # fmt: skip
        return {name: value for name, value in said.items() if value is not None}

    def token(
        self,
        *,
        kid: str = "one",
        key: Any = None,
        header: dict[str, Any] | None = None,
        **claims: Any,
    ) -> str:
        """A signed token."""
        return jwt.encode(
            self.claims(**claims),
            key or self.keys[kid],
            algorithm=self.algorithm,
            headers={"kid": kid, "typ": "JWT", **(header or {})},
        )


def part(value: object) -> str:
    """One part of a token that no library would write."""
    text = value if isinstance(value, bytes) else json.dumps(value).encode()
    return base64.urlsafe_b64encode(text).rstrip(b"=").decode()


@contextmanager
def issuing(algorithm: str = "RS256") -> Iterator[TestIssuer]:
    """A provider on a free port of this machine."""
    issuer = TestIssuer(algorithm)

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            issuer.asked.append(self.path)
            found = issuer.documents.get(self.path, 404)
            time.sleep(issuer.pause_seconds)
            if isinstance(found, int):
                self.send_response(found)
                self.send_header("Location", f"{issuer.url}/keys")
                self.send_header("Content-Length", "0")
                self.end_headers()
                return
            content = found if isinstance(found, bytes) else json.dumps(found).encode()
            self.send_response(200)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, *_: object) -> None: ...

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    issuer.url = f"http://127.0.0.1:{server.server_address[1]}"
    issuer.publish()
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield issuer
    finally:
        server.shutdown()
        server.server_close()
        thread.join(10)
