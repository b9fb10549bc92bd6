"""The line to a process that computes for a run: what comes over it, and how it ends."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from adapters.domain.recipes import Recipe
from tests.training.world import alive, wait_until
from training.base.precision import Precision
from training.data.render import Rendered
from training.finetune.compared_rows import Compared
from training.finetune.device_plan import DevicePlan
from training.finetune.rank_link import RankLink, RankLost
from training.finetune.rank_orders import (
    Compute,
    Join,
    Load,
    RankOrder,
    SumGradients,
    TakeWeights,
    Work,
    order_line,
    order_of,
)

SPEAKING = """
import os, sys
from training.finetune.rank_link import OwnLink
link = OwnLink()
link.keep_telling()
"""


@contextmanager
def a_link(script: str, *, silence: float = 300.0) -> Iterator[RankLink]:
    link = RankLink(1, command=[sys.executable, "-c", script], silence=silence)
    try:
        yield link
    finally:
        link.hang_up()
        link.end()
        assert not alive(link.pid)


def test_signs_of_life_are_no_answers_and_numbers_come_as_they_were() -> None:
    script = (
        SPEAKING
        + """
for line in link:
    os.write(0, b"{}\\n")
    link.answer(None if line == b"much\\n" else (float("nan"), 0.1 + 0.2, 3))
"""
    )
    with a_link(script) as link:
        link.send(b"little\n")
        link.send(b"much\n")
        nan, *rest = link.answer() or [0.0]
        assert nan != nan
        assert rest == [0.1 + 0.2, 3]
        assert link.answer() is None, "memory ran out"
        link.check()


def test_a_process_that_works_for_longer_than_silence_may_last_is_waited_for(
    tmp_path: Path,
) -> None:
    silence, started = 1.2, tmp_path / "started"
    working = f"""
import time
from pathlib import Path
from training.finetune.rank_link import OwnLink
link = OwnLink()
link.keep_telling(every=0.05)
Path({str(started)!r}).touch()
for line in link:
    time.sleep({silence + 0.4})
    link.answer((1.0,))
"""
    with a_link(working, silence=silence) as link:
        wait_until(started.exists)
        link.send(b"work\n")
        assert link.answer() == [1.0]


def test_a_process_that_gives_no_sign_of_life_is_told_from_one_that_works() -> None:
    with (
        a_link("import time; time.sleep(600)", silence=0.2) as link,
        pytest.raises(RankLost, match="process 1 that trains with this one hangs"),
    ):
        link.answer()


def test_a_process_that_ended_is_told_with_how() -> None:
    with a_link("raise SystemExit(7)") as link:
        with pytest.raises(RankLost, match=r"left \(exit code 7\)"):
            link.answer()
        with pytest.raises(RankLost, match="left"):
            link.check()


def test_an_answer_that_a_death_cut_off_is_none() -> None:
    script = "import os; os.write(0, b'{\"numbers\": [1.0, 2'); raise SystemExit(7)"
    with a_link(script) as link, pytest.raises(RankLost, match=r"left \(exit code 7\)"):
        link.answer()


def test_an_error_is_told_by_its_kind_and_never_by_its_words() -> None:
    with (
        a_link(SPEAKING + "link.failed(ValueError('a secret'))") as link,
        pytest.raises(RankLost, match="failed with ValueError") as told,
    ):
        link.answer()
    assert "secret" not in str(told.value)


def test_an_order_is_read_as_it_was_given() -> None:
    plan = DevicePlan(
        device="cpu",
        precision=Precision.BFLOAT16,
        batch=8,
        micro_batch=2,
        attention="sdpa",
        gradient_checkpointing=True,
        loss_chunk=7,
        threads=1,
        devices=2,
    )
    read = Rendered(ids=(1, 2), learn=(False, True))
    compared = Compared(answer=read, other=read, answer_then=-0.1, other_then=-2.5, liked=False)
    load = Load(
        base=Path("base"), recipe=Recipe(rank=4), plan=plan, liked=0.25, place=1, gpu_share=0.4
    )
    orders: list[RankOrder] = [
        load,
        Join(store=Path("store"), rank=1, ranks=2),
        TakeWeights(),
        Compute(work=Work.GRADIENTS, rows=(read,), plan=plan, learnt=3, seed=1 << 60),
        Compute(work=Work.GAINED, rows=(compared, compared), plan=plan, drift=float("inf")),
        SumGradients(),
    ]
    for order in orders:
        line = order_line(order)
        assert line.count(b"\n") == 1
        assert order_of(line) == order


def test_none_outlives_a_run_that_is_killed(tmp_path: Path) -> None:
    script = """
import sys, time
from training.finetune.rank_link import RankLink
print(RankLink(1, command=[sys.executable, "-c", "import time; time.sleep(600)"]).pid, flush=True)
time.sleep(600)
"""
    with subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE) as run:
        assert run.stdout is not None
        pid = int(run.stdout.readline())
        assert alive(pid)
        os.kill(run.pid, signal.SIGKILL)
    wait_until(lambda: not alive(pid))
