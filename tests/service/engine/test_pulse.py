"""The pulse stops where the engine's core hangs, although the process in front of it lives."""

from __future__ import annotations

import asyncio
from contextlib import closing, suppress
from pathlib import Path

import pytest

from adapters.errors import EngineUnavailable
from service.engine import pulse
from service.engine.pulse import Pulse
from service.engine.vital_signs import VitalSigns


class Core:
    """An engine's core: answers, hangs, or is dead."""

    def __init__(self, how: str) -> None:
        self.how = how
        self.asked = asyncio.Event()
        self.workers: list[bool] = []
        self.enough = asyncio.Event()

    async def ping(self, *, workers: bool) -> None:
        self.asked.set()
        self.workers.append(workers)
        if len(self.workers) == 30:
            self.enough.set()
        if self.how == "hangs":
            await asyncio.Event().wait()
        if self.how == "is dead":
            raise EngineUnavailable("the engine does not answer")


async def beat(folder: Path, how: str) -> tuple[bool, bool]:
    """Whether the loop was heard, and whether the core was, once it was asked."""
    now = 100.0
    with closing(VitalSigns(folder / "signs", clock=lambda: now)) as signs:
        signs.note_start()
        core = Core(how)
        task = asyncio.create_task(Pulse(signs, core, process=3).run())
        await asyncio.wait_for(core.asked.wait(), 10)
        await asyncio.sleep(0)
        loop_heard = False
        now += 5.0
        loop_heard = signs.silence == 5.0
        signs.note_loop(3)
        core_heard = signs.silence == 5.0
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task
        return loop_heard, core_heard


async def test_a_living_engine_is_heard(tmp_path: Path) -> None:
    assert await beat(tmp_path, "answers") == (True, True)


async def test_a_core_that_hangs_or_is_dead_is_not_heard(tmp_path: Path) -> None:
    assert await beat(tmp_path, "hangs") == (True, False)
    assert await beat(tmp_path, "is dead") == (True, False)


async def test_workers_are_asked_at_once_and_then_seldom(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pulse, "CORE_SECONDS", 0.0)
    core = Core("answers")
    with closing(VitalSigns(tmp_path / "signs")) as signs:
        task = asyncio.create_task(Pulse(signs, core, process=0).run())
        await asyncio.wait_for(core.enough.wait(), 10)
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task
    asked = [at for at, workers in enumerate(core.workers[:30]) if workers]
    assert asked == [0, 12, 24]
