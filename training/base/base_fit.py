"""Whether a recipe suits the base model, asked before a minute is spent on training."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from importlib.util import find_spec
from pathlib import Path

from adapters.domain.recipes import Quantization, Recipe, RecipeOverrides
from adapters.errors import InvalidRequest

Shapes = Mapping[str, tuple[int, int]]
"""Module name → (out, in) of every linear layer that an adapter may change."""


def advised(advice: RecipeOverrides, shapes: Shapes) -> RecipeOverrides:
    """The base's advice; a base that fuses or lacks usual layers has all of its own adapted."""
    usual, own = Recipe().target_modules, adaptable(shapes)
    if advice.target_modules is not None or not own or set(usual) <= own:
        return advice
    return advice.model_copy(update={"target_modules": tuple(sorted(own))})


def suited(
    recipe: Recipe,
    shapes: Shapes,
    base: Path,
    *,
    installed: Callable[[str], object] = find_spec,
) -> Recipe:
    """The recipe, once base and trainer are seen to have what it needs.

    Raises InvalidRequest (`invalid_recipe`).
    """
    method = _quantised(base)
    if method:
        raise InvalidRequest(
            f"the base model is quantised ({method}): adapters are trained on the base it was made "
            "from; name that one with WARDROBE_BASE",
            code="invalid_recipe",
        )
    if recipe.quantization is Quantization.NF4 and not installed("bitsandbytes"):
        raise InvalidRequest(
            "the recipe trains on the base in nf4, and this trainer has no bitsandbytes: install "
            "it there (pip install 'wardrobe[qlora]'), or say `quantization: none`",
            param="quantization",
            code="invalid_recipe",
        )
    own = adaptable(shapes)
    lacking = [name for name in recipe.target_modules if name not in own]
    if lacking:
        raise InvalidRequest(
            f"the base model has no {', '.join(lacking)}; `recipe.target_modules` may name "
            f"{', '.join(sorted(own)) or 'nothing of it'}",
            param="target_modules",
            code="invalid_recipe",
        )
    return recipe


def adaptable(shapes: Shapes) -> frozenset[str]:
    """Last names of the layers that can get an adapter."""
    return frozenset(last for name in shapes if (last := adapted_as(name)))


def adapted_as(layer: str) -> str | None:
    """The last name of a layer, by which recipes mean it; experts and their routers get none."""
    last = layer.rpartition(".")[2]
    return None if ".experts." in layer or last in ("gate", "router") else last


def _quantised(base: Path) -> str | None:
    try:
        found = json.loads((base / "config.json").read_text("utf-8"))["quantization_config"]
        return str(found.get("quant_method", "in a way it does not name"))
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None
