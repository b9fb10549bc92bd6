"""Callers' schemas are compiled in a process of its own before the engine sees them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import psutil
import pytest

from adapters.errors import EngineUnavailable, InvalidRequest
from service.engine.grammars import CompiledGrammars, NoGrammars
from tests.hostile_schemas import FITTING, NO_GRAMMAR, WORST, chain
from tests.service.tiny_tokenizer import tiny_tokenizer

ENDLESS = {"type": "array", "items": {"type": "string"}, "maxItems": 5_000_000}
"""Longer than the process may be at it; our bounds refuse it before."""
DEADLY = chain(5000)
"""Overflows the process's stack; our bounds refuse it before."""


@pytest.fixture
async def compiled() -> AsyncIterator[CompiledGrammars]:
    grammars = CompiledGrammars(tiny_tokenizer())
    await grammars.start()
    yield grammars
    await grammars.stop()
    assert compilers() == []


def compilers() -> list[psutil.Process]:
    """Compiling processes of ours."""
    return [
        child
        for child in psutil.Process().children()
        if child.status() != psutil.STATUS_ZOMBIE
        and "service.engine.grammar_compiler" in child.cmdline()
    ]


async def refusal(grammars: CompiledGrammars, schema: dict[str, Any], unit: str = "a") -> str:
    """Why a schema is refused; fails where it is not."""
    with pytest.raises(InvalidRequest) as refused:
        await grammars.check(schema, param="response_format", owner=unit)
    assert refused.value.param == refused.value.reason == "response_format"
    return refused.value.message


@pytest.mark.parametrize("schema", [*FITTING, *WORST.values()])
async def test_what_the_engine_can_use_passes(
    compiled: CompiledGrammars, schema: dict[str, Any]
) -> None:
    await compiled.check(schema, param="response_format", owner="a")


@pytest.mark.parametrize("name", NO_GRAMMAR)
async def test_what_it_cannot_use_is_refused_in_our_words(
    compiled: CompiledGrammars, name: str
) -> None:
    said = await refusal(compiled, {**NO_GRAMMAR[name], "title": "SECRET"})
    assert said.startswith("`response_format`: ")
    assert "SECRET" not in said


@pytest.mark.parametrize("schema", [DEADLY, ENDLESS])
async def test_what_ends_the_process_ends_nothing_else_and_is_not_tried_again(
    compiled: CompiledGrammars, schema: dict[str, Any]
) -> None:
    (before,) = compilers()
    assert "too large" in await refusal(compiled, schema)
    assert before not in compilers()
    await compiled.check({"type": "string"}, param="response_format", owner="a")
    (after,) = compilers()
    assert "too large" in await refusal(compiled, schema)
    assert compilers() == [after]


async def test_units_share_no_answers(compiled: CompiledGrammars) -> None:
    (process,) = compilers()
    await refusal(compiled, DEADLY, unit="a")
    await compiled.start()
    (next_,) = compilers()
    await refusal(compiled, DEADLY, unit="b")
    await compiled.start()
    assert len({process, next_, *compilers()}) == 3


async def test_a_unit_that_sends_many_slow_schemas_stands_in_line_once(
    compiled: CompiledGrammars,
) -> None:
    slow = [
        asyncio.create_task(refusal(compiled, {**ENDLESS, "title": str(at)})) for at in range(4)
    ]
    await asyncio.sleep(0.1)
    await compiled.check({"type": "string"}, param="response_format", owner="b")
    assert sum(task.done() for task in slow) <= 1
    for task in slow:
        task.cancel()
    await asyncio.gather(*slow, return_exceptions=True)


async def test_who_goes_away_leaves_no_answer_to_somebody_elses_question(
    compiled: CompiledGrammars,
) -> None:
    asked = asyncio.create_task(refusal(compiled, ENDLESS))
    await asyncio.sleep(0.2)
    asked.cancel()
    await asyncio.gather(asked, return_exceptions=True)
    await compiled.check({"type": "string"}, param="response_format", owner="b")
    assert "uniqueItems" not in await refusal(compiled, {"uniqueItems": True}, unit="b")


async def test_an_answer_that_does_not_come_in_time_is_a_refusal() -> None:
    grammars = CompiledGrammars(tiny_tokenizer(), deadline=0.2)
    try:
        assert "too large" in await refusal(grammars, ENDLESS)
    finally:
        await grammars.stop()


async def test_where_no_process_can_be_had_nobody_is_told_that_the_schema_is_wrong() -> None:
    grammars = CompiledGrammars(replace(tiny_tokenizer(), tokenizer="{}"))
    with pytest.raises(EngineUnavailable):
        await grammars.check({"type": "string"}, param="response_format", owner="a")
    assert compilers() == []


async def test_a_base_without_a_fast_tokenizer_has_no_structured_outputs() -> None:
    with pytest.raises(InvalidRequest, match="tokenizer"):
        await NoGrammars().check({}, param="response_format", owner="a")


def test_the_compiler_ends_with_whoever_started_it(tmp_path: Path) -> None:
    from subprocess import PIPE, Popen
    from sys import executable

    with Popen(
        [executable, "-m", "service.engine.grammar_compiler"], stdin=PIPE, stdout=PIPE
    ) as process:
        assert process.stdin is not None
        process.stdin.close()
        process.wait(10)
