"""Limits of serving that follow from a base and a device."""

from __future__ import annotations

from dataclasses import replace

import pytest

from adapters.domain.base_profile import BaseProfile, LinearModule
from adapters.domain.memory_plan import GIB, Device, MemoryPlan, plan_memory


def profile(
    *, parameters: int, context: int, kv: int, width: int, dtype: str = "bfloat16"
) -> BaseProfile:
    module = LinearModule(name="q_proj", count=1, shapes=((1, 1),), width=width)
    return BaseProfile(
        fingerprint=None,
        revision=None,
        architecture="LlamaForCausalLM",
        dtype=dtype,
        parameters=parameters,
        context=context,
        kv_numbers_per_token=kv,
        modules=(module,),
        end_tokens=("</s>",),
        chat=None,
        problems=(),
    )


TINY = profile(parameters=2_200_000, context=2048, kv=2 * 4 * 192, width=14_592, dtype="float32")
EIGHT_B = profile(parameters=8_190_000_000, context=40_960, kv=2 * 36 * 8 * 128, width=2_727_936)
LAPTOP = Device(memory=8 * GIB, host=8 * GIB, on_gpu=False)
CARD = Device(memory=80 * GIB, host=128 * GIB, on_gpu=True)
SMALL_CARD = Device(memory=24 * GIB, host=64 * GIB, on_gpu=True)
SMOLLM2 = profile(parameters=134_500_000, context=8192, kv=2 * 30 * 3 * 64, width=305_280)


def plan(base: BaseProfile, device: Device, trained: int | None = None) -> MemoryPlan:
    return plan_memory(base, device, max_lora_rank=64, trained_length=trained)


def test_the_tiny_base_is_served_as_it_always_was() -> None:
    assert plan(TINY, LAPTOP, 1024).settings() == {
        "dtype": "float32",
        "max_model_len": 1024,
        "kv_cache_gib": 1,
        "max_loras": 8,
        "max_cpu_loras": 32,
        "gpu_share": 0.9,
        "train_gpu_share": 1.0,
    }


def test_a_large_base_on_a_large_card_is_served_with_its_whole_context() -> None:
    made = plan(EIGHT_B, CARD)
    assert (made.max_model_len, made.max_loras, made.max_cpu_loras) == (40_960, 8, 32)
    assert made.weights == 2 * 8_190_000_000
    assert made.kv_per_token == 147_456
    assert made.problems == ()


def test_what_does_not_fit_makes_conversations_shorter_and_adapters_fewer() -> None:
    made = plan(EIGHT_B, SMALL_CARD)
    assert 1024 <= made.max_model_len < 40_960
    assert made.max_model_len % 256 == 0
    assert 2 <= made.max_loras < 8
    together = made.weights + made.max_loras * made.adapter
    assert together + 2 * made.max_model_len * made.kv_per_token <= 0.9 * SMALL_CARD.memory


def test_a_base_that_does_not_fit_is_a_problem_with_its_numbers() -> None:
    (problem,) = plan(EIGHT_B, LAPTOP).problems
    assert problem.blocking
    assert "15.3 GiB for its weights" in problem.what
    assert "8.0 GiB" in problem.what


@pytest.mark.parametrize(("base", "card"), [(SMOLLM2, SMALL_CARD), (EIGHT_B, CARD)])
def test_an_engine_that_shares_its_gpu_with_trainings_takes_half(
    base: BaseProfile, card: Device
) -> None:
    assert plan(base, card).gpu_share == 0.9
    shared = plan(base, replace(card, trainings=1))
    assert (shared.gpu_share, shared.train_gpu_share) == (0.5, 0.4)
    assert plan(base, replace(card, trainings=2)).train_gpu_share == 0.2, "for each of two jobs"


def test_where_half_a_gpu_holds_no_usual_conversation_the_engine_takes_what_it_needs() -> None:
    shared = plan(EIGHT_B, replace(SMALL_CARD, trainings=1))
    assert 0.5 < shared.gpu_share < 0.9
    assert shared.max_model_len >= 4096, "callers come first"
    assert shared.train_gpu_share == pytest.approx(0.9 - shared.gpu_share)
    assert not shared.problems
    crowded = plan(EIGHT_B, replace(CARD, memory=18 * GIB, trainings=1))
    assert (crowded.gpu_share, crowded.train_gpu_share) == (0.9, 0.05)


def test_trainings_get_what_an_owner_leaves_of_a_shared_gpu() -> None:
    made = plan_memory(
        EIGHT_B,
        replace(CARD, trainings=1),
        max_lora_rank=64,
        trained_length=None,
        gpu_share=0.35,
    )
    assert (made.gpu_share, made.train_gpu_share) == (0.35, 0.55)
    together = made.weights + made.max_loras * made.adapter
    assert together + 2 * made.max_model_len * made.kv_per_token <= 0.35 * CARD.memory
