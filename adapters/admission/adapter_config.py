"""Checks `adapter_config.json`: of what PEFT writes, only what the service can honour passes.

Every key is either served as written, or must be off, or says nothing about answers and is
dropped. A key nobody here knows must be off too: it may be next year's way to change an answer.
"""

from __future__ import annotations

import json
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from adapters.admission.safetensors_file import parse_strict_json
from adapters.errors import Rejected

_MODULE = r"^[A-Za-z0-9_]+(\.[A-Za-z0-9_]+)*$"
"""Plain names only: PEFT and vLLM run these as regular expressions."""

ModuleName = Annotated[str, Field(pattern=_MODULE, max_length=200)]
Rank = Annotated[int, Field(ge=1, le=512)]
Alpha = (
    Annotated[int, Field(gt=0, le=65536)]
    | Annotated[float, Field(gt=0.0, le=65536.0, allow_inf_nan=False)]
)

_DROPPED = frozenset(
    {
        "auto_mapping",
        "base_model_name_or_path",
        "exclude_modules",
        "inference_mode",
        "lora_dropout",
        "megatron_core",
        "peft_version",
        "qalora_group_size",
        "revision",
        "runtime_config",
    }
)


class AdapterConfig(BaseModel):
    """The part of PEFT's LoraConfig that decides an answer."""

    model_config = ConfigDict(frozen=True, strict=True, extra="forbid")

    peft_type: Literal["LORA"]
    task_type: Literal["CAUSAL_LM"]
    r: Rank
    lora_alpha: Alpha
    target_modules: list[ModuleName] = Field(min_length=1, max_length=4096)
    use_rslora: bool = False
    rank_pattern: dict[ModuleName, Rank] = Field(default_factory=dict, max_length=4096)
    alpha_pattern: dict[ModuleName, Alpha] = Field(default_factory=dict, max_length=4096)
    layers_to_transform: list[int] | int | None = None
    layers_pattern: list[ModuleName] | ModuleName | None = None
    bias: Literal["none"] = "none"
    fan_in_fan_out: Literal[False] = False
    # Ways to draw the first A and B; others (PiSSA, OLoRA, LoftQ, …) change the base's weights.
    init_lora_weights: bool | Literal["gaussian", "orthogonal", "mica"] = True

    @property
    def highest_rank(self) -> int:
        """What vLLM holds against its `max_lora_rank`: ranks given, used or not."""
        return max(self.r, *self.rank_pattern.values(), 0)

    def rank_of(self, module: str) -> int:
        """The rank of one module: the first matching pattern's, as PEFT has it, or `r`."""
        return next((rank for key, rank in self.rank_pattern.items() if names(key, module)), self.r)

    def targets(self, module: str) -> bool:
        """Whether `module` is one that this configuration adapts."""
        return any(names(target, module) for target in self.target_modules)


def names(pattern: str, module: str) -> bool:
    """Whether `pattern` is the module's name or its end after a dot."""
    return module == pattern or module.endswith(f".{pattern}")


def parse_config(content: bytes) -> AdapterConfig:
    """Reads an `adapter_config.json`. Raises Rejected with the field at fault."""
    try:
        values = parse_strict_json(content)
    except ValueError as error:
        raise _refused("is not proper JSON") from error
    if not isinstance(values, dict):
        raise _refused("is not an object")
    known = AdapterConfig.model_fields.keys()
    for key in sorted(values.keys() - known - _DROPPED):
        if values[key]:
            raise _refused(f"sets {key[:100]!r}, which the service does not support")
    kept = {key: value for key, value in values.items() if key in known}
    for key in ("rank_pattern", "alpha_pattern", "use_rslora", "fan_in_fan_out"):
        if kept.get(key, ...) is None:
            del kept[key]
    try:
        return AdapterConfig.model_validate(kept)
    except ValidationError as error:
        # The first part of a fault's place is the field; the rest may quote the adapter.
        field = error.errors(include_input=False, include_url=False)[0]["loc"][0]
        raise _refused(f"lacks {field} or gives it an unsupported value") from error


def canonical_config(config: AdapterConfig) -> bytes:
    """The configuration as it is published: the same answers, nothing else, one spelling.

    The starting values of training are of no more use, so the init is the plain one.
    """
    values: dict[str, Any] = config.model_dump(mode="json", exclude={"init_lora_weights"})
    values |= {
        "base_model_name_or_path": None,
        "inference_mode": True,
        "init_lora_weights": True,
        "lora_dropout": 0.0,
        "target_modules": sorted(config.target_modules),
    }
    return (json.dumps(values, indent=2, sort_keys=True) + "\n").encode("ascii")


def _refused(problem: str) -> Rejected:
    return Rejected(f"adapter_config.json {problem}", code="adapter_config")
