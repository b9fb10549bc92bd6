"""A base's profile from configuration and tokenizer alone: what it says, and every problem.

The configurations are those of public models, with fewer and smaller layers.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from adapters.domain.base_profile import from_json, served_dtype, to_json
from adapters.errors import InvalidRequest
from tests.training.base.test_chat_templates import TEMPLATES, ends_of, tokenizer_of
from training.base.profile import read_profile

if TYPE_CHECKING:
    from transformers import PretrainedConfig

SMALL: Mapping[str, Any] = {
    "vocab_size": 320,
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 4096,
    "dtype": "bfloat16",
}
ALL_SEVEN = ("down_proj", "gate_proj", "k_proj", "o_proj", "q_proj", "up_proj", "v_proj")
FUSED = ("down_proj", "gate_up_proj", "o_proj", "qkv_proj")


def config_of(kind: str, architecture: str, **more: Any) -> PretrainedConfig:
    import transformers

    made: PretrainedConfig = getattr(transformers, f"{kind}Config")(**{**SMALL, **more})
    made.architectures = [architecture]
    return made


def a_base(folder: Path, config: PretrainedConfig, template: str | None) -> Path:
    """A base without weights."""
    folder.mkdir(exist_ok=True)
    config.save_pretrained(folder)
    if template is not None:
        text = (TEMPLATES / f"{template}.jinja").read_text("utf-8")
        tokenizer = tokenizer_of(text, ends_of(template, text))
        tokenizer.save_pretrained(folder)
        ends = [tokenizer.convert_tokens_to_ids(end) for end in ends_of(template, text)]
        (folder / "generation_config.json").write_text(json.dumps({"eos_token_id": ends}))
    return folder


USABLE: Mapping[str, tuple[str, str, Mapping[str, Any], str, tuple[str, ...]]] = {
    "Llama 3.1": ("Llama", "LlamaForCausalLM", {}, "llama3_1", ALL_SEVEN),
    "SmolLM": ("Llama", "LlamaForCausalLM", {"tie_word_embeddings": True}, "qwen2_5", ALL_SEVEN),
    "Qwen2.5": ("Qwen2", "Qwen2ForCausalLM", {}, "qwen2_5", ALL_SEVEN),
    "Qwen3": ("Qwen3", "Qwen3ForCausalLM", {"head_dim": 8}, "qwen3", ALL_SEVEN),
    "Gemma": ("Gemma", "GemmaForCausalLM", {"head_dim": 8}, "gemma", ALL_SEVEN),
    "Phi-3": ("Phi3", "Phi3ForCausalLM", {"pad_token_id": 0}, "phi3", FUSED),
    "Llama 3.2": ("Llama", "LlamaForCausalLM", {"tie_word_embeddings": True}, "llama3_2",
                  ALL_SEVEN),
    "Gemma 3": ("Gemma3Text", "Gemma3ForCausalLM", {"head_dim": 8}, "gemma3", ALL_SEVEN),
    "Phi-3.5": ("Phi3", "Phi3ForCausalLM", {"pad_token_id": 0}, "phi3_5", FUSED),
    "OLMo 2": ("Olmo2", "Olmo2ForCausalLM", {"pad_token_id": 0}, "qwen2_5", ALL_SEVEN),
    "Granite": ("Granite", "GraniteForCausalLM", {}, "llama3", ALL_SEVEN),
    "Command R": ("Cohere", "CohereForCausalLM", {}, "cohere", ALL_SEVEN),
    "Mistral": ("Mistral", "MistralForCausalLM", {}, "llama3", ALL_SEVEN),
    "GLM": ("Glm", "GlmForCausalLM", {"head_dim": 8, "pad_token_id": 0}, "glm4moe",
            ("down_proj", "gate_up_proj", "k_proj", "o_proj", "q_proj", "v_proj")),
    "Qwen3 MoE": ("Qwen3Moe", "Qwen3MoeForCausalLM",
                  {"num_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 16,
                   "head_dim": 8},
                  "qwen3_instruct_2507", ("k_proj", "o_proj", "q_proj", "v_proj")),
    "gpt-oss": ("GptOss", "GptOssForCausalLM",
                {"num_local_experts": 4, "num_experts_per_tok": 2, "head_dim": 8},
                "gptoss", ("k_proj", "o_proj", "q_proj", "v_proj")),
}  # fmt: skip


@pytest.mark.parametrize("name", USABLE)
def test_a_base_that_can_be_used_says_its_modules_and_how_it_is_talked_to(
    name: str, tmp_path: Path
) -> None:
    kind, architecture, more, template, modules = USABLE[name]
    profile = read_profile(
        a_base(tmp_path / "base", config_of(kind, architecture, **more), template)
    )
    assert profile.usable, profile.problems
    assert profile.architecture == architecture
    assert tuple(module.name for module in profile.modules) == modules
    assert (profile.context, profile.dtype, profile.fingerprint) == (4096, "bfloat16", None)
    assert profile.kv_numbers_per_token == 2 * 2 * 2 * 8
    assert profile.chat is not None
    assert profile.chat.conversations["one turn"] == "learnt"
    assert profile.chat.ends_with.endswith(tuple(profile.end_tokens))
    assert from_json(json.loads(json.dumps(to_json(profile)))) == profile


def quantised(method: str, **more: Any) -> PretrainedConfig:
    made = config_of("Llama", "LlamaForCausalLM")
    made.quantization_config = {"quant_method": method, **more}
    return made


def vision() -> PretrainedConfig:
    import transformers

    made = transformers.LlavaConfig(
        text_config=config_of("Llama", "LlamaForCausalLM"),
        vision_config=transformers.CLIPVisionConfig(
            num_hidden_layers=1, hidden_size=32, num_attention_heads=4
        ),
    )
    made.architectures = ["LlavaForConditionalGeneration"]
    return made


UNUSABLE: Mapping[str, tuple[Any, str | None, str]] = {
    "AWQ": (lambda: quantised("awq", bits=4), "llama3", r"is quantised \(awq\)"),
    "GPTQ": (lambda: quantised("gptq", bits=4), "llama3", r"is quantised \(gptq\)"),
    "fp8": (lambda: quantised("fp8"), "qwen3", r"is quantised \(fp8\)"),
    "encoder": (lambda: config_of("Bert", "BertForMaskedLM"), "llama3", "does not write text"),
    "encoder and decoder": (
        lambda: config_of("T5", "T5ForConditionalGeneration", d_model=32, num_heads=4, d_kv=8),
        "llama3",
        "does not write text",
    ),
    "vision": (vision, "llama3", "reads more than text"),
    "DeepSeek-R1 distill": (
        lambda: config_of("Qwen2", "Qwen2ForCausalLM"),
        "deepseek_r1_distill",
        "opens answers with something",
    ),
    "no template": (lambda: config_of("Llama", "LlamaForCausalLM"), None, "tokenizer"),
}


@pytest.mark.parametrize("name", UNUSABLE)
def test_a_base_that_cannot_be_used_says_why(name: str, tmp_path: Path) -> None:
    make, template, reason = UNUSABLE[name]
    profile = read_profile(a_base(tmp_path / "base", make(), template))
    assert not profile.usable
    assert any(p.blocking and re.search(reason, p.what) for p in profile.problems), profile.problems


def test_a_model_that_wants_to_run_its_own_code_is_told_and_its_code_is_not_run(
    tmp_path: Path,
) -> None:
    base = a_base(tmp_path / "base", config_of("Llama", "LlamaForCausalLM"), "llama3")
    values = json.loads((base / "config.json").read_text())
    values["auto_map"] = {"AutoModelForCausalLM": "evil.Model"}
    (base / "config.json").write_text(json.dumps(values))
    (base / "evil.py").write_text("raise SystemExit('it ran')")
    assert any("never run" in problem.what for problem in read_profile(base).problems)


def test_all_problems_are_told_at_once(tmp_path: Path) -> None:
    config = config_of("Phi3", "Phi3ForCausalLM", pad_token_id=0)
    config.quantization_config = {"quant_method": "awq"}
    told = " ".join(p.what for p in read_profile(a_base(tmp_path / "b", config, "gemma")).problems)
    assert "quantised" in told
    assert "has no q_proj" in told
    assert "system and turn: " in told


@pytest.mark.parametrize("text", ["{", '{"model_type": "no-such-model"}', "[]"])
def test_a_configuration_that_cannot_be_read_is_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / "config.json").write_text(text)
    with pytest.raises(InvalidRequest, match=r"config\.json"):
        read_profile(tmp_path)


def test_with_thinking_on_the_profile_says_that_examples_need_thoughts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    base = a_base(tmp_path / "base", config_of("Qwen3", "Qwen3ForCausalLM", head_dim=8), "qwen3")
    off = read_profile(base)
    monkeypatch.setenv("WARDROBE_THINKING", "on")
    on = read_profile(base)
    assert off.chat is not None
    assert on.chat is not None
    assert (off.chat.options, on.chat.options) == (
        {"enable_thinking": False},
        {"enable_thinking": True},
    )
    assert off.usable
    assert not on.usable


def test_a_cpu_serves_float32_as_it_is_and_a_gpu_serves_halves_as_they_are() -> None:
    assert served_dtype("float32", on_gpu=False) == "float32"
    assert served_dtype("float16", on_gpu=False) == "bfloat16"
    assert served_dtype("bfloat16", on_gpu=True) == "bfloat16"
    assert served_dtype("float32", on_gpu=True) == "bfloat16"


def test_end_tokens_are_those_at_which_the_engine_stops(tmp_path: Path) -> None:
    base = a_base(tmp_path / "base", config_of("Llama", "LlamaForCausalLM"), "phi3")
    assert set(read_profile(base).end_tokens) == {"<|endoftext|>", "<|end|>"}
    (base / "generation_config.json").unlink()
    values = json.loads((base / "config.json").read_text())
    (base / "config.json").write_text(json.dumps({**values, "eos_token_id": 65}))
    ends = read_profile(base).end_tokens
    assert len(ends) == 2
    assert "<|endoftext|>" in ends
