"""Says whose certificates a client of the service believes."""

from __future__ import annotations

import ssl
from pathlib import Path

from adapters.errors import InvalidRequest


def trust(authority: Path | None) -> ssl.SSLContext:
    """A certificate is believed where `authority` has signed it, or one that this machine or
    SSL_CERT_FILE knows.

    Raises InvalidRequest for an authority that cannot be read.
    """
    # OpenSSL's own default places: without the environment, httpx2 would leave SSL_CERT_FILE out
    trusted = ssl.create_default_context()
    if authority is not None:
        try:
            trusted.load_verify_locations(authority)
        except OSError as error:  # ssl.SSLError is one
            raise InvalidRequest(
                f"WARDROBE_SERVICE_CA: {authority} cannot be read as certificates in PEM"
            ) from error
    return trusted
