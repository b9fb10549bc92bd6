"""Asks, before a caller's schema reaches the engine, whether the engine can make a grammar of it.

The asking is done in a process of its own (`service.engine.grammar_compiler`): what a schema costs
is measured there and not on the event loop that all units share, and what ends that process ends no
engine. An answer is kept, so that a schema is compiled once, and one that has ended the process
is never tried again.
"""

from __future__ import annotations

import asyncio
import json
import sys
from collections import OrderedDict, defaultdict
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Protocol

import structlog

from adapters.domain.names import Digest
from adapters.errors import EngineUnavailable, InvalidRequest
from adapters.hashing import sha256_bytes

DEADLINE_SECONDS = 10.0
"""For one schema: long, because a busy machine must not refuse what a quiet one takes."""
START_SECONDS = 60.0
"""Until the process has read its tokenizer."""
KEPT = 4096
"""Answers, of 100 bytes or so."""
TOO_LARGE = "the schema is too large to make a grammar of"
UNSUPPORTED = "this base model's tokenizer allows no structured outputs"

log = structlog.get_logger("wardrobe.grammars")


class Grammars(Protocol):
    """What the gateway needs to know of schemas."""

    async def check(self, schema: Mapping[str, Any], *, param: str, owner: str) -> None:
        """Raises InvalidRequest, naming `param`, where the engine could not use the schema."""
        ...

    async def stop(self) -> None:
        """Lets go of what it holds."""
        ...


@dataclass(frozen=True)
class TokenizerFacts:
    """What a grammar's compiler needs of a tokenizer."""

    tokenizer: str
    """As `tokenizers` writes it, in JSON."""
    vocabulary: int
    eos: int | None


class NoGrammars:
    """Refuses every schema: the compiler cannot read this base's tokenizer."""

    async def check(self, schema: Mapping[str, Any], *, param: str, owner: str) -> None:
        """As for Grammars."""
        raise refused(UNSUPPORTED, param)

    async def stop(self) -> None:
        """Holds nothing."""


class CompiledGrammars:
    """Keeps one compiling process, starts it when it is needed, and again when it has ended."""

    def __init__(self, facts: TokenizerFacts, *, deadline: float = DEADLINE_SECONDS) -> None:
        self._facts = facts
        self._deadline = deadline
        self._process: asyncio.subprocess.Process | None = None
        self._turn = asyncio.Lock()
        # an owner waits in line once, however many schemas it sends
        self._turns: defaultdict[str, asyncio.Lock] = defaultdict(asyncio.Lock)
        self._answers: OrderedDict[tuple[str, Digest], str | None] = OrderedDict()

    async def check(self, schema: Mapping[str, Any], *, param: str, owner: str) -> None:
        """As for Grammars. Raises EngineUnavailable when no process can be had."""
        line = json.dumps(schema).encode() + b"\n"
        # by owner: how soon an answer comes must not tell of another unit's schemas
        key = (owner, sha256_bytes(line))
        if key not in self._answers:
            async with self._turns[owner]:
                if key not in self._answers:
                    self._keep(key, await self._ask(line))
        answer = self._answers[key]
        if answer is not None:
            raise refused(answer, param)

    async def start(self) -> None:
        """Starts the process and waits until it answers. Raises EngineUnavailable."""
        async with self._turn:
            await self._started()

    async def stop(self) -> None:
        """Ends the process, whatever it is at: nobody waits for its answer any more."""
        await self._end()

    def _keep(self, key: tuple[str, Digest], answer: str | None) -> None:
        self._answers[key] = answer
        if len(self._answers) > KEPT:
            self._answers.popitem(last=False)

    async def _ask(self, line: bytes) -> str | None:
        async with self._turn:
            process = await self._started()
            try:
                return await self._exchange(process, line, self._deadline)
            except _Ended:
                log.warning("grammar_compiler_ended", schema_bytes=len(line))
                await self._end()
                return TOO_LARGE
            except BaseException:  # its next answer would be to this question
                await self._end()
                raise

    async def _started(self) -> asyncio.subprocess.Process:
        if self._process is not None and self._process.returncode is None:
            return self._process
        first = json.dumps(vars(self._facts)).encode() + b"\n"
        try:
            self._process = await asyncio.create_subprocess_exec(
                *(sys.executable, "-m", "service.engine.grammar_compiler"),
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.PIPE,
                stderr=asyncio.subprocess.DEVNULL,  # the compiler's words quote the schema
            )
            await self._exchange(self._process, first + b'{"type": "null"}\n', START_SECONDS)
        except (OSError, _Ended) as error:
            await self._end()
            raise EngineUnavailable("no schema can be checked now") from error
        return self._process

    async def _exchange(
        self, process: asyncio.subprocess.Process, line: bytes, seconds: float
    ) -> str | None:
        """One question and its answer. Raises _Ended when none comes in time."""
        if process.stdin is None or process.stdout is None:
            raise _Ended
        try:
            async with asyncio.timeout(seconds):
                process.stdin.write(line)
                await process.stdin.drain()
                answer = await process.stdout.readline()
            refused_for: str | None = json.loads(answer)["refused"]
        except (OSError, TimeoutError, ValueError) as error:
            raise _Ended from error
        return refused_for

    async def _end(self) -> None:
        process, self._process = self._process, None
        if process is not None:
            with suppress(ProcessLookupError):
                process.kill()
            await process.wait()


class _Ended(Exception):
    """The process has ended, or does not answer."""


def refused(why: str, param: str) -> InvalidRequest:
    """The refusal of a schema, as its sender reads it."""
    code = "response_format" if param == "response_format" else None
    return InvalidRequest(f"`{param}`: {why}", param=param, code=code)
