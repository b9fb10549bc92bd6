"""TLS by certificate files, which may change while the service runs.

A context that is in use is never changed, because a pair that does not fit would leave it with half
of each. What has changed is loaded into a context of its own, and each handshake takes the newest.
"""

from __future__ import annotations

import asyncio
import ssl
from pathlib import Path

import structlog

from adapters.errors import InvalidRequest
from adapters.settings import Settings
from service.launch.tls_context import load_context
from service.reconcile.registry_calls import RegistryCalls

WATCH_SECONDS = 1.0

log = structlog.get_logger("wardrobe.tls")


def certificate_files(settings: Settings) -> tuple[Path, Path] | None:
    """Certificate chain and key; None without TLS. Raises InvalidRequest for one alone."""
    certificate, key = settings.tls_cert, settings.tls_key
    if certificate is None and key is None:
        return None
    if certificate is None or key is None:
        raise InvalidRequest("TLS needs both WARDROBE_TLS_CERT and WARDROBE_TLS_KEY")
    return certificate, key


class CertificateWatch:
    """Gives a server's context the pair that the files hold now."""

    def __init__(self, serving: ssl.SSLContext, files: tuple[Path, Path]) -> None:
        """`serving` is the context that connections are accepted with. Raises InvalidRequest."""
        self._files = files
        self._calls = RegistryCalls("tls")
        self._seen = self._fingerprint()
        self._newest = load_context(*files)
        serving.sni_callback = self._choose

    def _choose(
        self, connection: ssl.SSLSocket | ssl.SSLObject, _name: str | None, _: ssl.SSLContext
    ) -> None:
        """Called in every handshake, whether or not the client names a server."""
        connection.context = self._newest

    async def run(self) -> None:
        """Watches until cancelled."""
        while True:
            await asyncio.sleep(WATCH_SECONDS)
            await self.attempt()

    async def attempt(self) -> None:
        """One look that never raises."""
        try:
            await self._calls(self.look)
        except Exception:  # the edge of a background task: logged, tried again
            log.exception("certificate_not_read")

    def look(self) -> None:
        """Takes up the files' pair where it has changed; what is no pair changes nothing."""
        seen = self._fingerprint()
        if seen == self._seen:
            return
        try:
            newest = load_context(*self._files)
        except InvalidRequest as error:
            # the two are written one after the other: looked at again until they fit
            log.warning("certificate_invalid", reason=error.message)
            return
        self._seen, self._newest = seen, newest
        log.info("certificate_changed")

    def close(self) -> None:
        """Lets go of the thread."""
        self._calls.close()

    def _fingerprint(self) -> tuple[tuple[int, int, int], ...]:
        """Of the real files: a mounted Secret swaps a link above them."""
        try:
            stats = [path.stat() for path in self._files]
        except OSError:
            return ()
        return tuple((stat.st_ino, stat.st_size, stat.st_mtime_ns) for stat in stats)
