"""Which adapter directories are let in."""

from __future__ import annotations

import json
import os
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from adapters.admission.adapter_config import AdapterConfig, canonical_config, parse_config
from adapters.admission.checks import Admitted, Limits, admit, canonicalise
from adapters.errors import Rejected
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
    write_adapter,
)


def ask(folder: Path, *, max_rank: int = 8, limits: Limits | None = None) -> Admitted:
    return admit(folder, base=SHAPES, max_rank=max_rank, limits=limits)


def refusal(folder: Path, **options: Any) -> Rejected:
    with pytest.raises(Rejected) as raised:
        ask(folder, **options)
    return raised.value


def changed(**tensors: Array) -> dict[str, Array]:
    """The usual tensors with halves of the first module replaced."""
    return adapter_tensors() | {a_half(MODULES[0], half): array for half, array in tensors.items()}


@pytest.mark.parametrize("dtype", ["<f4", "<f2", "<u2"])
def test_a_sound_adapter_is_admitted(tmp_path: Path, dtype: str) -> None:
    folder = write_adapter(tmp_path / "a", tensors=adapter_tensors(dtype=dtype))
    (folder / "README.md").write_text("# card")
    (folder / "manifest.json").write_text("{}")
    admitted = ask(folder)
    assert admitted.rank == RANK
    assert admitted.size_bytes == sum(path.stat().st_size for path in folder.iterdir())


def test_patterns_give_modules_their_own_rank(tmp_path: Path) -> None:
    tensors = adapter_tensors() | {
        a_half(MODULES[1], "A"): np.ones((6, IN), "<f4"),
        a_half(MODULES[1], "B"): np.ones((OUT, 6), "<f4"),
    }
    config = {"rank_pattern": {"down_proj": 6}, "alpha_pattern": {"1.mlp.down_proj": 3.5},
              "use_rslora": True, "init_lora_weights": "gaussian"}  # fmt: skip
    assert ask(write_adapter(tmp_path / "a", tensors=tensors, config=config)).rank == 6
    assert refusal(tmp_path / "a", max_rank=5).reason == "adapter_rank"


def test_a_rank_that_is_only_claimed_counts_too(tmp_path: Path) -> None:
    """VLLM holds the highest rank of the configuration against its limit, used or not."""
    config = {"r": 64, "rank_pattern": {"q_proj": RANK, "down_proj": RANK}}
    assert refusal(write_adapter(tmp_path / "a", config=config)).reason == "adapter_rank"


@pytest.mark.parametrize("name", ["adapter_model.bin", "tokenizer.json", "x.py", ".hidden", "sub"])
def test_the_set_of_files_is_closed(tmp_path: Path, name: str) -> None:
    folder = write_adapter(tmp_path / "a")
    if name == "sub":
        (folder / name).mkdir()
    else:
        (folder / name).write_bytes(pickle.dumps({}))
    assert refusal(folder).reason == "adapter_files"


@pytest.mark.parametrize("name", ["adapter_config.json", "adapter_model.safetensors"])
def test_a_file_that_is_missing_or_a_link_is_refused(tmp_path: Path, name: str) -> None:
    folder = write_adapter(tmp_path / "a")
    (folder / name).rename(tmp_path / "elsewhere")
    assert refusal(folder).reason == "adapter_files"
    (folder / name).symlink_to(tmp_path / "elsewhere")
    assert refusal(folder).reason == "adapter_files"
    (folder / name).unlink()
    os.mkfifo(folder / name)
    assert refusal(folder).reason == "adapter_files"


def test_a_folder_that_is_not_there_is_refused(tmp_path: Path) -> None:
    assert refusal(tmp_path / "nowhere").reason == "adapter_files"


def test_a_pickle_under_an_honest_name_is_refused(tmp_path: Path) -> None:
    folder = write_adapter(tmp_path / "a")
    (folder / "adapter_model.safetensors").write_bytes(pickle.dumps({"a": 1}, protocol=4))
    assert refusal(folder).reason == "adapter_weights"


@pytest.mark.parametrize("cut", [0, 4, 100, 4096, -1])
def test_a_torn_weights_file_is_refused(tmp_path: Path, cut: int) -> None:
    folder = write_adapter(tmp_path / "a", tensors=adapter_tensors() | {})
    weights = folder / "adapter_model.safetensors"
    weights.write_bytes(weights.read_bytes()[:cut][:1500])
    assert refusal(folder).reason == "adapter_weights"


def test_what_is_too_large_is_not_read(tmp_path: Path) -> None:
    folder = write_adapter(tmp_path / "a")
    with (folder / "adapter_model.safetensors").open("r+b") as file:
        file.truncate(10 << 40)
    assert refusal(folder).reason == "adapter_too_large"
    for limits in (Limits(config=10), Limits(weights=10)):
        assert refusal(write_adapter(tmp_path / "a"), limits=limits).reason == "adapter_too_large"
    assert refusal(folder, limits=Limits(header=10)).reason == "adapter_weights"


@pytest.mark.parametrize(
    "name",
    [
        "base_model.model.model.layers.7.self_attn.q_proj.lora_A.weight",
        "model.layers.0.self_attn.q_proj.lora_A.weight",
        "base_model.model.layers.0.self_attn.q_proj.lora_A.weight",
        "base_model.model.model.layers.0.self_attn.q_proj.lora_A.default.weight",
        "base_model.model.model.layers.0.self_attn.q_proj.lora_magnitude_vector",
        "base_model.model.model.layers.0.self_attn.q_proj.lora_embedding_A",
        "base_model.model.model.layers.0.self_attn.q_proj.lora_C.weight",
        "base_model.model.lm_head.weight",
        "base_model.model.model.embed_tokens.lora_A.weight",
        "",
    ],
)
def test_a_tensor_that_the_base_has_no_place_for_is_refused(tmp_path: Path, name: str) -> None:
    tensors = adapter_tensors()
    tensors[name] = np.ones((RANK, IN), "<f4")
    assert refusal(write_adapter(tmp_path / "a", tensors=tensors)).reason == "adapter_tensors"


def test_a_tensor_of_another_type_is_told_without_what_could_deceive_its_reader(
    tmp_path: Path,
) -> None:
    name = a_half("layers.0\x1b[31m\u202e", "A")
    tensors = adapter_tensors() | {name: np.ones((RANK, IN), "<i8")}
    message = refusal(write_adapter(tmp_path / "a", tensors=tensors)).message
    assert "has the type I64" in message
    assert message.isprintable()


def test_renamed_tensors_do_not_pass_as_an_adapter_without_effect(tmp_path: Path) -> None:
    """VLLM loads such an adapter with 200 and serves the base model."""
    tensors = {
        name.replace("self_attn", "attention"): array for name, array in adapter_tensors().items()
    }
    assert refusal(write_adapter(tmp_path / "a", tensors=tensors)).reason == "adapter_tensors"


def test_half_an_adapter_and_none_are_refused(tmp_path: Path) -> None:
    tensors = adapter_tensors()
    del tensors[a_half(MODULES[0], "B")]
    assert refusal(write_adapter(tmp_path / "a", tensors=tensors)).reason == "adapter_tensors"
    assert refusal(write_adapter(tmp_path / "a", tensors={})).reason == "adapter_tensors"


@pytest.mark.parametrize(
    ("half", "shape"),
    [("A", (RANK, IN + 1)), ("A", (RANK + 1, IN)), ("A", (IN, RANK)), ("A", (RANK * IN,)),
     ("B", (OUT + 1, RANK)), ("B", (RANK, OUT)), ("B", (OUT, RANK, 1)), ("B", (0, RANK))],
)  # fmt: skip
def test_a_shape_that_does_not_fit_the_base_is_refused(
    tmp_path: Path, half: str, shape: tuple[int, ...]
) -> None:
    folder = write_adapter(tmp_path / "a", tensors=changed(**{half: np.ones(shape, "<f4")}))
    assert refusal(folder).reason == "adapter_shape"


def test_an_adapter_of_another_base_is_refused(tmp_path: Path) -> None:
    folder = write_adapter(tmp_path / "a")
    wider = {module: (2 * out, 2 * width) for module, (out, width) in SHAPES.items()}
    with pytest.raises(Rejected) as raised:
        admit(folder, base=wider, max_rank=8)
    assert raised.value.reason == "adapter_shape"


@pytest.mark.parametrize("dtype", ["<f8", "<i8"])
def test_a_type_the_engine_does_not_serve_is_refused(tmp_path: Path, dtype: str) -> None:
    folder = write_adapter(tmp_path / "a", tensors=adapter_tensors(dtype=dtype))
    assert refusal(folder).reason == "adapter_tensors"


@pytest.mark.parametrize("dtype", ["<f4", "<f2", "<u2"])
@pytest.mark.parametrize("half", ["A", "B"])
@pytest.mark.parametrize("bad", ["nan", "inf", "-inf", "large"])
def test_values_that_would_spread_are_refused(
    tmp_path: Path, dtype: str, half: str, bad: str
) -> None:
    tensors = adapter_tensors(dtype=dtype)
    array = tensors[a_half(MODULES[1], half)]
    if dtype == "<u2":
        patterns = {"nan": 0x7FC0, "inf": 0x7F80, "-inf": 0xFF80, "large": 0x4720}
        array[-1, -1] = patterns[bad]
    else:
        array[-1, -1] = 40_960.0 if bad == "large" else float(bad)
    assert refusal(write_adapter(tmp_path / "a", tensors=tensors)).reason == "adapter_values"


def test_an_adapter_without_effect_is_refused(tmp_path: Path) -> None:
    tensors = adapter_tensors()
    for module in MODULES:
        tensors[a_half(module, "B")] = -np.zeros((OUT, RANK), "<f4")
    assert refusal(write_adapter(tmp_path / "a", tensors=tensors)).reason == "adapter_no_effect"
    tensors[a_half(MODULES[0], "B")][3, 2] = 1e-3
    assert ask(write_adapter(tmp_path / "a", tensors=tensors)).rank == RANK
    tensors[a_half(MODULES[0], "A")] = np.zeros((RANK, IN), "<f4")
    assert refusal(write_adapter(tmp_path / "a", tensors=tensors)).reason == "adapter_no_effect"


@pytest.mark.parametrize(
    "config",
    [
        {"peft_type": "ADALORA"}, {"peft_type": "LOHA"}, {"task_type": "SEQ_CLS"},
        {"task_type": None}, {"bias": "all"}, {"bias": "lora_only"}, {"lora_bias": True},
        {"use_dora": True}, {"modules_to_save": ["lm_head"]}, {"fan_in_fan_out": True},
        {"trainable_token_indices": [1]}, {"alora_invocation_tokens": [1]},
        {"layer_replication": [[0, 1]]}, {"use_qalora": True}, {"use_bdlora": {"a": 1}},
        {"kasa_config": {"a": 1}}, {"loftq_config": {"loftq_bits": 4}},
        {"target_parameters": ["experts"]}, {"vllm_lora_scaling_factor": 9.0},
        {"invented_next_year": True},
        {"init_lora_weights": "pissa"}, {"init_lora_weights": "olora"},
        {"init_lora_weights": "pissa_niter_4"}, {"init_lora_weights": 1},
        {"r": 0}, {"r": -4}, {"r": "4"}, {"r": 4.0}, {"r": True}, {"r": 10**9},
        {"lora_alpha": 0}, {"lora_alpha": -1}, {"lora_alpha": 1e9}, {"lora_alpha": "8"},
        {"target_modules": "all-linear"}, {"target_modules": []}, {"target_modules": [".*"]},
        {"target_modules": ["q_proj"]}, {"target_modules": None},
        {"rank_pattern": {"(a+)+$": 4}}, {"rank_pattern": {"^model": 4}},
        {"rank_pattern": {"k_proj": 4}}, {"alpha_pattern": {"k_proj": 4}},
        {"rank_pattern": {"q_proj": True}}, {"alpha_pattern": {"q_proj": 0}},
        {"rank_pattern": []}, {"layers_pattern": "(x"}, {"layers_to_transform": "all"},
    ],
    ids=json.dumps,
)  # fmt: skip
def test_a_configuration_beyond_plain_lora_is_refused(
    tmp_path: Path, config: dict[str, Any]
) -> None:
    assert refusal(write_adapter(tmp_path / "a", config=config)).reason in {
        "adapter_config",
        "adapter_rank",
        "adapter_tensors",
    }


@pytest.mark.parametrize("key", ["peft_type", "task_type", "r", "lora_alpha", "target_modules"])
def test_what_must_be_said_must_be_said(key: str) -> None:
    values = {name: value for name, value in CONFIG.items() if name != key}
    with pytest.raises(Rejected, match=key):
        parse_config(json.dumps(values).encode())


@pytest.mark.parametrize(
    "content",
    [b"", b"null", b"[]", b"{", b"\xff", b'{"r": NaN}', b'{"r": 4, "r": 8}', b"[" * 50_000],
)
def test_a_configuration_that_is_no_object_is_refused(content: bytes) -> None:
    with pytest.raises(Rejected):
        parse_config(content)


@settings(max_examples=100, deadline=None)
@given(
    st.dictionaries(
        st.sampled_from([*CONFIG, *AdapterConfig.model_fields, "x"]),
        st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8)
        | st.lists(st.text(max_size=8), max_size=3)
        | st.dictionaries(st.text(max_size=8), st.integers() | st.text(max_size=3), max_size=3),
    )
)  # fmt: skip
def test_any_configuration_is_read_or_refused(changes: dict[str, Any]) -> None:
    try:
        config = parse_config(json.dumps(CONFIG | changes).encode())
    except Rejected:
        return
    assert parse_config(canonical_config(config)).highest_rank == config.highest_rank


def test_the_canonical_configuration_says_what_decides_answers_and_no_more(tmp_path: Path) -> None:
    config = {"target_modules": ["q_proj", "down_proj"], "alpha_pattern": {"q_proj": 2.5},
              "use_rslora": True, "init_lora_weights": "orthogonal"}  # fmt: skip
    folder = write_adapter(tmp_path / "a", config=config)
    canonicalise(folder, ask(folder))
    written = json.loads((folder / "adapter_config.json").read_text())
    kept = ("r", "lora_alpha", "alpha_pattern", "use_rslora", "peft_type", "task_type")
    assert {key: written[key] for key in kept} == {key: (CONFIG | config)[key] for key in kept}
    assert written["target_modules"] == ["down_proj", "q_proj"]
    assert written["base_model_name_or_path"] is None
    assert not written.keys() & {"auto_mapping", "revision", "peft_version", "loftq_config"}
    first = (folder / "adapter_config.json").read_bytes()
    canonicalise(folder, ask(folder))
    assert (folder / "adapter_config.json").read_bytes() == first


def test_equal_configurations_are_equal_bytes() -> None:
    shuffled = dict(reversed(CONFIG.items())) | {"target_modules": ["down_proj", "q_proj"]}
    one, two = (parse_config(json.dumps(values).encode()) for values in (CONFIG, shuffled))
    assert canonical_config(one) == canonical_config(two)
