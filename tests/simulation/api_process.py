"""One API process of a replica: the real service in front of a simulated engine.

`python -m tests.simulation.api_process`, configured by `WARDROBE_*` and `SIMULATED_*`. It stands
where `vllm serve` stands: it makes the engine client, lets the plugin build what is ours, serves
until SIGTERM has drained it, and ends when the engine has died, as vLLM's watchdog sees to.
"""

from __future__ import annotations

import asyncio
import socket
from contextlib import suppress
from pathlib import Path
from typing import Any

import uvicorn
from fastapi import FastAPI

from adapters.logs import configure_logs
from adapters.settings import Settings
from service.api import attach
from service.engine.grammars import NoGrammars
from service.engine.listener import inherited_listener
from service.gateway.gateway import Gateway
from service.launch.plugin import build_runtime, follow_server
from service.launch.tls import certificate_files
from tests.simulation.client import Client, LocalClient
from tests.simulation.core import Core
from tests.simulation.engine import ClientEngine
from tests.simulation.handlers import Handlers
from tests.simulation.remote import RemoteClient
from tests.simulation.settings import Simulation

WATCH_SECONDS = 0.05


async def engine_client(simulation: Simulation) -> Client:
    """The client of the engine's process, or of an engine in this one."""
    if simulation.socket != Path():
        return await RemoteClient.connect(simulation.socket)
    return LocalClient(
        Core(simulation.limits(), simulation.pace(), base=simulation.base_name()),
    )


async def start_service(
    app: FastAPI, engine: ClientEngine, settings: Settings, simulation: Simulation
) -> Any:
    """What the plugin does in vLLM: the runtime, its tasks, its way out."""
    runtime = await asyncio.to_thread(
        build_runtime,
        settings,
        engine,
        NoGrammars(),
        process=simulation.process,
        processes=simulation.processes,
    )
    runtime.start()
    app.state.wardrobe = runtime
    return asyncio.create_task(follow_server(runtime, app.state))


async def serve(settings: Settings, simulation: Simulation) -> None:
    """Serves until a signal or the engine's death ends it."""
    client = await engine_client(simulation)
    engine = ClientEngine(
        client,
        simulation.limits(),
        base=simulation.base_name(),
        max_model_len=settings.max_model_len,
    )
    app = FastAPI()
    attach(app)
    Handlers(client, engine.models).attach(app)
    app.add_middleware(Gateway)
    certificate, key = certificate_files(settings) or (None, None)
    server = uvicorn.Server(
        uvicorn.Config(
            app,
            host=settings.host,
            port=settings.port,
            log_level="error",
            lifespan="off",
            ssl_certfile=certificate,
            ssl_keyfile=key,
        )
    )
    app.state.server = server
    taking_over = await start_service(app, engine, settings, simulation)
    given = inherited_listener()
    if given is None and simulation.listen_fd >= 0:
        given = socket.socket(fileno=simulation.listen_fd)
    sockets = None if given is None else [given]
    watching = asyncio.create_task(_watch(client, server))
    await server.serve(sockets=sockets)
    for task in (watching, taking_over):
        task.cancel()


async def _watch(client: Client, server: uvicorn.Server) -> None:
    """vLLM's watchdog: a dead engine ends the process that serves it."""
    while not client.errored:  # noqa: ASYNC110
        await asyncio.sleep(WATCH_SECONDS)
    server.should_exit = True


def main() -> None:
    """Runs it; a signal that has ended it is no error."""
    settings = Settings()
    configure_logs(settings.log_level)
    with suppress(KeyboardInterrupt):
        asyncio.run(serve(settings, Simulation()))


if __name__ == "__main__":
    main()
