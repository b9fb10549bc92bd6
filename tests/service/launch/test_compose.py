"""What a service process is put together with where no setting says it."""

from __future__ import annotations

from typing import Any

import pytest

from adapters.settings import Settings
from service.launch.compose import calm_sequences


@pytest.mark.parametrize(
    ("said", "cores", "answers"),
    [
        ({"engine": "cpu"}, 1, 2),
        ({"engine": "cpu"}, 8, 8),
        ({"engine": "gpu"}, 8, 16),
        ({"engine": "cpu", "calm_sequences": 5}, 8, 5),
        ({"engine": "gpu", "calm_sequences": 5}, 8, 5),
    ],
)
def test_beside_a_calm_unit_a_cpu_gives_an_answer_to_each_core_and_a_gpu_all(
    said: dict[str, Any], cores: int, answers: int
) -> None:
    assert calm_sequences(Settings(**said), shared=16, cores=cores) == answers
