"""The simulated engine behaves as vLLM 0.32 was seen to; each test names one of its semantics."""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.simulation.core import Core, EngineDeadError, Limits, Lora, Pace, Token
from tests.simulation.weights import write_adapter

LONG = [f"word-{number}" for number in range(40)]
"""A prompt of two whole blocks and a part of a third."""


class Adapters:
    """Marker adapters in a folder; number n answers `n n n` and is called `support:n`."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def __getitem__(self, number: int) -> Lora:
        return self.write(number, f"{number} {number} {number}")

    def write(self, number: int, text: str) -> Lora:
        path = write_adapter(self._folder / str(number), text)
        return Lora(lora_name=f"support:{number}", lora_int_id=number, lora_path=str(path))


@pytest.fixture
def adapters(tmp_path: Path) -> Adapters:
    return Adapters(tmp_path)


async def answer(core: Core, lora: Lora | None, *, salt: str = "") -> list[Token]:
    return [token async for token in core.generate(LONG, salt=salt, lora=lora)]


async def said(core: Core, lora: Lora | None, *, salt: str = "") -> str:
    return " ".join(token.word for token in await answer(core, lora, salt=salt))


def by_hand(limits: Limits) -> Core:
    """An engine that makes a step when it is told to."""
    return Core(limits, Pace(step=3600.0))


async def stepped(core: Core, answer: AsyncIterator[Token]) -> AsyncIterator[Token]:
    """An answer whose steps are made when its next token is asked for."""
    while True:
        asked = asyncio.ensure_future(anext(answer, None))
        await asyncio.sleep(0)
        if not asked.done():
            core.step()
        token = await asked
        if token is None:
            return
        yield token


async def test_an_adapter_answers_with_what_its_files_say(adapters: Adapters) -> None:
    core = Core()
    assert await said(core, adapters[7]) == "7 7 7"
    assert await said(core, None) == "answer of wardrobe-base"


async def test_of_the_registered_adapters_the_one_unused_for_longest_goes(
    adapters: Adapters,
) -> None:
    core = Core(Limits(max_loras=2, max_cpu_loras=3))
    for number in (1, 2, 3):
        await core.add_lora(adapters[number])
    await said(core, adapters[1])
    await core.add_lora(adapters[4])
    assert await core.list_loras() == {1, 3, 4}


async def test_the_active_adapters_are_the_last_used_of_the_registered(adapters: Adapters) -> None:
    core = Core(Limits(max_loras=2, max_cpu_loras=3))
    for number in (1, 2, 3):
        await core.add_lora(adapters[number])
    assert list(core.active) == [2, 3]
    await said(core, adapters[1])
    assert list(core.active) == [3, 1]
    assert core.reads == 3, "an adapter in the second tier is not read again"


async def test_an_evicted_adapter_is_read_again_within_a_step(adapters: Adapters) -> None:
    core = Core(Limits(max_loras=1, max_cpu_loras=1))
    first, second = adapters[1], adapters[2]
    await core.add_lora(first)
    await core.add_lora(second)
    adapters.write(1, "other other other")
    assert await said(core, first) == "other other other"
    assert core.reads == 3


async def test_an_adapter_evicted_amid_its_answer_is_read_again_for_the_next_token(
    adapters: Adapters,
) -> None:
    core = by_hand(Limits(max_loras=1, max_cpu_loras=1))
    first, second = adapters[1], adapters[2]
    words = []
    async for token in stepped(core, core.generate(["hi"], lora=first)):
        words.append(token.word)
        adapters.write(1, "other other other")
        await core.add_lora(second)
    assert words == ["1", "other", "other"], "this is how a mixed answer comes to be"


async def test_a_vanished_folder_of_an_evicted_adapter_kills_the_engine_for_everybody(
    adapters: Adapters, tmp_path: Path
) -> None:
    core = Core(Limits(max_loras=1, max_cpu_loras=1))
    first, second = adapters[1], adapters[2]
    await core.add_lora(first)
    await core.add_lora(second)
    shutil.rmtree(tmp_path / "1")
    asked = await asyncio.gather(
        said(core, None), said(core, first), said(core, second), return_exceptions=True
    )
    assert [type(outcome) for outcome in asked] == [EngineDeadError] * 3
    assert core.death is not None
    with pytest.raises(EngineDeadError):
        await core.add_lora(second)


async def test_a_vanished_folder_of_a_registered_adapter_harms_nobody(
    adapters: Adapters, tmp_path: Path
) -> None:
    core = Core()
    first = adapters[1]
    await core.add_lora(first)
    shutil.rmtree(tmp_path / "1")
    assert await said(core, first) == "1 1 1"


async def test_weights_are_known_by_their_integer_alone(adapters: Adapters) -> None:
    core = Core()
    await core.add_lora(adapters[1])
    other = adapters[2]
    same_id = Lora(lora_name="support:2", lora_int_id=1, lora_path=other.lora_path)
    await core.add_lora(same_id)
    assert await said(core, same_id) == "1 1 1"


async def test_a_batch_has_at_most_max_loras_adapters_and_the_others_wait(
    adapters: Adapters,
) -> None:
    core = Core(Limits(max_loras=2, max_cpu_loras=8))
    texts = await asyncio.gather(*(said(core, adapters[number]) for number in range(1, 7)))
    assert texts == [f"{n} {n} {n}" for n in range(1, 7)]
    assert core.widest == 2


async def test_the_prefix_cache_counts_whole_blocks_and_is_kept_apart_by_salt(
    adapters: Adapters,
) -> None:
    core = Core()
    lora = adapters[1]
    cached = [(await answer(core, lora, salt=salt))[0].cached_tokens for salt in "aabb"]
    assert cached == [0, 32, 0, 32]
    assert (await answer(core, None, salt="a"))[0].cached_tokens == 0


async def test_new_bytes_under_an_old_name_and_path_answer_as_neither_version(
    adapters: Adapters,
) -> None:
    core = Core()
    lora = adapters[1]
    assert await said(core, lora, salt="a") == "1 1 1"
    await core.remove_lora(1)
    adapters.write(1, "new new new")
    hybrid = await said(core, lora, salt="a")
    assert "~" in hybrid
    assert await said(core, lora, salt="fresh") == "new new new"


async def test_new_bytes_under_an_old_name_and_a_new_path_answer_as_the_new_version(
    adapters: Adapters, tmp_path: Path
) -> None:
    core = Core()
    assert await said(core, adapters[1], salt="a") == "1 1 1"
    await core.remove_lora(1)
    moved = write_adapter(tmp_path / "elsewhere", "new new new")
    lora = Lora(lora_name="support:1", lora_int_id=2, lora_path=str(moved))
    assert await said(core, lora, salt="a") == "new new new"


@pytest.mark.parametrize("damage", ["torn", "no json", "rank", "missing", "empty"])
async def test_a_bad_adapter_is_refused_at_load_and_harms_nobody(
    adapters: Adapters, tmp_path: Path, damage: str
) -> None:
    core = Core(Limits(max_loras=1, max_cpu_loras=1))
    good, bad = adapters[1], adapters[2]
    await core.add_lora(good)
    weights = tmp_path / "2" / "adapter_model.safetensors"
    match damage:
        case "torn":
            weights.write_bytes(weights.read_bytes()[:-3])
        case "no json":
            write_adapter(tmp_path / "2", "2 2 2", config="{r: 8")
        case "rank":
            write_adapter(tmp_path / "2", "2 2 2", rank=128)
        case "missing":
            shutil.rmtree(tmp_path / "2")
        case "empty":
            weights.write_bytes(b"")
    with pytest.raises(Exception, match="Call to add_lora method failed") as caught:
        await core.add_lora(bad)
    assert type(caught.value) is Exception
    assert await core.list_loras() == {1}, "read first, evicted only then"
    assert await said(core, good) == "1 1 1"


async def test_an_adapter_whose_tensors_match_nothing_loads_and_serves_the_base(
    tmp_path: Path,
) -> None:
    core = Core()
    path = write_adapter(tmp_path / "odd", "3 3 3", tensor="some.other.weight")
    lora = Lora(lora_name="support:3", lora_int_id=3, lora_path=str(path))
    assert await core.add_lora(lora)
    with_it, without = await answer(core, lora), await answer(core, None)
    assert [t.word for t in with_it] == [t.word for t in without]
    assert with_it[0].logprob == without[0].logprob


async def test_a_load_as_vllm_does_it_holds_every_answer_up(adapters: Adapters) -> None:
    core = Core()
    core.pace.load, core.pace.stalls = 0.3, True
    loading = asyncio.create_task(core.add_lora(adapters[1]))
    await asyncio.sleep(0)
    await said(core, None)
    assert loading.done()


async def test_a_staged_load_holds_no_answer_up(adapters: Adapters) -> None:
    core = Core()
    core.pace.load = 30.0
    loading = asyncio.create_task(core.add_lora(adapters[1]))
    await asyncio.sleep(0)
    assert await said(core, None) == "answer of wardrobe-base"
    assert not loading.done()
    loading.cancel()


async def test_an_abandoned_answer_leaves_nothing_in_the_engine(adapters: Adapters) -> None:
    core = Core(Limits(max_loras=1))
    abandoned = core.generate(["hi"], lora=adapters[1])
    await anext(abandoned)
    await abandoned.aclose()
    assert core.in_flight == 0
    assert await said(core, adapters[2]) == "2 2 2"


async def test_removing_what_is_not_there_is_no_error(adapters: Adapters) -> None:
    core = Core()
    await core.add_lora(adapters[1])
    assert await core.remove_lora(1)
    assert not await core.remove_lora(1)
    assert await core.list_loras() == set()


async def test_removing_an_adapter_under_its_answer_reads_it_again(adapters: Adapters) -> None:
    core = by_hand(Limits())
    lora = adapters[1]
    words = []
    async for token in stepped(core, core.generate(["hi"], lora=lora)):
        words.append(token.word)
        await core.remove_lora(1)
    assert words == ["1", "1", "1"]
    assert core.reads == 3
