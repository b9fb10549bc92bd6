"""The precision of training: a decision over measured numbers, and a measurement that is quick."""

from __future__ import annotations

import time

import pytest
from pydantic import ValidationError

from adapters.settings import Settings
from training.base.precision import (
    BUDGET,
    Precision,
    Speed,
    choose,
    faster,
    measured,
    products_per_second,
)


@pytest.mark.parametrize(
    ("float32", "bfloat16", "chosen"),
    [
        (0.4, 6.3, Precision.FLOAT32),  # emulated: AVX2 only
        (0.0038, 0.0019, Precision.BFLOAT16),  # AVX-512 BF16
        (1.0, 1.0, Precision.FLOAT32),
        (1.0, 0.95, Precision.FLOAT32),
    ],
)
def test_bfloat16_is_taken_where_it_is_clearly_faster(
    float32: float, bfloat16: float, chosen: Precision
) -> None:
    assert faster(Speed(float32=float32, bfloat16=bfloat16)) is chosen


@pytest.mark.slow
def test_a_machine_is_measured_once_and_quickly_and_keeps_its_threads_and_dice() -> None:
    import torch

    torch.manual_seed(3)
    expected = torch.rand(1)
    torch.manual_seed(3)
    measured.cache_clear()
    threads, began = torch.get_num_threads(), time.process_time()
    speed = measured()
    # a second pass and its kernels beyond the budget, however slow the emulation
    assert time.process_time() - began < BUDGET + 10.0
    assert measured() is speed
    assert 0.0 < min(speed.float32, speed.bfloat16) < 5.0
    assert torch.get_num_threads() == threads
    assert torch.equal(torch.rand(1), expected)


@pytest.mark.slow
@pytest.mark.parametrize("wanted", ["float32", "bfloat16"])
def test_a_forced_precision_is_obeyed_without_a_measurement(wanted: str) -> None:
    measured.cache_clear()
    settings = Settings.model_validate({"train_precision": wanted})
    assert choose(settings.train_precision) == wanted
    assert measured.cache_info().misses == 0


@pytest.mark.slow
def test_auto_takes_what_is_faster_here() -> None:
    import torch

    if torch.cuda.is_available():
        assert choose("auto") is Precision.BFLOAT16
    else:
        assert choose("auto") is faster(measured())


def test_another_precision_is_refused_by_the_settings() -> None:
    with pytest.raises(ValidationError, match="train_precision"):
        Settings.model_validate({"train_precision": "float16"})


@pytest.mark.slow
def test_the_speed_of_products_is_that_of_a_jobs_threads_and_precision() -> None:
    import torch

    if torch.cuda.is_available():
        pytest.skip("a GPU trains instead")
    alone = products_per_second("float32", threads=1)
    assert alone is not None
    assert alone > 1e7
    assert products_per_second("float32", threads=2) == pytest.approx(2 * alone)
    every = torch.get_num_threads()
    assert products_per_second("float32", threads=0) == pytest.approx(every * alone)
    ratio = measured().float32 / measured().bfloat16
    assert products_per_second("bfloat16", threads=1) == pytest.approx(ratio * alone)
