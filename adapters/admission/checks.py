"""Checks an adapter directory before the store or the engine sees it.

The engine is shared by every unit and believes what it loads: tensors under names the base does
not have are served as if there were no adapter, NaN spreads into answers, a pickle is code. So
the set of files is closed, the configuration is parsed by our own allow-list, and every tensor
must have its place, its shape and finite values.
"""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from adapters.admission.adapter_config import AdapterConfig, canonical_config, names, parse_config
from adapters.admission.base_model import BaseShapes
from adapters.admission.manifest import MANIFEST_FILE
from adapters.admission.safetensors_file import (
    MAX_HEADER_BYTES,
    Tensor,
    largest_magnitude,
    read_header,
)
from adapters.errors import Rejected

CONFIG_FILE = "adapter_config.json"
WEIGHTS_FILE = "adapter_model.safetensors"
_TENSOR = re.compile(r"base_model\.model\.(?P<module>.+)\.lora_(?P<half>[AB])\.weight")
_DTYPES = frozenset({"F32", "F16", "BF16"})


@dataclass(frozen=True, kw_only=True)
class Limits:
    """How large things may be; all but the last in bytes."""

    weights: int = 4 << 30
    config: int = 64 << 10
    text: int = 1 << 20
    """README.md and manifest.json."""
    header: int = MAX_HEADER_BYTES
    magnitude: float = 1e4
    """Of any one value: trained adapters stay below 10, and bf16 sums overflow long before inf."""


@dataclass(frozen=True, kw_only=True)
class Admitted:
    """What was found out about an adapter on the way."""

    config: AdapterConfig
    rank: int
    """The highest of any module."""
    size_bytes: int


def admit(
    directory: Path, *, base: BaseShapes, max_rank: int, limits: Limits | None = None
) -> Admitted:
    """Checks an adapter against the base it is for. Raises Rejected with the first reason found."""
    limits = limits or Limits()
    size = _check_files(directory, limits)
    config = parse_config((directory / CONFIG_FILE).read_bytes())
    rank = config.highest_rank
    if rank > max_rank:
        raise _no(f"rank {rank} is higher than the {max_rank} the service serves", "adapter_rank")
    weights = directory / WEIGHTS_FILE
    pairs = _pairs(read_header(weights, max_header_bytes=limits.header))
    for module, pair in pairs.items():
        _check_shapes(module, pair, config, base)
    _check_patterns(config, pairs)
    _check_values(weights, pairs, limits)
    return Admitted(config=config, rank=rank, size_bytes=size)


def canonicalise(directory: Path, admitted: Admitted) -> None:
    """Rewrites the configuration of an admitted directory as it is to be published."""
    (directory / CONFIG_FILE).write_bytes(canonical_config(admitted.config))


@dataclass(frozen=True, kw_only=True)
class _Pair:
    """The two halves of one module's adapter: its delta is `b @ a`."""

    a: Tensor
    b: Tensor


def _check_files(directory: Path, limits: Limits) -> int:
    """The size of all files, which are the allowed ones, regular, and not too large."""
    allowed = {
        CONFIG_FILE: limits.config,
        WEIGHTS_FILE: limits.weights,
        "README.md": limits.text,
        MANIFEST_FILE: limits.text,
    }
    total, present = 0, set()
    for name, seen in _files(directory):
        if name not in allowed:
            raise _no(f"{name[:100]!r} does not belong into an adapter", "adapter_files")
        if not stat.S_ISREG(seen.st_mode):
            raise _no(f"{name} is not a regular file", "adapter_files")
        if seen.st_size > allowed[name]:
            raise _no(f"{name} is larger than {allowed[name]} bytes", "adapter_too_large")
        total += seen.st_size
        present.add(name)
    for name in (CONFIG_FILE, WEIGHTS_FILE):
        if name not in present:
            raise _no(f"{name} is missing", "adapter_files")
    return total


def _files(directory: Path) -> Iterator[tuple[str, os.stat_result]]:
    try:
        for path in sorted(directory.iterdir()):
            yield path.name, path.lstat()
    except OSError as error:
        raise _no("the adapter directory cannot be read", "adapter_files") from error


def _pairs(tensors: Mapping[str, Tensor]) -> dict[str, _Pair]:
    halves: dict[str, dict[str, Tensor]] = {}
    for name, tensor in tensors.items():
        match = _TENSOR.fullmatch(name)
        if match is None:
            raise _no(f"{name[:200]!r} is no tensor of a LoRA on linear layers", "adapter_tensors")
        if tensor.dtype not in _DTYPES:
            raise _no(f"{name[:200]!r} has the type {tensor.dtype}", "adapter_tensors")
        halves.setdefault(match["module"], {})[match["half"]] = tensor
    for module, found in halves.items():
        if found.keys() != {"A", "B"}:
            raise _no(f"{module[:200]} has one half of an adapter only", "adapter_tensors")
    if not halves:
        raise _no("there are no tensors", "adapter_tensors")
    return {module: _Pair(a=found["A"], b=found["B"]) for module, found in halves.items()}


def _check_shapes(module: str, pair: _Pair, config: AdapterConfig, base: BaseShapes) -> None:
    """The base has the module, A is (rank, in) and B is (out, rank)."""
    if module not in base:
        raise _no(f"the base model has no linear layer {module[:200]!r}", "adapter_tensors")
    if not config.targets(module):
        raise _no(f"{module} is not among the target_modules", "adapter_tensors")
    out_features, in_features = base[module]
    rank = config.rank_of(module)
    for half, shape, fits in (
        ("A", pair.a.shape, (rank, in_features)),
        ("B", pair.b.shape, (out_features, rank)),
    ):
        if shape != fits:
            raise _no(f"{module}.lora_{half} is {list(shape)}, not {list(fits)}", "adapter_shape")


def _check_patterns(config: AdapterConfig, pairs: Mapping[str, _Pair]) -> None:
    for pattern in (*config.rank_pattern, *config.alpha_pattern):
        if not any(names(pattern, module) for module in pairs):
            raise _no(f"the pattern {pattern!r} names no module here", "adapter_config")


def _check_values(weights: Path, pairs: Mapping[str, _Pair], limits: Limits) -> None:
    effect = False
    for module, pair in pairs.items():
        a, b = (largest_magnitude(weights, half) for half in (pair.a, pair.b))
        if not (a < float("inf") and b < float("inf")):
            raise _no(f"{module} has values that are not finite", "adapter_values")
        if max(a, b) > limits.magnitude:
            raise _no(f"{module} has values beyond {limits.magnitude:g}", "adapter_values")
        effect = effect or (a > 0.0 and b > 0.0)
    if not effect:
        raise _no("every delta is zero: it would answer as the base does", "adapter_no_effect")


def _no(reason: str, code: str) -> Rejected:
    return Rejected(reason, code=code)
