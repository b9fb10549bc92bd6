"""Makes a server's TLS context of a certificate's files; light, for a process that does little."""

from __future__ import annotations

import ssl
from pathlib import Path

from adapters.errors import InvalidRequest


def load_context(certificate: Path, key: Path) -> ssl.SSLContext:
    """A server's context with this pair. Raises InvalidRequest, which names no content."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    try:
        context.load_cert_chain(certificate, key, password=_no_password)
    except ssl.SSLError:
        raise InvalidRequest(
            f"{certificate} and {key} are no certificate in PEM and its key, without a password"
        ) from None
    except OSError as error:
        raise InvalidRequest(f"{certificate}, {key}: {error.strerror}") from None
    return context


def _no_password() -> str:
    """A key that asks for one would ask on the terminal."""
    return ""
