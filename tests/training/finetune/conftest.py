"""Fixtures of the fine-tuner's tests."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.training.finetune.random_base import write_random_base


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_random_base(tmp_path_factory.mktemp("base"), hidden_size=16)
