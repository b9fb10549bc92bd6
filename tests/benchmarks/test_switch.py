"""The switch: past the gateway with this run's secret, through it without."""

from __future__ import annotations

from typing import Any

import pytest
from fastapi import FastAPI
from starlette.types import Message, Receive, Scope, Send

from benchmarks.switch import HEADER, SECRET, NoSwitch, Switch, below_gateway
from service.gateway.gateway import Gateway

KEY = "k" * 43


class Engine:
    """Stands for what lies below the gateway."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": 204, "headers": []})


class Layer:
    """A middleware between the switch and the gateway, as the web framework has them."""

    def __init__(self, app: Any) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await self.app(scope, receive, send)


class Closed:
    """A runtime that knows no key at all."""

    class Metrics:
        class Refused:
            def labels(self, code: str) -> Any:
                return self

            def inc(self) -> None: ...

        refused = Refused()

    metrics = Metrics()
    draining = False

    def tell(self, record: Any) -> None: ...

    def authenticate(self, header: bytes | None, others: Any = ()) -> None:
        from adapters.errors import InvalidKey

        raise InvalidKey("this key is not known")


async def status(app: Any, *headers: tuple[bytes, bytes]) -> int:
    sent: list[Message] = []
    host = FastAPI()
    host.state.wardrobe = Closed()

    async def receive() -> Message:
        return {"type": "http.request", "body": b"{}", "more_body": False}

    async def send(message: Message) -> None:
        sent.append(message)

    scope = {
        "type": "http",
        "method": "POST",
        "path": "/v1/chat/completions",
        "headers": list(headers),
        "app": host,
    }
    await app(scope, receive, send)
    return int(sent[0]["status"])


async def test_only_the_secret_of_this_run_goes_past_the_gateway() -> None:
    app = Switch(Layer(Gateway(Engine())), {SECRET: KEY})
    assert await status(app, (HEADER, KEY.encode())) == 204
    assert await status(app) == 401
    assert await status(app, (HEADER, b"")) == 401
    assert await status(app, (HEADER, KEY[:-1].encode())) == 401
    assert await status(app, (HEADER, b"-" * len(KEY))) == 401
    assert await status(app, (b"x-other", KEY.encode())) == 401


@pytest.mark.parametrize("secret", [None, "", "short"])
def test_without_a_long_secret_there_is_no_switch(secret: str | None) -> None:
    with pytest.raises(NoSwitch, match=SECRET):
        Switch(Gateway(Engine()), {SECRET: secret} if secret is not None else {})


def test_without_a_gateway_below_there_is_nothing_to_go_past() -> None:
    with pytest.raises(NoSwitch, match="no gateway"):
        Switch(Layer(Engine()), {SECRET: KEY})


def test_the_gateway_is_found_however_deep_it_lies() -> None:
    engine = Engine()
    assert below_gateway(Layer(Layer(Gateway(engine)))) is engine
