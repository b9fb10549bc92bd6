"""Safetensors files, adapters and bases made by hand, so that each byte can be wrong on purpose."""

from __future__ import annotations

import json
import struct
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]

OUT, IN, RANK = 24, 16, 4
MODULES = ("model.layers.0.self_attn.q_proj", "model.layers.1.mlp.down_proj")
SHAPES = {
    **dict.fromkeys(MODULES, (OUT, IN)),
    "model.layers.0.self_attn.v_proj": (IN, IN),
}
CONFIG: dict[str, Any] = {
    "peft_type": "LORA",
    "task_type": "CAUSAL_LM",
    "r": RANK,
    "lora_alpha": 8,
    "target_modules": ["q_proj", "down_proj"],
    "base_model_name_or_path": "/home/someone/models/base",
    "auto_mapping": {"base_model_class": "X", "parent_library": "evil"},
    "revision": "main",
    "lora_dropout": 0.05,
    "use_rslora": False,
    "rank_pattern": {},
    "alpha_pattern": {},
    "modules_to_save": None,
    "use_dora": False,
    "bias": "none",
    "init_lora_weights": True,
    "layers_to_transform": None,
    "loftq_config": {},
    "peft_version": "0.21.2",
}
_DTYPES = {"<f4": "F32", "<f2": "F16", "<u2": "BF16", "<f8": "F64", "<i8": "I64"}


def encode(tensors: Mapping[str, Array], *, header: Mapping[str, Any] | None = None) -> bytes:
    """A safetensors file; `header` entries are added to, or replace, the honest ones."""
    described: dict[str, Any] = {}
    data = b""
    for name, array in tensors.items():
        raw = array.tobytes()
        described[name] = {
            "dtype": _DTYPES[array.dtype.str],
            "shape": list(array.shape),
            "data_offsets": [len(data), len(data) + len(raw)],
        }
        data += raw
    text = json.dumps(described | dict(header or {})).encode()
    return struct.pack("<Q", len(text)) + text + data


def a_half(module: str, half: str) -> str:
    return f"base_model.model.{module}.lora_{half}.weight"


def adapter_tensors(rank: int = RANK, dtype: str = "<f4") -> dict[str, Array]:
    """Both halves of every module, filled with small numbers."""
    draw = np.random.default_rng(3)
    tensors: dict[str, Array] = {}
    for module in MODULES:
        out_features, in_features = SHAPES[module]
        for half, shape in (("A", (rank, in_features)), ("B", (out_features, rank))):
            numbers = draw.normal(scale=0.1, size=shape).astype("<f4")
            # A bfloat16 is the upper half of a float32.
            bf16 = (numbers.view("<u4") >> 16).astype("<u2")
            tensors[a_half(module, half)] = bf16 if dtype == "<u2" else numbers.astype(dtype)
    return tensors


def write_adapter(
    folder: Path,
    *,
    tensors: Mapping[str, Array] | None = None,
    config: Mapping[str, Any] | None = None,
) -> Path:
    """An adapter that is admitted unless what is given is wrong."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "adapter_config.json").write_text(json.dumps(CONFIG | dict(config or {})))
    content = encode(adapter_tensors() if tensors is None else tensors)
    (folder / "adapter_model.safetensors").write_bytes(content)
    return folder


def write_base(folder: Path, *, shards: int = 1) -> Path:
    """A base model's folder with the modules of SHAPES, an embedding and a norm."""
    folder.mkdir(parents=True, exist_ok=True)
    tensors: dict[str, Array] = {
        "model.embed_tokens.weight": np.zeros((32, IN), "<f4"),
        "lm_head.weight": np.zeros((32, IN), "<f4"),
        "model.layers.0.input_layernorm.weight": np.zeros(IN, "<f4"),
        **{f"{module}.weight": np.zeros(shape, "<f4") for module, shape in SHAPES.items()},
    }
    (folder / "config.json").write_text('{"model_type": "llama"}')
    (folder / "tokenizer.json").write_text("{}")
    if shards == 1:
        (folder / "model.safetensors").write_bytes(encode(tensors))
        return folder
    weight_map: dict[str, str] = {}
    for number in range(shards):
        name = f"model-{number:05}.safetensors"
        part = dict(list(tensors.items())[number::shards])
        (folder / name).write_bytes(encode(part))
        weight_map |= dict.fromkeys(part, name)
    index = {"weight_map": weight_map}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    return folder
