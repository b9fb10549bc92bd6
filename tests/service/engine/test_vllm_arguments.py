"""vLLM's command line, as the settings make it."""

from __future__ import annotations

from adapters.settings import Settings
from service.engine.vllm_arguments import arguments

SHARE = "--gpu-memory-utilization"


def test_an_engine_on_a_gpu_is_told_its_share_of_the_memory_and_one_on_a_cpu_is_not() -> None:
    words = arguments(Settings(engine="gpu", gpu_share=0.4))
    assert words[words.index(SHARE) + 1] == "0.4"
    assert SHARE not in arguments(Settings(engine="cpu"))


def test_an_owners_own_words_for_the_engine_come_last() -> None:
    words = arguments(Settings(engine="gpu", engine_args=f"{SHARE} 0.7"))
    assert words[-2:] == [SHARE, "0.7"]
