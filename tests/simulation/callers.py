"""Applications that never stop asking, and operators that promote and roll back at random.

All run on one event loop, each with one request in flight. Whatever happens to a request is written
down in the history; nothing is repeated, so that what went wrong once is seen.
"""

from __future__ import annotations

import asyncio
import json
import random
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import httpx2

from tests.simulation.history import Command, History, Outcome, Read

ANSWER_SECONDS = 60.0
"""A bound on hanging, not on speed."""
PAUSE_SECONDS = 0.05
"""The least of a caller whose replica cannot be reached."""


@dataclass(frozen=True, kw_only=True)
class Endpoint:
    """A replica as its callers know it."""

    name: str
    url: str


@dataclass(frozen=True, kw_only=True)
class World:
    """Whom to ask, as whom, about what, and where it is written down."""

    endpoints: Sequence[Endpoint]
    headers: dict[str, str]
    aliases: Sequence[str]
    history: History
    stopped: asyncio.Event
    questions: int = 8
    """How many different ones are asked."""
    more: Mapping[str, Any] = field(default_factory=dict)
    """Further fields of each question's body."""


class Caller:
    """One application: any replica, any alias, every second answer as a stream."""

    def __init__(self, world: World, *, seed: int, pause: float = 0.0) -> None:
        self._world = world
        self._draw = random.Random(seed)
        self._pause = pause

    async def run(self) -> None:
        """Asks until it is told to stop."""
        async with httpx2.AsyncClient(
            headers=self._world.headers, timeout=ANSWER_SECONDS
        ) as client:
            while not self._world.stopped.is_set():
                read = await self._ask(client)
                self._world.history.reads.append(read)
                least = PAUSE_SECONDS if read.error else 0.0
                await asyncio.sleep(max(least, self._pause))

    async def _ask(self, client: httpx2.AsyncClient) -> Read:
        endpoint = self._draw.choice(self._world.endpoints)
        alias, streamed = self._draw.choice(self._world.aliases), self._draw.random() < 0.5
        number = self._draw.randrange(self._world.questions)
        answer, error = Answer(streamed=streamed), None
        started = time.monotonic()
        body = {
            "model": alias,
            "messages": [{"role": "user", "content": f"question {number}"}],
            "stream": streamed,
            **self._world.more,
        }
        try:
            url = f"{endpoint.url}/v1/chat/completions"
            async with client.stream("POST", url, json=body) as response:
                await answer.read(response)
        except AnswerFailed as failed:
            error = str(failed)
        except (httpx2.HTTPError, ValueError, KeyError, TypeError) as broken:
            error = type(broken).__name__
        return Read(
            started=started,
            ended=time.monotonic(),
            replica=endpoint.name,
            alias=alias,
            named=tuple(sorted(answer.named)),
            text=answer.text,
            finish=answer.finish,
            streamed=streamed,
            done=answer.done,
            error=error,
        )


class AnswerFailed(Exception):
    """An answer that says that it is none."""


class Answer:
    """One answer as a client takes it up: names, text and how it ended."""

    def __init__(self, *, streamed: bool) -> None:
        self.named: set[str] = set()
        self.text = ""
        self.finish: str | None = None
        self.done = not streamed

    async def read(self, response: httpx2.Response) -> None:
        """Raises AnswerFailed for an error within or instead of the answer."""
        if response.status_code != 200:
            document = json.loads(await response.aread())
            raise AnswerFailed(f"status {response.status_code} {document['error']['code']}")
        self.named.add(response.headers.get("x-adapter-version", "(no header)"))
        if self.done:
            self._take(json.loads(await response.aread()), "message")
            return
        async for line in response.aiter_lines():
            if line == "data: [DONE]":
                self.done = True
            elif line:
                self._take(json.loads(line.removeprefix("data: ")), "delta")

    def _take(self, document: dict[str, Any], part: str) -> None:
        if "error" in document:
            raise AnswerFailed(f"in-band {document['error']['code']}")
        self.named.add(document["model"])
        for choice in document["choices"]:
            self.text += choice[part].get("content") or ""
            self.finish = choice["finish_reason"] or self.finish


class Versions(Protocol):
    """Versions that were never live, by alias."""

    async def take(self, alias: str) -> str: ...

    def give_back(self, alias: str, version: str) -> None:
        """It was not promoted after all."""
        ...


class Operator:
    """Promotes and rolls back at random; with the generation it saw, as a careful client does.

    `rollbacks` is their share, `wait` the seconds that a command waits for *complete*.
    """

    def __init__(
        self,
        world: World,
        *,
        seed: int,
        versions: Versions,
        rollbacks: float = 0.3,
        wait: float = 30.0,
    ) -> None:
        self._world = world
        self._draw = random.Random(seed)
        self._versions = versions
        self._rollbacks = rollbacks
        self._wait = wait

    async def first(self) -> None:
        """Promotes a version of every alias, so that each can be asked for."""
        async with self._client() as client:
            for alias in self._world.aliases:
                endpoint = self._world.endpoints[0]
                command = await self._command(client, endpoint, alias, "promote")
                self._world.history.commands.append(command)

    async def run(self, enough: Callable[[], bool]) -> None:
        """Gives one command after another until there were enough."""
        async with self._client() as client:
            while not enough() and not self._world.stopped.is_set():
                action = "rollback" if self._draw.random() < self._rollbacks else "promote"
                alias = self._draw.choice(self._world.aliases)
                endpoint = self._draw.choice(self._world.endpoints)
                command = await self._command(client, endpoint, alias, action)
                self._world.history.commands.append(command)
                if command.error:
                    await asyncio.sleep(PAUSE_SECONDS)

    def _client(self) -> httpx2.AsyncClient:
        seconds = 2 * self._wait + ANSWER_SECONDS
        return httpx2.AsyncClient(headers=self._world.headers, timeout=seconds)

    async def _command(
        self, client: httpx2.AsyncClient, endpoint: Endpoint, alias: str, action: str
    ) -> Command:
        path = f"{endpoint.url}/v1/adapters/{alias}"
        body: dict[str, Any] = {"timeout": self._wait}
        if action == "promote":
            body["version"] = await self._versions.take(alias)
        started, sent = time.monotonic(), False
        try:
            looked = await client.get(path)
            body["expected_generation"] = looked.raise_for_status().json()["route"]["generation"]
            started, sent = time.monotonic(), True
            answer = await client.post(f"{path}/{action}", json=body)
            outcome, version, rollout, error = _told(answer, body.get("version"))
        except (httpx2.HTTPError, ValueError, KeyError) as broken:
            # refused before a byte of the command went out, or cut off with it under way
            went = sent and not isinstance(broken, httpx2.ConnectError)
            outcome = Outcome.UNKNOWN if went else Outcome.REFUSED
            version, rollout, error = body.get("version"), None, type(broken).__name__
        if outcome is Outcome.REFUSED and action == "promote":
            self._versions.give_back(alias, body["version"])
        return Command(
            started=started,
            ended=time.monotonic(),
            replica=endpoint.name,
            alias=alias,
            action=action,
            outcome=outcome,
            version=version,
            rollout=rollout,
            error=error,
        )


def _told(
    answer: httpx2.Response, asked: str | None
) -> tuple[Outcome, str | None, int | None, str | None]:
    """What an answer to a command says: outcome, version, rollout and error."""
    document = answer.json()
    if answer.status_code == 200:
        complete = document["state"] == "complete"
        outcome = Outcome.COMPLETE if complete else Outcome.ACCEPTED
        return outcome, document["version"], int(document["id"]), None
    code = str(document["error"]["code"])
    outcome = Outcome.REFUSED if answer.status_code < 500 else Outcome.UNKNOWN
    return outcome, asked, None, f"status {answer.status_code} {code}"
