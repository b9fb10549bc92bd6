"""A base of a few thousand random weights: two layers and 32 words, without a tokenizer."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from transformers import LlamaConfig, LlamaForCausalLM


def write_random_base(folder: Path, *, hidden_size: int, **options: Any) -> Path:
    """Writes it into `folder`, the same for the same options (of its configuration)."""
    torch.manual_seed(1)
    config = LlamaConfig(
        vocab_size=32,
        hidden_size=hidden_size,
        intermediate_size=2 * hidden_size,
        num_hidden_layers=2,
        num_attention_heads=2,
        num_key_value_heads=2,
        max_position_embeddings=64,
        **options,
    )
    LlamaForCausalLM(config).save_pretrained(folder)
    return folder
