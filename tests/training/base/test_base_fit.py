"""A recipe is held against the base before training."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from adapters.domain.recipes import Quantization, Recipe, RecipeOverrides
from adapters.errors import InvalidRequest
from training.base.base_fit import advised, suited

USUAL = {f"model.layers.0.x.{name}": (8, 8) for name in Recipe().target_modules}
FUSED = {
    f"model.layers.0.x.{name}": (8, 8)
    for name in ("qkv_proj", "o_proj", "gate_up_proj", "down_proj")
}
EXPERTS = {
    "model.layers.0.self_attn.q_proj": (8, 8),
    "model.layers.0.mlp.gate": (4, 8),
    "model.layers.0.mlp.experts.0.up_proj": (8, 8),
}


def test_a_usual_base_keeps_the_usual_modules() -> None:
    assert advised(RecipeOverrides(), USUAL) == RecipeOverrides()


def test_a_base_that_fuses_layers_has_its_own_adapted() -> None:
    advice = advised(RecipeOverrides(), FUSED)
    assert advice.target_modules == ("down_proj", "gate_up_proj", "o_proj", "qkv_proj")
    assert advised(RecipeOverrides(), EXPERTS).target_modules == ("q_proj",)


def test_what_the_bases_own_recipe_says_stays() -> None:
    said = RecipeOverrides(target_modules=("o_proj",))
    assert advised(said, FUSED) == said


def test_a_module_that_the_base_lacks_is_refused_by_name(tmp_path: Path) -> None:
    with pytest.raises(InvalidRequest, match="has no q_proj, k_proj") as caught:
        suited(Recipe(target_modules=("q_proj", "k_proj", "o_proj")), FUSED, tmp_path)
    assert (caught.value.reason, caught.value.param) == ("invalid_recipe", "target_modules")
    assert suited(Recipe(), USUAL, tmp_path) == Recipe()


def test_a_quantised_base_is_refused(tmp_path: Path) -> None:
    values = {"quantization_config": {"quant_method": "awq"}}
    (tmp_path / "config.json").write_text(json.dumps(values))
    with pytest.raises(InvalidRequest, match=r"quantised \(awq\)"):
        suited(Recipe(), USUAL, tmp_path)


def test_nf4_without_bitsandbytes_is_refused_before_training_and_names_the_extra(
    tmp_path: Path,
) -> None:
    recipe = Recipe(quantization=Quantization.NF4)
    with pytest.raises(InvalidRequest, match=r"pip install 'wardrobe\[qlora\]'") as caught:
        suited(recipe, USUAL, tmp_path, installed=lambda package: package != "bitsandbytes")
    assert (caught.value.reason, caught.value.param) == ("invalid_recipe", "quantization")
    assert suited(recipe, USUAL, tmp_path, installed=lambda _: True) == recipe
    assert suited(Recipe(), USUAL, tmp_path, installed=lambda _: False) == Recipe()


def test_nf4_is_no_way_around_a_base_that_is_already_quantised(tmp_path: Path) -> None:
    values = {"quantization_config": {"quant_method": "bitsandbytes"}}
    (tmp_path / "config.json").write_text(json.dumps(values))
    with pytest.raises(InvalidRequest, match=r"quantised \(bitsandbytes\)"):
        suited(Recipe(quantization=Quantization.NF4), USUAL, tmp_path, installed=lambda _: True)
