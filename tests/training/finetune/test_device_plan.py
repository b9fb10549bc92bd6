"""How a device is used: a pure decision over sizes, and what follows when memory runs out."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import asdict, replace

import pytest

from adapters.domain.recipes import Quantization
from training.base.precision import Precision
from training.finetune.device_plan import (
    BUSY,
    BaseSize,
    Device,
    DevicePlan,
    Devices,
    OutOfMemory,
    Rows,
    needs,
    plan_device,
    plan_from_json,
    smaller,
)

GIB = 1 << 30
EMBEDDED = BaseSize(
    parameters=2_300_000,
    quantisable=1_900_000,
    adapter=350_000,
    layers=4,
    hidden=192,
    feed_forward=512,
    heads=6,
    vocabulary=2048,
)
EIGHT_BILLION = BaseSize(
    parameters=8_190_000_000,
    quantisable=6_946_000_000,
    adapter=43_600_000,
    layers=36,
    hidden=4096,
    feed_forward=12_288,
    heads=32,
    vocabulary=152_000,
)
SHORT_ROWS = Rows(in_step=32, longest=64, learnt=12)
LONG_ROWS = Rows(in_step=16, longest=2048, learnt=1000)


def gpu(gib: float) -> Device:
    return Device(kind="cuda", free=int(gib * GIB), threads=8)


def cpu(gib: float) -> Device:
    return Device(kind="cpu", free=int(gib * GIB), threads=2)


def until_the_end(plan: DevicePlan) -> Iterator[DevicePlan]:
    left: DevicePlan | None = plan
    while left is not None:
        yield left
        left = smaller(left)


def test_a_small_base_is_trained_whole_steps_at_a_time() -> None:
    plan = plan_device(EMBEDDED, SHORT_ROWS, cpu(8), Precision.FLOAT32)
    assert (plan.micro_batch, plan.accumulation) == (32, 1)
    assert (plan.gradient_checkpointing, plan.attention) == (False, "eager")
    assert plan.loss_chunk > 32 * 12, "no chunks are needed"


@pytest.mark.parametrize(
    ("device", "longest", "attention"),
    [(cpu(8), 256, "eager"), (cpu(8), 257, "sdpa"), (gpu(8), 64, "sdpa")],
)
def test_attention_by_matrix_products_is_for_short_rows_on_a_cpu(
    device: Device, longest: int, attention: str
) -> None:
    rows = replace(SHORT_ROWS, longest=longest)
    assert plan_device(EMBEDDED, rows, device, Precision.FLOAT32).attention == attention


def test_eight_billion_parameters_and_a_large_vocabulary_fit_into_80_gib_and_into_24() -> None:
    large, small = (
        plan_device(EIGHT_BILLION, LONG_ROWS, gpu(gib), Precision.BFLOAT16) for gib in (79, 23.5)
    )
    for plan, gib in ((large, 79), (small, 23.5)):
        assert needs(plan, EIGHT_BILLION, LONG_ROWS).total < gib * GIB
        assert plan.loss_chunk * EIGHT_BILLION.vocabulary * 12 <= GIB / 2
        assert plan.loss_chunk < LONG_ROWS.learnt, "the loss is computed in chunks"
    assert (small.gradient_checkpointing, large.gradient_checkpointing) == (True, False)


def test_eight_billion_parameters_fit_into_24_gib_in_nf4_with_half_of_it_to_spare() -> None:
    def plan(gib: float, quantization: Quantization) -> DevicePlan:
        return plan_device(
            EIGHT_BILLION, LONG_ROWS, gpu(gib), Precision.BFLOAT16, quantization=quantization
        )

    for gib, quantization in ((23.5, Quantization.NF4), (79, Quantization.NONE)):
        fitting = plan(gib, quantization)
        assert fitting.quantization is quantization
        assert needs(fitting, EIGHT_BILLION, LONG_ROWS).total < gib * GIB
        assert fitting.loss_chunk < LONG_ROWS.learnt, "the loss is computed in chunks"
    quantised = plan(12, Quantization.NF4)
    assert 5.5 < needs(quantised, EIGHT_BILLION, LONG_ROWS).base / GIB < 6.0
    with pytest.raises(OutOfMemory, match=r"`quantization: nf4`"):
        plan(12, Quantization.NONE)
    with pytest.raises(OutOfMemory) as refused:
        plan(6, Quantization.NF4)
    assert "nf4" not in refused.value.message, "that advice was taken"


def test_what_nf4_frees_is_used_for_more_rows_at_once() -> None:
    plain, quantised = (
        plan_device(
            EIGHT_BILLION, LONG_ROWS, gpu(23.5), Precision.BFLOAT16, quantization=quantization
        )
        for quantization in Quantization
    )
    assert quantised.micro_batch > plain.micro_batch
    assert replace(quantised, micro_batch=1).as_text() == (
        "the GPU in bfloat16, the base in nf4, 1 row at once, 16 passes a step, activations "
        "computed twice"
    )


def test_more_memory_never_makes_a_slower_plan() -> None:
    plans = [
        plan_device(EIGHT_BILLION, LONG_ROWS, gpu(gib), Precision.BFLOAT16)
        for gib in range(24, 400, 4)
    ]
    speeds = [(not plan.gradient_checkpointing, plan.micro_batch) for plan in plans]
    assert speeds == sorted(speeds)
    assert speeds[-1] == (True, LONG_ROWS.in_step)


def test_small_micro_batches_are_no_way_around_gradient_checkpointing() -> None:
    for gib in range(2, 80):
        plan = plan_device(EMBEDDED, replace(LONG_ROWS, longest=500), cpu(gib), Precision.FLOAT32)
        whole = plan.micro_batch == LONG_ROWS.in_step
        assert plan.gradient_checkpointing or whole or plan.micro_batch * 500 >= BUSY


def test_a_base_beside_an_engine_that_left_no_room_is_refused_with_the_arithmetic() -> None:
    with pytest.raises(OutOfMemory) as refused:
        plan_device(EIGHT_BILLION, LONG_ROWS, gpu(8), Precision.BFLOAT16)
    assert refused.value.reason == "out_of_memory"
    for words in ("one row of 2048 tokens", "base 15.3 GiB", "8.0 GiB were free", "smaller share"):
        assert words in refused.value.message


def test_out_of_memory_halves_the_rows_and_at_one_computes_activations_twice() -> None:
    plan = plan_device(EMBEDDED, replace(SHORT_ROWS, in_step=12), cpu(8), Precision.FLOAT32)
    tried = list(until_the_end(plan))
    assert [each.micro_batch for each in tried] == [12, 6, 3, 1, 1]
    assert [each.accumulation for each in tried] == [1, 2, 4, 12, 12]
    assert [each.gradient_checkpointing for each in tried] == [False] * 4 + [True]


def test_a_single_thread_and_a_single_row_are_told_as_one() -> None:
    plan = plan_device(EMBEDDED, SHORT_ROWS, cpu(8), Precision.FLOAT32)
    one = replace(plan, threads=1, micro_batch=1, batch=2, gradient_checkpointing=False)
    assert one.as_text() == "1 thread of the CPU in float32, 1 row at once, 2 passes a step"
    assert "2 threads of the CPU" in replace(one, threads=2).as_text()


def test_devices_share_the_rows_of_a_step_and_none_is_left_without_one() -> None:
    several = replace(gpu(79), count=4)
    plan = plan_device(EMBEDDED, replace(SHORT_ROWS, in_step=10), several, Precision.BFLOAT16)
    assert (plan.devices, plan.batch, plan.micro_batch, plan.accumulation) == (4, 10, 3, 1)
    assert plan.as_text() == "4 GPUs in bfloat16, 3 rows at once on each"
    assert replace(plan, micro_batch=1).accumulation == 3
    few = plan_device(EMBEDDED, replace(SHORT_ROWS, in_step=3), several, Precision.BFLOAT16)
    assert (few.devices, few.micro_batch) == (3, 1)


def test_jobs_at_once_use_other_gpus_as_long_as_there_are_enough() -> None:
    slots = [Devices(count=2, slot=slot) for slot in range(3)]
    assert [each.among(4) for each in slots] == [[0, 1], [2, 3], [0, 1]]
    assert [each.among(3) for each in slots] == [[0, 1], [2, 0], [1, 2]]
    assert Devices(count=8).among(2) == [0, 1], "no more than there are"
    assert [Devices(slot=slot).among(1) for slot in range(2)] == [[0], [0]]


@pytest.mark.parametrize("quantization", Quantization)
def test_a_plan_survives_as_json(quantization: Quantization) -> None:
    plan = plan_device(
        EIGHT_BILLION, LONG_ROWS, gpu(40), Precision.BFLOAT16, quantization=quantization
    )
    assert plan_from_json(json.loads(json.dumps(asdict(plan)))) == plan
    assert "the GPU in bfloat16" in plan.as_text()


def test_a_plan_of_a_build_that_quantised_nothing_is_read() -> None:
    plan = plan_device(EMBEDDED, SHORT_ROWS, cpu(8), Precision.FLOAT32)
    written = {name: value for name, value in asdict(plan).items() if name != "quantization"}
    assert plan_from_json(written) == plan
