"""An adapter made with PEFT elsewhere, imported, answering on the real engine, and exported."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import Any

import openai
import pytest
import torch
from peft import LoraConfig, get_peft_model
from transformers import AutoModelForCausalLM

from adapters.domain.principals import SYSTEM
from tests.e2e.stack import GREEDY, ROOT, Stack, command
from tests.e2e.test_fidelity import base_folder

pytestmark = pytest.mark.timeout(1800)

ASKED = [{"role": "user", "content": "my card has not come, what do i do"}]


def wardrobe(stack: Stack, *words: str) -> None:
    where = ["--url", stack.url]
    done = subprocess.run(
        command(*words, *where), cwd=ROOT, env=stack.environment, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr


def made_elsewhere(folder: Path) -> Path:
    torch.manual_seed(3)
    model: Any = AutoModelForCausalLM.from_pretrained(base_folder(), local_files_only=True)
    tuned: Any = get_peft_model(model, LoraConfig(r=4, target_modules="all-linear"))
    for name, part in tuned.named_parameters():
        if "lora_B" in name:
            part.data.normal_(std=0.2)
    tuned.save_pretrained(folder)
    return folder


def answer(stack: Stack, model: str) -> str:
    said = stack.client("sales").chat.completions.create(model=model, messages=ASKED, **GREEDY)
    assert said.model == model
    return str(said.choices[0].message.content)


def test_an_imported_adapter_answers_and_its_export_is_the_same_artifact(
    stack: Stack, tmp_path: Path
) -> None:
    source = made_elsewhere(tmp_path / "made")
    wardrobe(stack, "import", str(source), "--unit", "sales")
    with stack.registry() as registry:
        first = registry.versions.list(SYSTEM, adapter="sales", after=None, limit=1).items[0]
    assert first.imported
    base = stack.client("admin").chat.completions.create(
        model="wardrobe-base", messages=ASKED, **GREEDY
    )
    assert answer(stack, first.name) != base.choices[0].message.content
    wardrobe(stack, "export", first.name, str(tmp_path / "out"))
    wardrobe(stack, "import", str(tmp_path / "out"), "--unit", "sales")
    with stack.registry() as registry:
        second = registry.versions.list(SYSTEM, adapter="sales", after=None, limit=1).items[0]
    assert (second.number, second.digest) == (first.number + 1, first.digest)
    assert answer(stack, second.name) == answer(stack, first.name)


def test_a_version_that_nobody_signed_answers_nobody(stack: Stack) -> None:
    with stack.registry() as registry:
        signed = registry.versions.list(SYSTEM, adapter="sales", after=None, limit=1).items[0]
    unsigned = stack.variant(signed, strength=0.5, signed=False)
    with pytest.raises(openai.InternalServerError) as refused:
        answer(stack, unsigned.name)
    assert refused.value.code == "version_unavailable"
    assert "not signed" in refused.value.message
