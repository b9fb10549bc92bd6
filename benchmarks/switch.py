"""A switch in front of the gateway, for benchmarks only: the same process with and without it.

Given to vLLM as one more `--middleware` (the last one is the outermost). A request that carries
the run's secret goes to what lies below the gateway, all others take the ordinary way, so both
sides share one engine, one event loop and one moment.
"""

from __future__ import annotations

import hmac
import os
from collections.abc import Mapping

from starlette.types import ASGIApp, Receive, Scope, Send

from service.gateway.gateway import Gateway

SECRET = "WARDROBE_BENCHMARK_SECRET"  # noqa: S105 - the variable's name
HEADER = b"x-wardrobe-benchmark"
MIN_SECRET = 32


class NoSwitch(Exception):
    """The switch cannot work: no secret of this run, or no gateway below it."""


class Switch:
    """ASGI middleware. Raises NoSwitch when it is put up where it does not belong."""

    def __init__(self, app: ASGIApp, environment: Mapping[str, str] = os.environ) -> None:
        self._secret = environment.get(SECRET, "").encode()
        if len(self._secret) < MIN_SECRET:
            raise NoSwitch(f"{SECRET} must hold at least {MIN_SECRET} characters")
        self._app = app
        self._below = below_gateway(app)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        bare = any(
            name == HEADER and hmac.compare_digest(value, self._secret)
            for name, value in scope.get("headers", ())
        )
        await (self._below if bare else self._app)(scope, receive, send)


def below_gateway(app: ASGIApp) -> ASGIApp:
    """The application that the gateway wraps, however deep it lies. Raises NoSwitch."""
    layer: object = app
    while layer is not None:
        inner: ASGIApp | None = vars(layer).get("app") or vars(layer).get("_app")
        if isinstance(layer, Gateway) and inner is not None:
            return inner
        layer = inner
    raise NoSwitch("there is no gateway below the switch")
