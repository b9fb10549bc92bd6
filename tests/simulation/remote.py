"""A core in a process of its own, and the client of an API process: vLLM's architecture.

`python -m tests.simulation.remote` runs the core and listens on the Unix socket that
`SIMULATED_SOCKET` names; every API process connects to it and gets the client's verbs. One line of
JSON is one message: `{"call", "verb", …}` there, `{"call", "result" | "error" | "token"}` back. A
core that is gone is dead for every client at once, and for good.
"""

from __future__ import annotations

import asyncio
import itertools
import json
from collections.abc import AsyncGenerator, Mapping
from contextlib import aclosing, suppress
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

from tests.simulation.client import RequestOutput, Speech, tokens_of
from tests.simulation.core import Core, EngineDeadError, Lora, LoraRequest, Token
from tests.simulation.settings import Simulation

LINE_LIMIT = 4 * 1024 * 1024
WATCH_SECONDS = 0.05


class CoreServer:
    """Carries out what the clients ask of one core."""

    def __init__(self, core: Core) -> None:
        self._core = core
        self._clients: set[asyncio.StreamWriter] = set()

    async def serve(self, path: Path) -> None:
        """Listens until the core has died: the process ends with it, and so do all connections."""
        server = await asyncio.start_unix_server(self._client, path, limit=LINE_LIMIT)
        async with server:
            while self._core.death is None:  # noqa: ASYNC110
                await asyncio.sleep(WATCH_SECONDS)
        for writer in list(self._clients):
            writer.close()

    async def _client(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        calls: dict[int, asyncio.Task[None]] = {}
        self._clients.add(writer)
        try:
            while line := await reader.readline():
                message = json.loads(line)
                call = message["call"]
                if message["verb"] == "abort":
                    if call in calls:
                        calls[call].cancel()
                    continue
                calls[call] = asyncio.create_task(self._carry_out(message, writer))
                calls[call].add_done_callback(partial(_forget, calls, call))
        finally:  # an API process that died takes its requests with it
            for task in list(calls.values()):
                task.cancel()
            self._clients.discard(writer)
            writer.close()

    async def _carry_out(self, message: Mapping[str, Any], writer: asyncio.StreamWriter) -> None:
        call, verb = message["call"], message["verb"]
        try:
            if verb == "generate":
                await self._generate(message, writer)
            else:
                _send(writer, {"call": call, "result": await self._utility(message)})
        except EngineDeadError as error:
            _send(writer, {"call": call, "error": str(error), "dead": True})
        except Exception as error:  # the core's errors cross the socket as texts, as in vLLM
            _send(writer, {"call": call, "error": str(error), "dead": False})

    async def _utility(self, message: Mapping[str, Any]) -> bool | list[int]:
        match message["verb"]:
            case "add_lora":
                return await self._core.add_lora(Lora(**message["lora"]))
            case "remove_lora":
                return await self._core.remove_lora(message["lora_id"])
            case "list_loras":
                return sorted(await self._core.list_loras())
            case "is_sleeping":
                return await self._core.is_sleeping()
        raise ValueError(f"no verb {message['verb']}")

    async def _generate(self, message: Mapping[str, Any], writer: asyncio.StreamWriter) -> None:
        lora = Lora(**message["lora"]) if message["lora"] else None
        answer = self._core.generate(message["prompt"], salt=message["salt"], lora=lora)
        async with aclosing(answer):
            async for token in answer:
                _send(writer, {"call": message["call"], "token": asdict(token)})
                await writer.drain()


class RemoteClient:
    """The client's verbs over the socket."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer
        self._numbers = itertools.count()
        self._answers: dict[int, asyncio.Queue[dict[str, Any]]] = {}
        self._dead = False
        self.under_way: dict[str, Speech] = {}
        self._reading = asyncio.create_task(self._read(), name="simulated-engine-client")

    @classmethod
    async def connect(cls, path: Path) -> RemoteClient:
        """Waits for the core to listen."""
        while True:
            with suppress(FileNotFoundError, ConnectionRefusedError):
                return cls(*await asyncio.open_unix_connection(path, limit=LINE_LIMIT))
            await asyncio.sleep(0.02)

    @property
    def errored(self) -> bool:
        return self._dead

    async def add_lora(self, lora_request: LoraRequest) -> bool:
        return bool(await self._utility(verb="add_lora", lora=_plain(lora_request)))

    async def remove_lora(self, lora_id: int) -> bool:
        return bool(await self._utility(verb="remove_lora", lora_id=lora_id))

    async def list_loras(self) -> set[int]:
        return set(await self._utility(verb="list_loras"))

    async def is_sleeping(self) -> bool:
        return bool(await self._utility(verb="is_sleeping"))

    async def generate(
        self,
        prompt: Mapping[str, Any],
        sampling_params: Any,
        request_id: str,
        *,
        lora_request: LoraRequest | None = None,
    ) -> AsyncGenerator[RequestOutput, None]:
        tokens = tokens_of(prompt)
        speech = Speech(
            request_id=request_id,
            prompt_tokens=len(tokens),
            max_tokens=sampling_params.max_tokens or 16,
        )
        call, answers = self._ask(
            verb="generate",
            prompt=tokens,
            salt=prompt.get("cache_salt") or "",
            lora=_plain(lora_request) if lora_request else None,
        )
        finished = False
        self.under_way[request_id] = speech
        try:
            while not finished:
                token = Token(**_checked(await answers.get())["token"])
                finished = token.last
                output = speech.grow(
                    token.word, logprob=token.logprob, cached=token.cached_tokens, last=token.last
                )
                yield output
                if output.finished:
                    return
        finally:
            del self.under_way[request_id]
            self._answers.pop(call, None)
            if not finished and not self._dead:
                _send(self._writer, {"call": call, "verb": "abort"})

    async def close(self) -> None:
        """Leaves the core."""
        self._reading.cancel()
        self._writer.close()
        with suppress(asyncio.CancelledError, ConnectionError):
            await self._reading
            await self._writer.wait_closed()

    async def _utility(self, **message: Any) -> Any:
        call, answers = self._ask(**message)
        try:
            return _checked(await answers.get())["result"]
        finally:
            self._answers.pop(call, None)

    def _ask(self, **message: Any) -> tuple[int, asyncio.Queue[dict[str, Any]]]:
        if self._dead:
            raise EngineDeadError("the engine has stopped")
        call = next(self._numbers)
        answers = self._answers[call] = asyncio.Queue()
        _send(self._writer, {"call": call, **message})
        return call, answers

    async def _read(self) -> None:
        with suppress(ConnectionError):
            while line := await self._reader.readline():
                message = json.loads(line)
                if message["call"] in self._answers:
                    self._answers[message["call"]].put_nowait(message)
        self._dead = True
        for answers in self._answers.values():
            answers.put_nowait({"error": "the engine has stopped", "dead": True})


def _forget(calls: dict[int, asyncio.Task[None]], call: int, _: asyncio.Task[None]) -> None:
    calls.pop(call, None)


def _checked(message: dict[str, Any]) -> dict[str, Any]:
    if "error" in message:
        raise (EngineDeadError if message["dead"] else Exception)(message["error"])
    return message


def _plain(lora: LoraRequest) -> dict[str, Any]:
    return {
        "lora_name": lora.lora_name,
        "lora_int_id": lora.lora_int_id,
        "lora_path": lora.lora_path,
    }


def _send(writer: asyncio.StreamWriter, message: Mapping[str, Any]) -> None:
    if not writer.is_closing():
        writer.write(json.dumps(message).encode() + b"\n")


def main() -> None:
    """The engine's process."""
    simulation = Simulation()
    core = Core(simulation.limits(), simulation.pace(), base=simulation.base_name())
    asyncio.run(CoreServer(core).serve(simulation.socket))


if __name__ == "__main__":
    main()
