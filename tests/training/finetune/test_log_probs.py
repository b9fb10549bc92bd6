"""Teacher-forced log-probabilities by the trainer's own forward pass."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from peft import LoraConfig, PeftModel, get_peft_model
from transformers import AutoModelForCausalLM

from training.finetune.loaded_base import LoadedBase
from training.finetune.log_probs import first_with_room, log_probs

pytestmark = pytest.mark.slow

ROWS = [[1, 5, 9, 12, 3], [1, 7, 2], [1, 30, 31, 29, 8, 8, 3]]
STARTS = [3, 1, 5]


def adapter_of(base: Path, folder: Path, *, strength: float) -> Path:
    model: Any = AutoModelForCausalLM.from_pretrained(base, local_files_only=True)
    torch.manual_seed(2)
    tuned: Any = get_peft_model(model, LoraConfig(r=4, target_modules=["q_proj", "down_proj"]))
    for name, part in tuned.named_parameters():
        if "lora_B" in name:
            part.data.normal_(std=strength)
    tuned.save_pretrained(folder)
    return folder


def test_they_are_the_models_own_for_each_token_of_the_reference(
    base: Path, tmp_path: Path
) -> None:
    adapter = adapter_of(base, tmp_path, strength=0.5)
    found = log_probs(base=LoadedBase(base), adapter=adapter, rows=ROWS, starts=STARTS)
    assert [len(row) for row in found] == [2, 2, 2]
    whole: Any = AutoModelForCausalLM.from_pretrained(base, local_files_only=True)
    model: Any = PeftModel.from_pretrained(whole, adapter).eval()
    for row, start, scored in zip(ROWS, STARTS, found, strict=True):
        with torch.no_grad():
            every = model(input_ids=torch.tensor([row])).logits[0].log_softmax(-1)
        expected = [float(every[at - 1, row[at]]) for at in range(start, len(row))]
        assert scored == pytest.approx(expected, abs=1e-5)
        assert all(each < 0 for each in scored)


def test_an_adapter_moves_them_and_one_that_does_nothing_does_not(
    base: Path, tmp_path: Path
) -> None:
    found = {
        strength: log_probs(
            base=LoadedBase(base),
            adapter=adapter_of(base, tmp_path / str(strength), strength=strength),
            rows=ROWS,
            starts=STARTS,
        )
        for strength in (0.0, 1e-9, 0.5)
    }
    assert found[0.0][0] == pytest.approx(found[1e-9][0], abs=1e-6)
    assert found[0.0][0] != pytest.approx(found[0.5][0], abs=1e-3)


def test_where_a_gpu_has_no_room_for_the_whole_base_the_next_place_is_asked() -> None:
    asked: list[str] = []

    def small() -> str:
        asked.append("small")
        raise torch.OutOfMemoryError("CUDA out of memory")

    def broken() -> str:
        raise RuntimeError("a mistake of ours")

    def large() -> str:
        asked.append("large")
        return "answer"

    assert first_with_room([small, large]) == "answer"
    assert asked == ["small", "large"]
    assert first_with_room([large, broken]) == "answer"
    with pytest.raises(RuntimeError, match="a mistake"):
        first_with_room([broken, large])
    with pytest.raises(torch.OutOfMemoryError):
        first_with_room([small, small])
