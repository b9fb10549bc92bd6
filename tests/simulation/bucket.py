"""Object storage that errs: a bucket whose replicas reach it through a proxy that harms.

Whoever publishes reaches the bucket itself, so that what is harmed is what the service does.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass

from tests.servers.fault_proxy import Fault, HttpFaultProxy
from tests.servers.s3 import S3Server

REQUESTS = 8
"""Harmed by one fault: more than one artifact's share, so that repeating does not always help."""
HARM: Mapping[str, Fault] = {
    "error": Fault(status=503),
    "delay": Fault(delay_s=1.5),
    "cut": Fault(reset_after=20),
    "lost_answer": Fault(lose_answer=True),
}


@dataclass(frozen=True, kw_only=True)
class HarmedBucket:
    """A bucket behind its proxy (`tests.simulation.chaos.Storage`)."""

    server: S3Server
    proxy: HttpFaultProxy
    name: str

    @property
    def url(self) -> str:
        return f"s3://{self.name}/wardrobe"

    @property
    def environment(self) -> Mapping[str, str]:
        """What a replica needs: everything goes through the proxy."""
        return self.server.environment(self.proxy.endpoint)

    def harm_next(self, kind: str) -> None:
        self.proxy.harm(HARM[kind], times=REQUESTS)

    def heal(self) -> None:
        self.proxy.heal()


@contextmanager
def harmed_bucket() -> Iterator[HarmedBucket]:
    """A started server with an empty bucket."""
    with S3Server() as server, HttpFaultProxy(server.port) as proxy:
        yield HarmedBucket(server=server, proxy=proxy, name=server.bucket())
