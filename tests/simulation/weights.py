"""Adapters that speak: the weights of a marker adapter are the text that it answers with.

An answer then tells which bytes it was made from. The file is a real safetensors file, and
`read_weights` refuses what vLLM's loader refuses (`vllm/lora/peft_helper.py`,
`vllm/lora/worker_manager.py`): a torn file, a config that is no JSON, a rank that is too high.
"""

from __future__ import annotations

import json
import struct
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path

TENSOR = "base_model.model.simulated.lora_A.weight"
CONFIG = {"peft_type": "LORA", "r": 8, "lora_alpha": 16, "target_modules": ["simulated"]}


class AdapterNotFound(Exception):
    """No adapter found."""


@dataclass(frozen=True, kw_only=True)
class Weights:
    """One adapter as it was read from disk once."""

    words: tuple[str, ...]
    """What it answers, word by word; without any it has no effect, and the base answers."""
    digest: str
    """Of the tensors' file: tells one reading from another."""

    @property
    def logprob(self) -> float:
        """Of its likeliest first token: another number for other bytes."""
        return -1.0 - int(self.digest[:8], 16) / 2**32


def write_adapter(
    folder: Path, text: str, *, rank: int = 8, config: str | None = None, tensor: str = TENSOR
) -> Path:
    """An adapter that answers `text`. `config` and `tensor` replace the honest ones."""
    folder.mkdir(parents=True, exist_ok=True)
    data = text.encode()
    described = {tensor: {"dtype": "U8", "shape": [len(data)], "data_offsets": [0, len(data)]}}
    header = json.dumps(described).encode()
    content = struct.pack("<Q", len(header)) + header + data
    (folder / "adapter_config.json").write_text(config or json.dumps(CONFIG | {"r": rank}))
    (folder / "adapter_model.safetensors").write_bytes(content)
    return folder


def read_weights(folder: Path, *, max_rank: int) -> Weights:
    """Reads an adapter as vLLM's worker does.

    Raises AdapterNotFound when a file is missing, ValueError for what cannot be served.
    """
    try:
        config = json.loads((folder / "adapter_config.json").read_text())
        content = (folder / "adapter_model.safetensors").read_bytes()
    except (FileNotFoundError, NotADirectoryError) as error:
        raise AdapterNotFound(f"No adapter found for {folder}") from error
    rank = config.get("r", 0) if isinstance(config, dict) else 0
    if not 0 < rank <= max_rank:
        raise ValueError(f"LoRA rank {rank} is not within 1 and {max_rank}")
    return Weights(words=_words(content), digest=sha256(content).hexdigest())


def _words(content: bytes) -> tuple[str, ...]:
    """The text of the one tensor. Raises ValueError for a file that is not whole."""
    if len(content) < 8:
        raise ValueError("Error while deserializing header: header too small")
    (length,) = struct.unpack("<Q", content[:8])
    header, data = content[8 : 8 + length], content[8 + length :]
    if len(header) != length:
        raise ValueError("Error while deserializing header: invalid header length")
    described = json.loads(header)
    if len(data) != max(entry["data_offsets"][1] for entry in described.values()):
        raise ValueError("Error while deserializing header: incomplete metadata")
    if not any(".lora_" in name for name in described):
        return ()
    return tuple(data.decode().split())


def base_weights(name: str) -> Weights:
    """The base model: `answer of <name>`."""
    return Weights(words=("answer", "of", name), digest=sha256(name.encode()).hexdigest())
