"""Adapters made elsewhere, in folders shaped as each tool writes them."""

from __future__ import annotations

import io
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from adapters.admission.checks import admit
from adapters.admission.imports import Imported, prepare_import
from adapters.errors import Rejected
from tests.adapters.admission.archives import an_adapter, tarred, zipped
from tests.adapters.admission.tensors import (
    CONFIG,
    IN,
    MODULES,
    OUT,
    RANK,
    SHAPES,
    Array,
    a_half,
    adapter_tensors,
)

V_PROJ = "model.layers.0.self_attn.v_proj"
EVERYWHERE = adapter_tensors() | {
    a_half(V_PROJ, half): np.full(shape, 0.01, "<f4")
    for half, shape in (("A", (RANK, IN)), ("B", (IN, RANK)))
}
"""Tensors for every linear layer of the base."""

OF_PEFT: dict[str, Any] = CONFIG | {
    "alora_invocation_tokens": None,
    "arrow_config": None,
    "corda_config": None,
    "ensure_weight_tying": False,
    "eva_config": None,
    "exclude_modules": None,
    "fan_in_fan_out": False,
    "inference_mode": True,
    "layer_replication": None,
    "layers_pattern": None,
    "lora_bias": False,
    "megatron_config": None,
    "megatron_core": "megatron.core",
    "peft_version": "0.18.0",
    "qalora_group_size": 16,
    "target_parameters": None,
    "trainable_token_indices": None,
    "use_qalora": False,
}
"""Every key that a PEFT of today writes."""
CARD = b"---\nlibrary_name: peft\nbase_model: org/base\n---\n# Model Card for Model ID\n"


def of_peft(config: Mapping[str, Any] | None = None) -> dict[str, bytes]:
    return an_adapter(config=OF_PEFT | dict(config or {})) | {"README.md": CARD}


def of_unsloth() -> dict[str, bytes]:
    """Its targets are one regular expression over attention and MLP; the tokenizer lies beside."""
    expression = (
        r"(?:.*?(?:language|text).*?(?:self_attn|attention|attn|mlp|feed_forward|ffn|dense).*?"
        r"(?:q_proj|down_proj).*?)|(?:\bmodel\.layers\.[\d]{1,}\.(?:self_attn|mlp)\."
        r"(?:(?:q_proj|down_proj)))"
    )
    config = OF_PEFT | {
        "auto_mapping": {
            "base_model_class": "LlamaForCausalLM",
            "parent_library": "transformers.models.llama.modeling_llama",
            "unsloth_fixed": True,
        },
        "base_model_name_or_path": "unsloth/llama-3-8b-bnb-4bit",
        "target_modules": expression,
        "task_type": "CAUSAL_LM",
        "unsloth_fixed": True,
    }
    return an_adapter(config=config) | {
        "README.md": b"---\nbase_model: unsloth/llama-3-8b-bnb-4bit\ntags: [unsloth, lora]\n---\n",
        "chat_template.jinja": b"{{ messages }}",
        "special_tokens_map.json": b"{}",
        "tokenizer.json": b"{}",
        "tokenizer_config.json": b"{}",
    }


def of_axolotl() -> dict[str, bytes]:
    """`lora_target_linear: true` lists what it found; config and checkpoints lie beside."""
    config = OF_PEFT | {"target_modules": ["down_proj", "q_proj"], "lora_dropout": 0.05}
    checkpoint = {
        f"checkpoint-10/{name}": content for name, content in an_adapter(config=config).items()
    }
    return an_adapter(config=config) | {
        "README.md": b"---\ntags: [axolotl]\n---\n```yaml\nadapter: lora\n```\n",
        "config.json": b"{}",
        "debug.log": b"",
        "tokens.json": b"{}",
        **checkpoint,
        "checkpoint-10/optimizer.pt": b"\x80pickle",
        "checkpoint-10/rng_state.pth": b"\x80pickle",
    }


def of_llama_factory() -> dict[str, bytes]:
    """`lora_target: all` lists names; task_type and the training's own files as it writes them."""
    config = OF_PEFT | {"target_modules": ["q_proj", "down_proj"], "task_type": "CAUSAL_LM"}
    return an_adapter(config=config) | {
        "README.md": b"---\nlibrary_name: peft\nlicense: other\ntags: [llama-factory, lora]\n---\n",
        "all_results.json": b"{}",
        "train_results.json": b"{}",
        "trainer_log.jsonl": b"{}\n",
        "trainer_state.json": b"{}",
        "training_args.bin": b"\x80pickle",
        "training_loss.png": b"\x89PNG",
    }


def of_ms_swift() -> dict[str, bytes]:
    """Its own keys stand beside PEFT's, and its targets are a regular expression or all-linear."""
    config = OF_PEFT | {
        "lora_dtype": "bfloat16",
        "lorap_emb_lr": 1e-06,
        "lorap_lr_ratio": 16.0,
        "target_modules": r"^(model\.layers(?=\.).*\.(q_proj|down_proj))$",
        "task_type": "CAUSAL_LM",
    }
    return an_adapter(config=config) | {
        "additional_config.json": b'{"lora_dtype": null, "lorap_lr_ratio": null}',
        "args.json": b"{}",
        "optimizer.pt": b"\x80pickle",
        "scheduler.pt": b"\x80pickle",
        "training_args.bin": b"\x80pickle",
    }


TOOLS = {
    "peft": of_peft,
    "unsloth": of_unsloth,
    "axolotl": of_axolotl,
    "llama-factory": of_llama_factory,
    "ms-swift": of_ms_swift,
}


def bring(folder: Path, files: Mapping[str, bytes], *, max_rank: int = 8) -> Imported:
    folder.mkdir(exist_ok=True)
    archive = io.BytesIO(tarred({f"out/{name}": content for name, content in files.items()}))
    return prepare_import(archive, folder, base=SHAPES, max_rank=max_rank, card="# no card\n")


def config_of(folder: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((folder / "adapter_config.json").read_text())
    return found


def refusal(folder: Path, **config: Any) -> str:
    with pytest.raises(Rejected) as raised:
        bring(folder, of_peft(config))
    return raised.value.message


@pytest.mark.parametrize("tool", TOOLS)
def test_what_a_tool_writes_is_imported_with_the_same_weights_and_named_layers(
    tmp_path: Path, tool: str
) -> None:
    files = TOOLS[tool]()
    imported = bring(tmp_path / "in", files)
    assert imported.admitted.rank == RANK
    assert (tmp_path / "in" / "adapter_model.safetensors").read_bytes() == files[
        "adapter_model.safetensors"
    ]
    assert config_of(tmp_path / "in")["target_modules"] == ["down_proj", "q_proj"]
    assert admit(tmp_path / "in", base=SHAPES, max_rank=8).rank == RANK
    assert imported.left == len(files) - 2 - imported.brought_card
    assert imported.brought_card is ("README.md" in files)
    assert {path.name for path in (tmp_path / "in").iterdir()} == {
        "README.md",
        "adapter_config.json",
        "adapter_model.safetensors",
    }


def test_a_zip_does_as_well_and_harmless_keys_are_named(tmp_path: Path) -> None:
    archive = io.BytesIO(zipped(of_ms_swift()))
    imported = prepare_import(archive, tmp_path, base=SHAPES, max_rank=8, card="# no card\n")
    assert imported.dropped == ("lora_dtype", "lorap_emb_lr", "lorap_lr_ratio")
    assert (tmp_path / "README.md").read_text() == "# no card\n"


def with_tensors(tensors: Mapping[str, Array], **config: Any) -> dict[str, bytes]:
    return an_adapter(tensors=tensors, config=OF_PEFT | config)


def test_all_linear_is_what_the_base_has_and_the_tensors_must_be_there(tmp_path: Path) -> None:
    bring(tmp_path / "a", with_tensors(EVERYWHERE, target_modules="all-linear", task_type=None))
    written = config_of(tmp_path / "a")
    assert written["target_modules"] == ["down_proj", "q_proj", "v_proj"]
    assert written["task_type"] == "CAUSAL_LM"
    assert "3 layers of this base, and there are tensors for 2" in refusal(
        tmp_path / "b", target_modules="all-linear"
    )


def test_layers_that_names_alone_cannot_tell_are_named_in_full(tmp_path: Path) -> None:
    only = {name: t for name, t in adapter_tensors().items() if MODULES[0] in name}
    base = SHAPES | {"model.layers.1.self_attn.q_proj": (OUT, IN)}
    ways: list[dict[str, Any]] = [
        {"target_modules": r".*layers\.0.*q_proj"},
        {"exclude_modules": ["layers.1.self_attn"]},
    ]
    for number, chosen in enumerate(ways):
        folder = tmp_path / str(number)
        folder.mkdir()
        prepare_import(
            io.BytesIO(tarred(with_tensors(only, **chosen))),
            folder,
            base=base,
            max_rank=8,
            card="",
        )
        assert config_of(folder)["target_modules"] == [MODULES[0]]


def test_an_expression_is_never_run(tmp_path: Path) -> None:
    """This one takes longer than the universe has been there, on any of the modules' names."""
    evil = r"(([a-z._0-9]+)+)+!"
    bring(tmp_path / "a", an_adapter(config=OF_PEFT | {"target_modules": evil}))
    assert "regular expression" in refusal(tmp_path / "b", alpha_pattern={evil: 4})


def test_ranks_and_alphas_by_expression_are_said_by_name(tmp_path: Path) -> None:
    tensors = adapter_tensors() | {
        a_half(MODULES[1], "A"): np.ones((6, IN), "<f4"),
        a_half(MODULES[1], "B"): np.ones((OUT, 6), "<f4"),
    }
    config = {
        "rank_pattern": {r"^(.*\.)?mlp\.down_proj$": 6},
        "alpha_pattern": {r"^model\.layers\.1\.mlp\.down_proj$": 12, r".*\.q_proj": 4},
    }
    assert bring(tmp_path / "a", with_tensors(tensors, **config)).admitted.rank == 6
    written = config_of(tmp_path / "a")
    assert written["rank_pattern"] == {MODULES[1]: 6}
    assert written["alpha_pattern"] == {MODULES[0]: 4, MODULES[1]: 12}


@pytest.mark.parametrize(
    ("config", "said"),
    [
        ({"use_dora": True}, "use_dora"),
        ({"bias": "all"}, "bias"),
        ({"modules_to_save": ["lm_head"]}, "modules_to_save"),
        ({"init_lora_weights": "pissa"}, "init_lora_weights"),
        ({"trainable_token_indices": [1]}, "trainable_token_indices"),
        ({"layer_replication": [[0, 2]]}, "layer_replication"),
        ({"task_type": "SEQ_CLS"}, "task_type"),
        ({"peft_type": "ADALORA"}, "peft_type"),
        ({"a_way_to_change_answers": 1}, "a_way_to_change_answers"),
        ({"r": 16, "rank_pattern": {"q_proj": RANK, "down_proj": RANK}}, "rank 16 is higher"),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else "",
)
def test_what_the_engine_cannot_serve_is_refused_by_name(
    tmp_path: Path, config: dict[str, Any], said: str
) -> None:
    assert said in refusal(tmp_path / "a", **config)


def test_an_adapter_for_another_base_is_refused_with_the_layer_that_is_not_there(
    tmp_path: Path,
) -> None:
    other = {name.replace("layers.0", "layers.9"): t for name, t in adapter_tensors().items()}
    for config in ({}, {"target_modules": "all-linear"}):
        with pytest.raises(Rejected, match=r"no linear layer 'model\.layers\.9") as raised:
            bring(tmp_path / f"a{len(config)}", with_tensors(other, **config))
        assert raised.value.reason == "adapter_tensors"


def test_an_import_of_what_was_imported_changes_no_byte(tmp_path: Path) -> None:
    bring(tmp_path / "a", of_unsloth())
    files = {path.name: path.read_bytes() for path in (tmp_path / "a").iterdir()}
    bring(tmp_path / "b", files)
    assert {path.name: path.read_bytes() for path in (tmp_path / "b").iterdir()} == files
