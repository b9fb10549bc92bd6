"""How a run uses its device: decided from what was measured, before a step is taken.

Every choice here changes speed and memory alone. The gradient of a step is the same whatever the
micro-batch, because its loss is divided by the learnt tokens of the whole step.

The sizes are estimates for a decoder with LoRA on all linear layers. They choose where to begin:
whether it fits is decided by a dry step, and by `smaller` where that one runs out of memory.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any, Literal

from adapters.domain.recipes import Quantization
from adapters.errors import WardrobeError
from training.base.precision import Precision

SHORT = 256
"""Tokens up to which attention by plain matrix products is faster on a CPU: the fused kernel's
backward pass made a step on the embedded base half as long again. Beyond, it saves memory."""
LOGITS = 512 << 20
"""Bytes that the logits of one chunk, their softmax and its gradient may take together."""
BUSY = 2048
"""Tokens in a micro-batch that keep a device busy: smaller ones cost more than the third that
gradient checkpointing adds."""
SHARE = 0.9
"""Of the free memory; the rest is the allocator's and the kernels' own."""
_GIB = 1 << 30
_BYTES = {Precision.FLOAT32: 4, Precision.BFLOAT16: 2}
_NF4_BYTES = 1 / 2 + 1 / 64 + 4 / (64 * 256)
"""Of a weight in NF4: four bits, a byte for each 64 of them to scale by, and a float32 for each 256
of those (QLoRA, arXiv 2305.14314, "double quantization")."""


class OutOfMemory(WardrobeError):
    """Training does not fit into the device's memory, even one row at a time."""

    code = "out_of_memory"


@dataclass(frozen=True, kw_only=True)
class BaseSize:
    """What of a base decides about memory, in numbers."""

    parameters: int
    quantisable: int
    """Of the parameters: those of linear layers but the head, which NF4 holds in four bits."""
    adapter: int
    """Of the adapter to be trained."""
    layers: int
    hidden: int
    feed_forward: int
    heads: int
    vocabulary: int


@dataclass(frozen=True, kw_only=True)
class Rows:
    """What is trained on: rows in a step, tokens of the longest, most learnt tokens of one."""

    in_step: int
    longest: int
    learnt: int


@dataclass(frozen=True, kw_only=True)
class Device:
    """Where it is trained. `free` is in bytes, beside whatever else uses the device now."""

    kind: Literal["cpu", "cuda"]
    free: int
    threads: int
    count: int = 1
    """Devices of this kind for one job; `free` and `threads` are of each."""


@dataclass(frozen=True, kw_only=True)
class Devices:
    """The devices that a job may use: the owner's choice, never a recipe's."""

    count: int = 1
    slot: int = 0
    """Which of the jobs that run at once it is, from 0."""
    gpu_share: float = 1.0
    """Of a GPU's memory, the most that the job's process on it may have."""

    def among(self, there: int) -> list[int]:
        """Which of the GPUs that are `there`: no other slot's, as long as there are enough."""
        return [(self.slot * self.count + at) % there for at in range(min(self.count, there))]


ONE = Devices()


@dataclass(frozen=True, kw_only=True)
class DevicePlan:
    """How the steps of a run are computed; kept with the version as evidence."""

    device: Literal["cpu", "cuda"]
    precision: Precision
    batch: int
    """Rows in a step."""
    micro_batch: int
    """Rows in one forward and backward pass."""
    attention: Literal["eager", "sdpa"]
    gradient_checkpointing: bool
    loss_chunk: int
    """Learnt tokens whose logits are in memory at once, in training and in evaluation."""
    threads: int
    quantization: Quantization = Quantization.NONE
    """How the base is held."""
    devices: int = 1
    """That share the rows of a step; each has the base, in a process of its own."""

    @property
    def accumulation(self) -> int:
        """Passes in a step, on each device."""
        return -(-self.rows_of_one // self.micro_batch)

    @property
    def rows_of_one(self) -> int:
        """Of the rows in a step, the most that one device gets."""
        return -(-self.batch // self.devices)

    @property
    def is_quantised(self) -> bool:
        return self.quantization is not Quantization.NONE

    def as_text(self) -> str:
        """For people."""
        threads = "1 thread" if self.threads == 1 else f"{self.threads} threads"
        where = "the GPU" if self.device == "cuda" else f"{threads} of the CPU"
        if self.devices > 1:
            here = "GPUs" if self.device == "cuda" else f"processes on {threads} each of the CPU"
            where = f"{self.devices} {here}"
        rows = "1 row" if self.micro_batch == 1 else f"{self.micro_batch} rows"
        on_each = "" if self.devices == 1 else " on each"
        passes = "" if self.accumulation == 1 else f", {self.accumulation} passes a step"
        recomputed = ", activations computed twice" if self.gradient_checkpointing else ""
        held = f", the base in {self.quantization}" if self.is_quantised else ""
        return f"{where} in {self.precision}{held}, {rows} at once{on_each}{passes}{recomputed}"


@dataclass(frozen=True, kw_only=True)
class Estimate:
    """What a run will take if it goes to its end, by the speed of a dry step."""

    steps: int
    tokens: int
    """Read in training, without the validation rows."""
    seconds: float


@dataclass(frozen=True, kw_only=True)
class Needs:
    """Bytes that a plan is expected to take."""

    base: int
    adapter: int
    """Weights, gradients and both moments of the optimizer, in float32; where several devices
    exchange weights and gradients, a copy of each."""
    activations: int
    logits: int

    @property
    def total(self) -> int:
        return self.base + self.adapter + self.activations + self.logits

    def as_text(self) -> str:
        return (
            f"{_size(self.total)} (base {_size(self.base)}, adapter with optimizer "
            f"{_size(self.adapter)}, activations {_size(self.activations)}, logits "
            f"{_size(self.logits)})"
        )


def plan_device(
    base: BaseSize,
    rows: Rows,
    device: Device,
    precision: Precision,
    *,
    quantization: Quantization = Quantization.NONE,
) -> DevicePlan:
    """The fastest plan that is expected to fit. Raises OutOfMemory with the arithmetic."""
    room = int(device.free * SHARE)
    plans = _fastest_first(base, rows, device, precision)
    for plan in (replace(each, quantization=quantization) for each in plans):
        if needs(plan, base, rows).total <= room:
            return plan
    raise does_not_fit(plan, base, rows, device)


def needs(plan: DevicePlan, base: BaseSize, rows: Rows) -> Needs:
    """What `plan` is expected to take for the longest rows."""
    size = _BYTES[plan.precision]
    tokens = plan.micro_batch * rows.longest
    # a layer keeps its norms in float32, its projections, and the feed-forward's four products
    layer = tokens * (16 * base.hidden + 5 * base.feed_forward) * size
    if plan.attention == "eager":
        layer += plan.micro_batch * base.heads * rows.longest**2 * (size + 4)
    kept = tokens * base.hidden * size
    layers = base.layers * kept + layer if plan.gradient_checkpointing else base.layers * layer
    chunk = min(plan.loss_chunk, plan.micro_batch * rows.learnt)
    return Needs(
        base=_held(plan, base),
        adapter=base.adapter * 4 * (4 if plan.devices == 1 else 6),
        activations=layers,
        logits=chunk * _logits_of_token(base.vocabulary),
    )


def devices_for(rows: Rows, device: Device) -> int:
    """How many of the devices a step uses: none is left without a row."""
    return min(device.count, rows.in_step)


def smaller(plan: DevicePlan) -> DevicePlan | None:
    """What to try after `plan` ran out of memory; None where nothing is left."""
    if plan.micro_batch > 1:
        return replace(plan, micro_batch=plan.micro_batch // 2)
    if not plan.gradient_checkpointing:
        return replace(plan, gradient_checkpointing=True)
    return None


def does_not_fit(plan: DevicePlan, base: BaseSize, rows: Rows, device: Device) -> OutOfMemory:
    """The arithmetic of `plan`, the smallest one, for whoever must make room."""
    where = "GPU" if device.kind == "cuda" else "machine"
    quantise = "" if plan.is_quantised else "hold the base in four bits (`quantization: nf4`), "
    return OutOfMemory(
        f"this {where} has too little memory to train the base: one row of {rows.longest} tokens "
        f"at a time takes about {needs(plan, base, rows).as_text()}; {_size(device.free)} were "
        f"free, of which {SHARE:.0%} may be used; give the engine a smaller share, {quantise}"
        "shorten the examples, or take a smaller base"
    )


def plan_from_json(values: dict[str, Any]) -> DevicePlan:
    """What `dataclasses.asdict` made of a plan."""
    quantization = Quantization(values.get("quantization", Quantization.NONE))
    precision = Precision(values["precision"])
    return DevicePlan(**{**values, "precision": precision, "quantization": quantization})


def _fastest_first(
    base: BaseSize, rows: Rows, device: Device, precision: Precision
) -> Iterator[DevicePlan]:
    short = device.kind == "cpu" and rows.longest <= SHORT
    devices = devices_for(rows, device)
    whole = DevicePlan(
        device=device.kind,
        precision=precision,
        batch=rows.in_step,
        micro_batch=-(-rows.in_step // devices),
        attention="eager" if short else "sdpa",
        gradient_checkpointing=False,
        loss_chunk=max(1, LOGITS // _logits_of_token(base.vocabulary)),
        threads=device.threads,
        devices=devices,
    )
    for plan in _halved(whole):
        if plan is whole or plan.micro_batch * rows.longest >= BUSY:
            yield plan
    yield from _halved(replace(whole, gradient_checkpointing=True))


def _held(plan: DevicePlan, base: BaseSize) -> int:
    """Bytes of the base; of a quantised one, with the layer that is computed with just now."""
    size = _BYTES[plan.precision]
    if not plan.is_quantised:
        return base.parameters * size
    in_whole = (base.parameters - base.quantisable + base.hidden * base.feed_forward) * size
    return in_whole + int(base.quantisable * _NF4_BYTES)


def _halved(plan: DevicePlan) -> Iterator[DevicePlan]:
    yield plan
    while plan.micro_batch > 1:
        plan = replace(plan, micro_batch=plan.micro_batch // 2)
        yield plan


def _logits_of_token(vocabulary: int) -> int:
    """Bytes: logits, their softmax and its gradient in float32."""
    return vocabulary * 4 * 3


def _size(size: int) -> str:
    return f"{size / _GIB:.1f} GiB" if size >= _GIB / 10 else f"{size / (1 << 20):.1f} MiB"
