"""Says another tool's `adapter_config.json` in the words that admission knows.

PEFT, and what is built on it (Unsloth, Axolotl, LLaMA-Factory, ms-swift), may leave open which
layers an adapter changes: a regular expression, `all-linear`, exclusions. The tensors say it, to
the last layer, so they are asked, against the base; an expression of somebody else's is never run.
What would change an answer and cannot be said so is left as it is, for admission to refuse by name.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from typing import Any

from adapters.admission.adapter_config import names
from adapters.admission.base_model import BaseShapes
from adapters.admission.safetensors_file import Tensor, parse_strict_json
from adapters.errors import Rejected

HARMLESS = frozenset(
    {
        # of ms-swift: how it trained
        "lora_dtype",
        "lorap_emb_lr",
        "lorap_lr_ratio",
        "swift_type",
        # of Unsloth
        "unsloth_fixed",
        # of PEFT: how the first A and B were drawn; what that changes, `init_lora_weights` says
        "corda_config",
        "eva_config",
        "lora_ga_config",
    }
)
"""Keys that say nothing about answers; dropped by name, whatever they say."""
_ALL = "all-linear"
_A = re.compile(r"base_model\.model\.(?P<module>.+)\.lora_A\.weight")
_PLAIN = re.compile(r"[A-Za-z0-9_]+(\.[A-Za-z0-9_]+)*")
_BEFORE = ("(.*\\.)?", "(?:.*\\.)?", ".*\\.", ".*")
"""What pattern keys begin with to say `wherever it stands`."""


@dataclass(frozen=True, kw_only=True)
class Translated:
    """The same configuration in words of ours."""

    content: bytes
    dropped: tuple[str, ...]
    """Names of harmless keys."""


def translate(content: bytes, tensors: Mapping[str, Tensor], base: BaseShapes) -> Translated:
    """Raises Rejected (`adapter_config`) where it cannot be said."""
    try:
        config = parse_strict_json(content)
    except ValueError as error:
        raise _refused("is not proper JSON") from error
    if not isinstance(config, dict):
        raise _refused("is not an object")
    dropped = tuple(sorted(key for key in HARMLESS & config.keys() if config[key]))
    kept = {key: value for key, value in config.items() if key not in HARMLESS}
    if kept.get("task_type") is None:
        kept["task_type"] = "CAUSAL_LM"
    ranks = _ranks(tensors)
    _check_layers(ranks.keys(), base)
    kept |= _targets(kept, ranks.keys(), base)
    kept |= _patterns(kept, ranks)
    return Translated(content=json.dumps(kept).encode(), dropped=dropped)


def _ranks(tensors: Mapping[str, Tensor]) -> dict[str, int]:
    """Module → rank, by the first halves."""
    found = ((_A.fullmatch(name), tensor) for name, tensor in tensors.items())
    return {match["module"]: tensor.shape[0] for match, tensor in found if match and tensor.shape}


def _check_layers(modules: AbstractSet[str], base: BaseShapes) -> None:
    """Before anything is looked for among them: a file may name very many."""
    unknown = sorted(modules - base.keys())
    if unknown:
        raise Rejected(
            f"the base model has no linear layer {unknown[0][:200]!r}", code="adapter_tensors"
        )


def _targets(
    config: Mapping[str, Any], modules: AbstractSet[str], base: BaseShapes
) -> dict[str, Any]:
    """`target_modules` as names, where it is not; what only chose among them goes with that."""
    said = config.get("target_modules")
    is_open = isinstance(said, str) or bool(config.get("exclude_modules"))
    if not is_open or not modules:
        return {}
    if said == _ALL and len(modules) != len(base):
        raise _refused(
            f"says {_ALL!r}, which are {len(base)} layers of this base, and there are tensors for "
            f"{len(modules)}"
        )
    return {
        "target_modules": _shortest(modules, base),
        "exclude_modules": None,
        "layers_to_transform": None,
        "layers_pattern": None,
    }


def _shortest(modules: AbstractSet[str], base: BaseShapes) -> list[str]:
    """Last parts, where they stand for these modules and no other; else the whole names."""
    leaves = {module.rpartition(".")[2] for module in modules}
    covered = {module for module in base if module.rpartition(".")[2] in leaves}
    return sorted(leaves if covered == modules else modules)


def _patterns(config: Mapping[str, Any], ranks: Mapping[str, int]) -> dict[str, Any]:
    """Ranks are what the tensors have; an alpha can only be had from its pattern."""
    changed: dict[str, Any] = {}
    if _has_expressions(config.get("rank_pattern")):
        plain = config.get("r")
        changed["rank_pattern"] = {m: rank for m, rank in sorted(ranks.items()) if rank != plain}
    if _has_expressions(config.get("alpha_pattern")):
        changed["alpha_pattern"] = _alphas(config["alpha_pattern"], ranks.keys())
    return changed


def _has_expressions(patterns: object) -> bool:
    return isinstance(patterns, dict) and not all(map(_PLAIN.fullmatch, patterns))


def _alphas(patterns: Mapping[str, Any], modules: AbstractSet[str]) -> dict[str, Any]:
    """Every module that a pattern names, by its whole name; of several, the first counts."""
    found: dict[str, Any] = {}
    for key, alpha in patterns.items():
        name = _plain_name(key, modules)
        for module in sorted(modules):
            if names(name, module):
                found.setdefault(module, alpha)
    return found


def _plain_name(key: str, modules: AbstractSet[str]) -> str:
    """What a simple expression names. Raises Rejected for any other."""
    text = key.removeprefix("^").removesuffix("$")
    prefix = next((each for each in _BEFORE if text.startswith(each)), "")
    name = text.removeprefix(prefix).replace("\\.", ".")
    partly = prefix == ".*" and any(m.endswith(name) and not names(name, m) for m in modules)
    if not _PLAIN.fullmatch(name) or partly:
        raise _refused(
            "gives alpha_pattern a regular expression that is more than the end of a name; write "
            "the modules' names"
        )
    return name


def _refused(problem: str) -> Rejected:
    return Rejected(f"adapter_config.json {problem}", code="adapter_config")
