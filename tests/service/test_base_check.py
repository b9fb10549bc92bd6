"""`wardrobe base check`, as a user runs it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from service.cli.app import app
from service.cli.error_messages import run
from tests.training.base.test_base_profile import a_base, config_of


def test_a_base_that_can_be_used_is_described_and_exits_with_zero(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    base = a_base(tmp_path / "base", config_of("Qwen2", "Qwen2ForCausalLM"), "qwen2_5")
    assert run(app, ["base", "check", str(base), "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["usable"]
    assert found["profile"]["architecture"] == "Qwen2ForCausalLM"
    assert found["memory"]["max_model_len"] == 4096


def test_one_that_cannot_is_told_why_and_exits_with_one(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = config_of("Qwen2", "Qwen2ForCausalLM")
    config.quantization_config = {"quant_method": "gptq", "bits": 4}
    base = a_base(tmp_path / "base", config, "deepseek_r1_distill")
    assert run(app, ["base", "check", str(base)]) == 1
    out = capsys.readouterr().out
    assert "is quantised (gptq)" in out
    assert "one turn: " in out
    assert "usable          no" in out
