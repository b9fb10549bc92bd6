"""What PEFT itself writes, imported: it answers to the last bit as it did where it was made."""

from __future__ import annotations

import io
import tarfile
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import LoraConfig, PeftModel, get_peft_model
from transformers import AutoModelForCausalLM

from adapters.admission.base_model import base_shapes
from adapters.admission.imports import prepare_import

ROW = torch.tensor([[1, 5, 9, 12, 3, 30, 7]])


def made_by_peft(base: Path, folder: Path, config: LoraConfig) -> None:
    torch.manual_seed(2)
    model: Any = AutoModelForCausalLM.from_pretrained(base, local_files_only=True)
    tuned: Any = get_peft_model(model, config)
    for name, part in tuned.named_parameters():
        if "lora_B" in name:
            part.data.normal_(std=0.5)
    tuned.save_pretrained(folder)


def logits(base: Path, adapter: Path) -> torch.Tensor:
    model: Any = AutoModelForCausalLM.from_pretrained(base, local_files_only=True)
    tuned: Any = PeftModel.from_pretrained(model, adapter).eval()
    with torch.no_grad():
        found: torch.Tensor = tuned(input_ids=ROW).logits
    return found


CONFIGS = {
    "all-linear": {"target_modules": "all-linear"},
    "regex": {"target_modules": r".*\.(self_attn\.(q|v)_proj|mlp\.down_proj)$"},
    "one layer": {"target_modules": r"model\.layers\.1\..*(q_proj|up_proj)"},
    "exclusion": {"target_modules": ["q_proj", "o_proj"], "exclude_modules": r".*layers\.0\..*"},
    "transformed": {"target_modules": ["q_proj", "up_proj"], "layers_to_transform": [1]},
    "patterns": {
        "target_modules": "all-linear",
        "rank_pattern": {r"^model\.layers\.0\.self_attn\.q_proj$": 2, "down_proj": 6},
        "alpha_pattern": {r".*\.down_proj": 3, "q_proj": 9},
        "use_rslora": True,
    },
}


@pytest.mark.slow
@pytest.mark.parametrize("way", CONFIGS)
def test_an_imported_adapter_answers_as_the_one_that_peft_wrote(
    base: Path, tmp_path: Path, way: str
) -> None:
    source, target = tmp_path / "source", tmp_path / "target"
    config = LoraConfig(r=4, lora_alpha=8, task_type="CAUSAL_LM", **CONFIGS[way])  # type: ignore[arg-type]
    made_by_peft(base, source, config)
    archive = io.BytesIO()
    with tarfile.open(fileobj=archive, mode="w:gz") as packed:
        packed.add(source, arcname="out")
    target.mkdir()
    prepare_import(archive, target, base=base_shapes(base), max_rank=8, card="")
    assert torch.equal(logits(base, source), logits(base, target))
