"""Turns a GGUF file of the architecture `llama` into a Hugging Face folder.

Weights are dequantised, the tokenizer is rebuilt from the file's own tokens and merges.

Names and shapes: gguf's constants for the architecture `llama`; q and k rows come permuted for
interleaved rotary embeddings (llama.cpp, convert_hf_to_gguf.py: `permute`) and are turned back.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from gguf import GGUFReader, dequantize
from safetensors.numpy import save_file
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers

CONTROL = 3
"""gguf's token type of control tokens (`gguf.TokenType.CONTROL`)."""

_LAYER = {
    "attn_norm": "input_layernorm",
    "attn_q": "self_attn.q_proj",
    "attn_k": "self_attn.k_proj",
    "attn_v": "self_attn.v_proj",
    "attn_output": "self_attn.o_proj",
    "ffn_norm": "post_attention_layernorm",
    "ffn_gate": "mlp.gate_proj",
    "ffn_up": "mlp.up_proj",
    "ffn_down": "mlp.down_proj",
}
_WHOLE = {"token_embd": "model.embed_tokens", "output_norm": "model.norm"}


class DamagedFileError(ValueError):
    """The GGUF file lacks something that a model needs."""


def convert(packed: Path, directory: Path, *, chat_template: str) -> None:
    """Writes a GGUF file of the architecture `llama` as a Hugging Face folder in float32.

    Raises DamagedFileError.
    """
    reader = GGUFReader(packed)
    config = _config(reader)
    weights = dict(_weights(reader, config))
    save_file(weights, directory / "model.safetensors", metadata={"format": "pt"})
    _tokenizer(reader).save(str(directory / "tokenizer.json"))
    end = _token(reader, "eos")
    for name, values in {
        "config.json": config,
        "generation_config.json": {"eos_token_id": config["eos_token_id"]},
        "tokenizer_config.json": {
            "tokenizer_class": "PreTrainedTokenizerFast",
            "model_max_length": config["max_position_embeddings"],
            "clean_up_tokenization_spaces": False,
            "bos_token": _token(reader, "bos"),
            "eos_token": end,
            "pad_token": end,
            "unk_token": _token(reader, "unknown"),
            "chat_template": chat_template,
        },
    }.items():
        (directory / name).write_text(json.dumps(values, indent=2) + "\n", "utf-8")


def _config(reader: GGUFReader) -> dict[str, Any]:
    """Hugging Face's `LlamaConfig` in the file's own numbers."""
    heads = int(_value(reader, "llama.attention.head_count"))
    hidden = int(_value(reader, "llama.embedding_length"))
    return {
        "architectures": ["LlamaForCausalLM"],
        "model_type": "llama",
        "vocab_size": int(_value(reader, "llama.vocab_size")),
        "hidden_size": hidden,
        "intermediate_size": int(_value(reader, "llama.feed_forward_length")),
        "num_hidden_layers": int(_value(reader, "llama.block_count")),
        "num_attention_heads": heads,
        "num_key_value_heads": int(_value(reader, "llama.attention.head_count_kv")),
        "head_dim": hidden // heads,
        "hidden_act": "silu",
        "max_position_embeddings": int(_value(reader, "llama.context_length")),
        "rope_theta": float(_value(reader, "llama.rope.freq_base")),
        "rms_norm_eps": _norm_epsilon(reader),
        "attention_bias": False,
        "mlp_bias": False,
        "tie_word_embeddings": True,
        "bos_token_id": int(_value(reader, "tokenizer.ggml.bos_token_id")),
        "eos_token_id": int(_value(reader, "tokenizer.ggml.eos_token_id")),
        "pad_token_id": int(_value(reader, "tokenizer.ggml.padding_token_id")),
        "dtype": "float32",
    }


def _norm_epsilon(reader: GGUFReader) -> float:
    """As it was written down, not as the nearest float32 of it."""
    return float(str(np.float32(_value(reader, "llama.attention.layer_norm_rms_epsilon"))))


def _weights(
    reader: GGUFReader, config: Mapping[str, Any]
) -> Iterator[tuple[str, np.ndarray[Any, np.dtype[np.float32]]]]:
    heads = {"attn_q": config["num_attention_heads"], "attn_k": config["num_key_value_heads"]}
    for tensor in reader.tensors:
        stem = tensor.name.removesuffix(".weight")
        values = dequantize(tensor.data, tensor.tensor_type).astype(np.float32)
        if stem in _WHOLE:
            yield f"{_WHOLE[stem]}.weight", values
            continue
        _, number, part = stem.split(".")
        if part in heads:
            values = turned_back(values, heads[part])
        yield f"model.layers.{number}.{_LAYER[part]}.weight", np.ascontiguousarray(values)


def turned_back(
    rows: np.ndarray[Any, np.dtype[np.float32]], heads: int
) -> np.ndarray[Any, np.dtype[np.float32]]:
    """Rows (heads * size, in) from llama.cpp's interleaved order (size/2, 2) to (2, size/2)."""
    half = rows.shape[0] // heads // 2
    return rows.reshape(heads, half, 2, -1).swapaxes(1, 2).reshape(rows.shape)


def _tokenizer(reader: GGUFReader) -> Tokenizer:
    """Byte-level BPE that splits digits one by one (llama.cpp's pre-tokenizer `smollm`)."""
    tokens: list[str] = _value(reader, "tokenizer.ggml.tokens")
    kinds: list[int] = _value(reader, "tokenizer.ggml.token_type")
    merges = [tuple(pair.split(" ")) for pair in _value(reader, "tokenizer.ggml.merges")]
    vocabulary = {token: number for number, token in enumerate(tokens)}
    made = Tokenizer(models.BPE(vocab=vocabulary, merges=merges))
    made.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Digits(individual_digits=True),
            pre_tokenizers.ByteLevel(add_prefix_space=False),
        ]
    )
    made.decoder = decoders.ByteLevel()
    made.add_special_tokens(
        [
            AddedToken(token, special=True, normalized=False)
            for token, kind in zip(tokens, kinds, strict=True)
            if kind == CONTROL
        ]
    )
    return made


def _token(reader: GGUFReader, role: str) -> str:
    tokens: list[str] = _value(reader, "tokenizer.ggml.tokens")
    return tokens[int(_value(reader, f"tokenizer.ggml.{role}_token_id"))]


def _value(reader: GGUFReader, name: str) -> Any:
    field = reader.get_field(name)
    if field is None:
        raise DamagedFileError(f"the model file has no {name}")
    return field.contents()
